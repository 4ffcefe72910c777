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

from store.store import Store
from vnp.classify.calls import Contig, Counts, RecordScores, Window, call_contigs
from vnp.classify.features import Scores, choose_models, chunked, score_rows, with_records
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
    digest: str  # hash of the classifier's weights
    saved: str = ""  # UTC time when they were saved in the store; empty for those computed now


def collect_calls(
    store: Store, scores: ScoreSource, *, group: Ints, groups: Sequence[str], rows: Ints
) -> tuple[Calls, list[Counts], NDArray[np.float64]]:
    """Read all scores once.

    ``group`` says for each sample which of the histograms, named by ``groups``, it goes to.
    Returns the calls, the counts of each sample, and score2 of ``rows``, which are ascending; NaN
    where not scored.
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
        digest=scores.digest,
        saved=scores.saved,
        records=scored,
        groups=tuple(groups),
        histograms=tuple(Histogram(0.0, 1.0 / SCORE_BINS, bins) for bins in histograms),
        tracks=best.tracks(),
    )
    return calls, counts, wanted


def classifier_scores(store: Store, path: Path, *, device: str) -> ScoreSource:
    """Score with a classifier's file; `ClassifierError` or `FeaturesError` if it does not fit."""
    classifier = load_classifier(path)
    view = store.merged(choose_models(store, classifier.card), verify=True)
    placed = place(device, precision="float32", threads=None, warn=lambda _: None).device
    module = classifier.module.to(placed)
    return ScoreSource(
        path.name,
        lambda start, stop: score_rows(view, module, device=placed, start=start, stop=stop),
        digest=classifier.card.digest,
    )


def saved_scores(store: Store, name: str | None = None) -> ScoreSource | None:
    """Scores kept in the store by ``vnp predict --save``, by default those saved last, if any.

    `UsageError` if there are none of that name.
    """
    if name is None:
        if not store.schema.scores:
            return None
        name = store.schema.scores[-1].name
    store.scores(name, 0, 0)  # refuses an unknown name
    known = next(scores for scores in store.schema.scores if scores.name == name)
    return ScoreSource(
        name,
        lambda start, stop: (
            Scores(at, store.scores(name, at, end)) for at, end in chunked(start, stop)
        ),
        digest=known.digest,
        saved=known.made,
    )


class _Best:
    """The contigs with the most viral evidence: the summed score of their viral segments."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Track]] = []
        self._offered = 0

    def offer(self, sample: str, contig: Contig, windows: list[Window]) -> None:
        """Keep the contig if it is one of the best."""
        self._offered += 1
        evidence = contig.evidence
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
