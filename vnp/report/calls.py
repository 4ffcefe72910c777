"""What a classifier said, gathered in one pass: histograms, counts, the most viral contigs.

The consensus of windows and contigs is that of ``vnp predict`` (`vnp.classify.calls`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from store.schema import COLUMN_CHUNK_ROWS, Sample
from store.store import Store
from vnp.classify.calls import Contig, RecordScores, Window, Windows
from vnp.classify.features import Scores
from vnp.embed.progress import Progress
from vnp.report.binning import joined
from vnp.report.data import MOST_CONTIGS, MOST_TRACK_BINS, SCORE_BINS, Calls, Histogram, Track

Ints = NDArray[np.int64]
ScoresOf = Callable[[int, int], Iterator[Scores]]  # scores of rows start .. stop, in order


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """How the segments and contigs of one sample were called."""

    segments: int
    viral_segments: int
    contigs: int
    viral_contigs: int


@dataclass(frozen=True, slots=True)
class Gathered:
    """Calls, counts per sample, and the scores of the rows asked for."""

    calls: Calls
    counts: tuple[SampleCounts, ...]  # one per sample of the store
    scores: NDArray[np.float64]  # score2 of the rows asked for; NaN where not scored


def gather_calls(
    store: Store,
    scores_of: ScoresOf,
    *,
    source: str,
    group: Ints,
    groups: Sequence[str],
    rows: Ints,
) -> Gathered:
    """Read all scores once.

    Parameters
    ----------
    store
        The store.
    scores_of
        Gives the scores of a range of rows.
    source
        Name of the scores, for the reader.
    group, groups
        Of each sample, which histogram it goes to; names of the histograms.
    rows
        Rows whose scores are wanted, ascending.
    """
    histograms = np.zeros((len(groups), SCORE_BINS), dtype=np.int64)
    best = _Best()
    counts = []
    scored = 0
    wanted = np.full(len(rows), np.nan)
    with Progress("report: scores", total=store.n_rows, unit="records") as progress:
        for number, sample in enumerate(store.schema.samples):
            run = _SampleRun(sample, best, histograms[group[number]])
            for scores in _chunks(scores_of, sample):
                stop = scores.first + len(scores)
                run.add(_records(store, scores))
                scored += int(np.count_nonzero(~np.isnan(scores.values[:, 1])))
                low, high = np.searchsorted(rows, [scores.first, stop])
                wanted[low:high] = scores.values[rows[low:high] - scores.first, 1]
                progress.update(stop)
            counts.append(run.end())
    calls = Calls(
        source=source,
        records=scored,
        groups=tuple(groups),
        histograms=tuple(Histogram(0.0, 1.0 / SCORE_BINS, counts) for counts in histograms),
        tracks=best.tracks(),
    )
    return Gathered(calls, tuple(counts), wanted)


def classifier_scores(store: Store, path: Path, *, device: str) -> tuple[str, ScoresOf]:
    """Score with a classifier's file: its name, and what gives the scores.

    Raises
    ------
    ClassifierError, FeaturesError
        If the file holds no classifier, or one for other models.
    """
    from vnp.classify.features import choose_models, score_rows
    from vnp.classify.files import load_classifier
    from vnp.inference.device import place

    classifier = load_classifier(path)
    view = store.merged(choose_models(store, classifier.card), verify=True)
    placed = place(device, precision="float32", threads=None, warn=lambda _: None).device
    module = classifier.module.to(placed)

    def scores_of(start: int, stop: int) -> Iterator[Scores]:
        return score_rows(
            view, module, device=placed, start=start, stop=stop, chunk=COLUMN_CHUNK_ROWS
        )

    return path.name, scores_of


def saved_scores(store: Store, name: str | None = None) -> tuple[str, ScoresOf] | None:
    """Scores kept in the store by ``vnp predict --save``: their name, and what gives them.

    Parameters
    ----------
    name
        Which; by default those saved last, and None if there are none.

    Raises
    ------
    UsageError
        If there are none of that name.
    """
    if name is None:
        if not store.schema.scores:
            return None
        name = store.schema.scores[-1].name
    values = store.scores(name)  # 8 bytes a row

    def scores_of(start: int, stop: int) -> Iterator[Scores]:
        while start < stop:
            end = min((start // COLUMN_CHUNK_ROWS + 1) * COLUMN_CHUNK_ROWS, stop)
            yield Scores(start, values[start:end])
            start = end

    return name, scores_of


class _SampleRun:
    """Calls the windows and contigs of one sample as its rows go by."""

    def __init__(self, sample: Sample, best: _Best, histogram: Ints) -> None:
        self._sample = sample
        self._best = best
        self._histogram = histogram
        self._windows = Windows()
        self._contig: Contig | None = None
        self._parts: list[Window] = []
        self._counts = [0, 0, 0, 0]

    def add(self, rows: RecordScores) -> None:
        """Take the next rows."""
        for window in self._windows.add(rows):
            self._take(window)

    def end(self) -> SampleCounts:
        """Call what is still open."""
        for window in self._windows.end():
            self._take(window)
        self._close()
        return SampleCounts(*self._counts)

    def _take(self, window: Window) -> None:
        if self._contig is None or self._contig.id != window.contig:
            self._close()
            self._contig = Contig(window.contig)
        self._contig.add(window)
        self._parts.append(window)
        self._counts[0] += 1
        self._counts[1] += window.is_virus
        self._histogram[min(int(window.score2 * SCORE_BINS), SCORE_BINS - 1)] += 1

    def _close(self) -> None:
        if self._contig is not None:
            self._counts[2] += 1
            self._counts[3] += self._contig.is_virus
            self._best.offer(self._sample.name, self._contig, self._parts)
        self._contig, self._parts = None, []


class _Best:
    """The contigs with the most viral evidence: the summed score of their viral segments."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Track]] = []
        self._offered = 0

    def offer(self, sample: str, contig: Contig, windows: list[Window]) -> None:
        """Keep the contig if it is among the best."""
        self._offered += 1
        evidence = sum(region.total for region in contig.regions)
        if not evidence or (len(self._heap) == MOST_CONTIGS and evidence <= self._heap[0][0]):
            return
        start, end, score = joined(
            np.array([window.start for window in windows], dtype=np.int64),
            np.array([window.end for window in windows], dtype=np.int64),
            np.array([window.score2 for window in windows], dtype=np.float64),
            MOST_TRACK_BINS,
        )
        track = Track(
            sample=sample,
            contig=contig.id.decode(),
            bases=contig.end,
            segments=contig.windows,
            viral=contig.viral,
            mean=contig.mean,
            best=contig.best,
            start=start,
            end=end,
            score=score,
        )
        push = heapq.heappush if len(self._heap) < MOST_CONTIGS else heapq.heappushpop
        push(self._heap, (evidence, -self._offered, track))  # of equals, the first stays

    def tracks(self) -> tuple[Track, ...]:
        """The best, the best first."""
        return tuple(track for *_, track in sorted(self._heap, key=lambda each: each[:2])[::-1])


def _chunks(scores_of: ScoresOf, sample: Sample) -> Iterator[Scores]:
    if sample.stop > sample.start:
        yield from scores_of(sample.start, sample.stop)


def _records(store: Store, scores: Scores) -> RecordScores:
    start, stop = scores.first, scores.first + len(scores)

    def column(name: str) -> Any:
        return store.column(name, start, stop)

    contig = column("contig")
    assert isinstance(contig, Ragged)
    return RecordScores(
        id=[b""] * len(scores),  # the calls are told apart by contig and segment
        contig=contig.tolist(),
        segment=column("segment"),
        start=column("start"),
        end=column("end"),
        scores=scores.values,
    )
