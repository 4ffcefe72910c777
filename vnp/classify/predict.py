"""Scoring a store with a classifier: one folder of tables per sample, and a summary of them all.

The store is read once, a block at a time, so memory does not grow with it. Only rows certified for
every model of the feature are scored; the others are named in a table and make the run incomplete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from store.errors import UsageError
from store.io.ragged import Ragged
from store.io.replace import write_whole
from store.read.view import View
from store.schema import COLUMN_CHUNK_ROWS, Sample
from store.store import Store
from vnp.classify.calls import Contig, Contigs, RecordScores, Window, Windows
from vnp.classify.features import Scores, choose_models, filled_of_blocks, score_rows
from vnp.classify.files import Classifier
from vnp.classify.tables import SampleTables
from vnp.embed.progress import Progress
from vnp.sequence.segments import described

SAMPLES = "samples.tsv"
REPORT = "predict.json"


@dataclass(frozen=True, slots=True)
class SampleCalls:
    """What became of one sample."""

    sample: str  # its name
    records: int  # rows
    scored: int  # of these, scored
    unscored: int  # of these, not certified for every model
    windows: int  # windows with a call
    viral_windows: int  # of these, viral
    contigs: int  # contigs with a call
    viral_contigs: int  # of these, at least half of whose windows are viral
    mean_score: float | None  # mean over windows of their highest score2; None without a window
    best_score: float | None  # highest score2
    folder: str  # where its tables are


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a prediction ended."""

    store: str
    classifier: str  # the file
    digest: str  # hash of its tensors
    models: tuple[str, ...]  # bands of the feature row, left to right
    samples: tuple[SampleCalls, ...]

    @property
    def unscored(self) -> int:
        """Rows that could not be scored."""
        return sum(sample.unscored for sample in self.samples)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "unscored": self.unscored, "complete": not self.unscored}


Sink = Callable[[Scores], None]  # told the scores of every row, in row order within a sample


def predict(
    store: Store,
    classifier: Classifier,
    output: Path,
    *,
    samples: Sequence[str] = (),
    models: Sequence[str] = (),
    device: torch.device,
    say: Callable[[str], None],
    sink: Sink | None = None,
) -> Prediction:
    """Score samples of a store and write their tables under ``output``.

    Parameters
    ----------
    store
        The store; read at the commit it holds.
    classifier
        The classifier.
    output
        Folder; each sample gets one in it, named after the sample.
    samples, models
        Which; by default all samples, and the models that fit the classifier.
    device
        Where the classifier runs.
    say
        Told what a user should know.
    sink
        Given every score, for saving.

    Raises
    ------
    UsageError
        If there is no such sample or model, or their widths do not fit the classifier.
    DamageError
        If certified rows cannot be read; ``vnp verify`` names what is wrong.
    """
    chosen = choose_models(store, classifier.card, models)
    _warn(store, classifier, chosen, say)
    wanted = _samples(store, samples)
    view = store.merged(chosen, verify=True)
    classifier.module.to(device)
    calls = []
    total = sum(sample.stop - sample.start for sample in wanted)
    with Progress("predict", total=total, unit="records") as progress:
        done = 0
        progress.update(done)
        for sample in wanted:
            folder = output / sample.name
            with SampleTables(folder) as tables:
                run = _Sample(store, view, tables)
                for scores in score_rows(
                    view,
                    classifier.module,
                    device=device,
                    start=sample.start,
                    stop=sample.stop,
                    chunk=COLUMN_CHUNK_ROWS,
                ):
                    run.add(scores)
                    if sink is not None:
                        sink(scores)
                    done += len(scores)
                    progress.update(done)
                run.end()
            calls.append(run.report(sample, folder))
    result = Prediction(
        store=str(store.path),
        classifier=str(classifier.path),
        digest=classifier.card.digest,
        models=chosen,
        samples=tuple(calls),
    )
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / SAMPLES, _samples_tsv(result).encode())
    write_whole(output / REPORT, (json.dumps(result.to_json(), indent=1) + "\n").encode())
    return result


