"""The scores of a classifier, collected in one pass: histograms, counts, the most viral contigs.

The consensus of windows and contigs is that of ``vnp predict`` (`vnp.classify.calls`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.schema import COLUMN_CHUNK_ROWS
from store.store import Store
from vnp.classify.calls import Contig, Counts, RecordScores, Window, call_contigs
from vnp.classify.features import Scores, choose_models, score_rows, with_records
from vnp.classify.files import load_classifier
from vnp.embed.progress import Progress
from vnp.inference.device import place
from vnp.report.binning import joined
from vnp.report.data import MOST_CONTIGS, MOST_TRACK_BINS, SCORE_BINS, Calls, Histogram, Track

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScoreSource:
    """Scores of a classifier, computed or kept."""

    name: str  # of the classifier's file or of the kept scores, for the reader
    of: Callable[[int, int], Iterator[Scores]]  # scores of rows start .. stop, in order


@dataclass(frozen=True, slots=True)
class Collected:
    """Calls, counts per sample, and the scores of the rows asked for."""

    calls: Calls
    counts: tuple[Counts, ...]  # one per sample of the store
    scores: NDArray[np.float64]  # score2 of the rows asked for; NaN where not scored


def collect_calls(
    store: Store, scores: ScoreSource, *, group: Ints, groups: Sequence[str], rows: Ints
) -> Collected:
    """Read all scores once, and those of ``rows``, ascending, for themselves.

    ``group`` says for each sample which of the histograms, named by ``groups``, it goes to.
    """
    histograms = np.zeros((len(groups), SCORE_BINS), dtype=np.int64)
    best = _Best()
    scored = 0
    wanted = np.full(len(rows), np.nan)

    def parts(start: int, stop: int) -> Iterator[RecordScores]:
        nonlocal scored
        for part in scores.of(start, stop):
            end = part.first + len(part)
            scored += int(np.count_nonzero(~np.isnan(part.values[:, 1])))
            low, high = np.searchsorted(rows, [part.first, end])
            wanted[low:high] = part.values[rows[low:high] - part.first, 1]
            progress.update(end)
            yield with_records(store, part, ids=False)  # calls need contig and segment alone

    counts = []
    with Progress("report: scores", total=store.n_rows, unit="records") as progress:
        for number, sample in enumerate(store.schema.samples):
            histogram = histograms[group[number]]
            count = Counts()
            for contig, windows in call_contigs(parts(sample.start, sample.stop)):
                count.add(contig)
                best.offer(sample.name, contig, windows)
                for window in windows:
                    histogram[min(int(window.score2 * SCORE_BINS), SCORE_BINS - 1)] += 1
            counts.append(count)
    calls = Calls(
        source=scores.name,
        records=scored,
        groups=tuple(groups),
        histograms=tuple(Histogram(0.0, 1.0 / SCORE_BINS, bins) for bins in histograms),
        tracks=best.tracks(),
    )
    return Collected(calls, tuple(counts), wanted)


def classifier_scores(store: Store, path: Path, *, device: str) -> ScoreSource:
    """Score with a classifier's file.

    Raises
    ------
    ClassifierError, FeaturesError
        If the file does not hold a classifier, or holds one for other models.
    """
    classifier = load_classifier(path)
    view = store.merged(choose_models(store, classifier.card), verify=True)
    placed = place(device, precision="float32", threads=None, warn=lambda _: None).device
    module = classifier.module.to(placed)

    def scores_of(start: int, stop: int) -> Iterator[Scores]:
        return score_rows(view, module, device=placed, start=start, stop=stop)

    return ScoreSource(path.name, scores_of)


def saved_scores(store: Store, name: str | None = None) -> ScoreSource | None:
    """Scores kept in the store by ``vnp predict --save``, by default those saved last, if any.

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

    return ScoreSource(name, scores_of)


class _Best:
    """The contigs with the most viral evidence: the summed score of their viral segments."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Track]] = []
        self._offered = 0

    def offer(self, sample: str, contig: Contig, windows: list[Window]) -> None:
        """Keep the contig if it is one of the best."""
        self._offered += 1
        evidence = sum(region.total for region in contig.regions)
        if not evidence or (len(self._heap) == MOST_CONTIGS and evidence <= self._heap[0][0]):
            return
        start, end, score = map(
            np.array, zip(*((each.start, each.end, each.score2) for each in windows), strict=True)
        )
        start, end, score = joined(start, end, score, MOST_TRACK_BINS)
        track = Track(
            sample=sample,
            contig=contig.id.decode(),
            bases=contig.end,
            segments=contig.windows,
            viral=contig.viral,
            mean=contig.mean,
            start=start,
            end=end,
            score=score,
        )
        push = heapq.heappush if len(self._heap) < MOST_CONTIGS else heapq.heappushpop
        push(self._heap, (evidence, -self._offered, track))  # of equals, the first stays

    def tracks(self) -> tuple[Track, ...]:
        """The best, the best first."""
        return tuple(track for *_, track in sorted(self._heap, key=lambda each: each[:2])[::-1])
