"""Scoring a store with a classifier: one folder of tables per sample, and a summary of them all.

The store is read once, a block at a time, so memory does not grow with it. Only rows certified for
every model of the feature are scored; the others are named in a table and make the run incomplete.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from store.io.files import mapped_file
from store.io.replace import write_whole
from store.schema import Sample
from store.schema import Scores as KeptScores
from store.store import Store
from vnp.classify.call_files import (
    REPORT,
    SAMPLES,
    CallFiles,
    CallWriter,
    Written,
    call_writer,
    own_tables,
    tables_folder,
)
from vnp.classify.calls import Counts, RecordScores, call_contigs
from vnp.classify.features import choose_models, score_rows
from vnp.classify.files import Classifier
from vnp.classify.regions import RegionRule, regions_of
from vnp.classify.scores import Scores, with_records
from vnp.classify.tables import SampleTables, sample_tables
from vnp.cycles import seldom_searched
from vnp.embed.progress import Progress
from vnp.models.registry import demo_warning
from vnp.sequence.genetic_codes import translate_alike
from vnp.sequence.segments import described

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SampleCalls:
    """What became of one sample."""

    sample: str  # its name
    records: int  # rows
    scored: int  # of these, scored
    unscored: int  # of these, not certified for every model
    segments: int  # segments with a call
    viral_segments: int  # of these, viral
    contigs: int  # contigs with a call
    viral_contigs: int  # of these, at least half of whose segments are viral
    regions: int  # viral regions
    mean_score2: float | None  # mean over segments of their highest one; None without one
    best_score2: float | None  # highest one
    folder: str  # where its tables are


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a prediction ended."""

    store: str
    classifier: str  # the file
    digest: str  # hash of its tensors
    models: tuple[str, ...]  # bands of the feature row, left to right
    samples: tuple[SampleCalls, ...]
    warning: str  # what a reader of the calls must know first: demo models; empty if nothing
    rule: RegionRule  # what made the regions
    written: Written  # what went into the files beside the tables

    @property
    def unscored(self) -> int:
        """Rows that could not be scored."""
        return sum(sample.unscored for sample in self.samples)

    @property
    def complete(self) -> bool:
        """Whether every row was scored and every viral contig that was asked for written."""
        return not self.unscored and not self.written.missing

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "unscored": self.unscored, "complete": self.complete}


def predict(
    store: Store,
    classifier: Classifier,
    output: Path | None = None,
    *,
    samples: Sequence[str] = (),
    models: Sequence[str] = (),
    device: torch.device,
    save: str | None = None,
    replace: bool = False,
    rule: RegionRule | None = None,
    files: CallFiles | None = None,
    inputs: Sequence[Path] = (),
) -> Prediction:
    """Score samples of a store, by default all, and write their tables under ``output``.

    Parameters
    ----------
    output
        Folder; each sample gets one in it, named after the sample. By default it lies beside the
        store.
    models
        By default those that fit the classifier.
    save, replace
        Name under which the store keeps the scores, if at all; whether scores of another classifier
        under that name are dropped.
    rule
        What makes a viral region.
    files
        Files beside the tables that the calls go to; by default none.
    inputs
        What else was read, as plug-ins: no output may be one of them.

    Raises
    ------
    UsageError
        If the store lacks a sample or model, their widths do not fit the classifier, the name is
        taken, or one of ``files`` exists or cannot be made.
    DataError
        At the end, if a file with the sequences of contigs is not the one that was appended.
    DamageError
        If certified rows cannot be read; ``vnp verify`` names what is wrong.
    BusyError
        At the end, if scores are to be kept and an appender is at work.
    """
    output = tables_folder(store.path, output)
    if files is not None:
        files.check(
            store.schema.samples, outputs=own_tables(output), inputs=[classifier.path, *inputs]
        )
    chosen = choose_models(store, classifier.card, models)
    wanted = _samples(store, samples)
    _warn_of_differences(store, classifier, chosen)
    # Before the view: what is filled meanwhile is not taken for what it lacks.
    filled = {model: store.rows_filled(model) for model in chosen}
    view = store.merged(chosen, verify=True)
    module = classifier.module.to(device)
    total = sum(sample.stop - sample.start for sample in wanted)
    calls = []
    rule = rule or RegionRule()
    with seldom_searched(), call_writer(files or CallFiles(), wanted) as writer:
        with (
            _keeping(store, classifier.card.digest, save, replace=replace) as keep,
            Progress("predict", total=total, unit="records") as progress,
        ):
            progress.update(0)
            done = 0

            def scored(sample: Sample) -> Iterator[Scores]:
                nonlocal done
                for scores in score_rows(
                    view, module, device=device, start=sample.start, stop=sample.stop
                ):
                    keep(scores)
                    done += len(scores)
                    progress.update(done)
                    yield scores

            for sample in wanted:
                scores = scored(sample)
                folder = output / sample.name
                calls.append(_predict_sample(store, sample, scores, filled, folder, rule, writer))
        output.mkdir(parents=True, exist_ok=True)
        result = Prediction(
            store=str(store.path),
            classifier=str(classifier.path),
            digest=classifier.card.digest,
            models=chosen,
            samples=tuple(calls),
            warning=demo_warning(chosen),
            rule=rule,
            # After the scores are kept: a file that is not the one appended must not cost them.
            written=writer.finish(output),
        )
        write_whole(output / SAMPLES, _samples_tsv(result).encode())
        write_whole(output / REPORT, (json.dumps(result.to_json(), indent=1) + "\n").encode())
    return result