def _warn(
    store: Store, classifier: Classifier, chosen: tuple[str, ...], say: Callable[[str], None]
) -> None:
    """Tell of what fits in numbers but perhaps not in meaning."""
    card = classifier.card
    trained_on = tuple(name for name, _ in card.models)
    if trained_on and trained_on != chosen:
        say(
            f"{classifier.path.name} was trained on {' + '.join(trained_on)}, and is applied to "
            f"{' + '.join(chosen)}"
        )
    length = store.schema.segment_length
    if card.segment_length is not None and card.segment_length != length:
        say(
            f"{classifier.path.name} was trained on {described(card.segment_length)}, and the "
            f"store holds {described(length)}"
        )


def _samples(store: Store, names: Sequence[str]) -> tuple[Sample, ...]:
    if not names:
        return store.schema.samples
    found = []
    for name in dict.fromkeys(names):
        sample = store.schema.sample(name)
        if sample is None:
            known = ", ".join(sample.name for sample in store.schema.samples[:10]) or "none"
            raise UsageError(f"the store has no sample {name!r} (it has: {known})")
        found.append(sample)
    return tuple(found)


class _Sample:
    """Turns the scores of one sample into tables and counts."""

    def __init__(self, store: Store, view: View, tables: SampleTables) -> None:
        self._store = store
        self._filled = {
            model.name: filled_of_blocks(store.merged([model.name])) for model in view.models
        }
        self._tables = tables
        self._windows, self._contigs = Windows(), Contigs()
        self.scored = 0
        self.windows = self.viral_windows = 0
        self.contigs = self.viral_contigs = 0
        self.total = self.best = 0.0

    def add(self, scores: Scores) -> None:
        """Take the scores of the next rows."""
        start, stop = scores.first, scores.first + len(scores)
        rows = RecordScores(
            id=self._strings("id", start, stop),
            contig=self._strings("contig", start, stop),
            segment=self._numbers("segment", start, stop),
            start=self._numbers("start", start, stop),
            end=self._numbers("end", start, stop),
            scores=scores.values,
        )
        without = start + np.flatnonzero(np.isnan(scores.values[:, 1]))
        self.scored += len(scores) - len(without)
        self._tables.records(rows)
        for row in without.tolist():
            self._tables.unscored_record(rows.id[row - start], row, self._missing(row))
        for window in self._windows.add(rows):
            self._window(window)

    def end(self) -> None:
        """Call what is still open, and give the tables their names."""
        for window in self._windows.end():
            self._window(window)
        for contig in self._contigs.end():
            self._contig(contig)
        self._tables.publish()

    def report(self, sample: Sample, folder: Path) -> SampleCalls:
        """Return the counts."""
        records = sample.stop - sample.start
        return SampleCalls(
            sample=sample.name,
            records=records,
            scored=self.scored,
            unscored=records - self.scored,
            windows=self.windows,
            viral_windows=self.viral_windows,
            contigs=self.contigs,
            viral_contigs=self.viral_contigs,
            mean_score=self.total / self.windows if self.windows else None,
            best_score=self.best if self.windows else None,
            folder=str(folder),
        )

    def _window(self, window: Window) -> None:
        self._tables.window(window)
        self.windows += 1
        self.viral_windows += window.is_virus
        self.total += window.score2
        self.best = max(self.best, window.score2)
        for contig in self._contigs.add(window):
            self._contig(contig)

    def _contig(self, contig: Contig) -> None:
        self._tables.contig(contig)
        self.contigs += 1
        self.viral_contigs += contig.is_virus

    def _missing(self, row: int) -> list[str]:
        """Models that a row is not certified for."""
        block, within = divmod(row, self._store.schema.block_rows)
        return [model for model, filled in self._filled.items() if within >= filled[block]]

    def _strings(self, name: str, start: int, stop: int) -> list[bytes]:
        column = self._store.column(name, start, stop)
        assert isinstance(column, Ragged)
        return column.tolist()

    def _numbers(self, name: str, start: int, stop: int) -> NDArray[Any]:
        column = self._store.column(name, start, stop)
        assert not isinstance(column, Ragged)
        return column


def _samples_tsv(result: Prediction) -> str:
    lines = [
        "sample\trecords\tscored\tunscored\tsegments\tviral_segments\tcontigs\tviral_contigs\t"
        "mean_score\tbest_score"
    ]
    lines += [
        f"{calls.sample}\t{calls.records}\t{calls.scored}\t{calls.unscored}\t{calls.windows}\t"
        f"{calls.viral_windows}\t{calls.contigs}\t{calls.viral_contigs}\t"
        f"{_number(calls.mean_score)}\t{_number(calls.best_score)}"
        for calls in result.samples
    ]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