def _predict_sample(
    store: Store,
    sample: Sample,
    scored: Iterable[Scores],
    filled: Mapping[str, NDArray[np.int64]],
    folder: Path,
    rule: RegionRule,
    writer: CallWriter,
) -> SampleCalls:
    """Write the tables of a sample from the scores of all its rows; return its counts."""
    counts = Counts()
    n_regions = 0
    with sample_tables(folder) as tables:
        parts = _listed(store, scored, filled, tables)
        for contig, windows in call_contigs(parts):
            tables.windows(windows)
            regions = regions_of(windows, rule)
            n_regions += len(regions)
            tables.contig(contig, regions)
            writer.add(sample.name, contig, regions)
            counts.add(contig)
    records = sample.stop - sample.start
    return SampleCalls(
        sample=sample.name,
        records=records,
        scored=records - tables.unscored,
        unscored=tables.unscored,
        segments=counts.windows,
        viral_segments=counts.viral_windows,
        contigs=counts.contigs,
        viral_contigs=counts.viral_contigs,
        regions=n_regions,
        mean_score2=counts.total / counts.windows if counts.windows else None,
        best_score2=counts.best if counts.windows else None,
        folder=str(folder),
    )


def _listed(
    store: Store,
    scored: Iterable[Scores],
    filled: Mapping[str, NDArray[np.int64]],
    tables: SampleTables,
) -> Iterator[RecordScores]:
    """Write each record to its table, with or without a score, and pass it on."""
    for scores in scored:
        rows = with_records(store, scores)
        tables.records(rows)
        for at in np.flatnonzero(np.isnan(scores.values[:, 1])).tolist():
            block, within = divmod(scores.first + at, store.schema.block_rows)
            missing = [model for model, counts in filled.items() if within >= counts[block]]
            tables.unscored_record(rows.id[at], scores.first + at, missing)
        yield rows


@contextmanager
def _keeping(
    store: Store, digest: str, name: str | None, *, replace: bool
) -> Iterator[Callable[[Scores], None]]:
    """Yield what takes the scores that the store keeps under ``name`` if the body succeeds.

    Scoring may take hours, so scores are collected in a file of the sidecar and the appender's lock
    is held only at the end. Rows never move, so they stay right whatever is appended meanwhile.
    """
    if name is None:
        yield lambda _: None
        return
    KeptScores(name, 0, digest, "")  # refuses an illegal name before hours of work
    known = next((scores for scores in store.schema.scores if scores.name == name), None)
    nothing = np.empty((0, 2), np.float32)
    if known is not None and known.digest != digest and not replace:
        store.save_scores(name, digest=digest, values=nothing, rows=())  # refuses, saying why
    path = store.sidecar.make().temporary("scores")
    ranges: list[tuple[int, int]] = []
    try:
        held = nothing
        if store.n_rows:
            held = mapped_file(path, dtype=np.float32, shape=(store.n_rows, 2))

        def keep(scores: Scores) -> None:
            stop = scores.first + len(scores)
            held[scores.first : stop] = scores.values
            ranges.append((scores.first, stop))

        yield keep
        store.save_scores(name, digest=digest, values=held, rows=ranges, replace=replace)
    finally:
        path.unlink(missing_ok=True)


def _warn_of_differences(store: Store, classifier: Classifier, chosen: tuple[str, ...]) -> None:
    """Warn of what fits in numbers but perhaps not in meaning."""
    card = classifier.card
    trained_on = tuple(name for name, _ in card.models)
    if trained_on and trained_on != chosen:
        log.warning(
            f"{classifier.path.name} was trained on {' + '.join(trained_on)}, and is applied to "
            f"{' + '.join(chosen)}"
        )
    length = store.schema.segment_length
    if card.segment_length is not None and card.segment_length != length:
        log.warning(
            f"{classifier.path.name} was trained on {described(card.segment_length)}, and the "
            f"store holds {described(length)}"
        )
    code = store.schema.genetic_code
    if not translate_alike(card.genetic_code, code):
        log.warning(
            f"{classifier.path.name} was trained on records of genetic code {card.genetic_code}, "
            f"and those of the store are of code {code}: frames end at other stops there, so its "
            "scores may mean less"
        )


def _samples(store: Store, names: Sequence[str]) -> tuple[Sample, ...]:
    if not names:
        return tuple(store.schema.samples)
    return tuple(map(store.schema.held_sample, dict.fromkeys(names)))


def _samples_tsv(result: Prediction) -> str:
    lines = [
        "sample\trecords\tscored\tunscored\tsegments\tviral_segments\tcontigs\tviral_contigs\t"
        "mean_score2\tbest_score2"
    ]
    for calls in result.samples:
        mean, best = (
            "" if score is None else f"{score:.6g}"
            for score in (calls.mean_score2, calls.best_score2)
        )
        lines.append(
            f"{calls.sample}\t{calls.records}\t{calls.scored}\t{calls.unscored}\t{calls.segments}\t"
            f"{calls.viral_segments}\t{calls.contigs}\t{calls.viral_contigs}\t{mean}\t{best}"
        )
    return "\n".join(lines) + "\n"
