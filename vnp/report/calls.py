"""Contigs and the scores of a classifier, collected in one pass over the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from store.read.columns import LastChunk
from store.schema import COLUMN_CHUNK_ROWS
from store.store import Store
from vnp.classify.contig_arrays import Contigs, Segments, read_contigs
from vnp.classify.scores import Scores, chunked
from vnp.embed.progress import Progress
from vnp.report.data import SCORE_BINS, Calls, ContigList, Histogram
from vnp.report.listing import Listing

Ints = NDArray[np.int64]

# What is counted of each sample; the names are those of `vnp.report.data.SampleRow`.
COUNTED = (
    "called_segments",
    "viral_segments",
    "called_contigs",
    "viral_contigs",
    "called_bases",
    "viral_bases",
)


@dataclass(frozen=True, slots=True)
class ScoreSource:
    """Scores of a classifier, computed or kept."""

    of: Callable[[int, int], Iterator[Scores]]  # scores of rows start .. stop, in order
    digest: str  # hash of the classifier's weights
    date: str  # UTC, ISO 8601: when the scores were kept, or the file was last changed
    file: str = ""  # name of the classifier's file; empty if only its scores are known
    kept: str = ""  # name of the scores kept in the store; empty for those made now


@dataclass(slots=True)
class Found:
    """What one pass over the rows finds."""

    listed: ContigList | None
    counts: dict[str, Ints]  # by name in `COUNTED`: of each sample
    calls: Calls | None  # None without scores
    score: NDArray[np.float64] | None  # score2 of the rows asked for; NaN: not scored
    bases: Ints  # length of the contigs of the rows asked for


def collect_contigs(
    store: Store,
    scores: ScoreSource | None,
    *,
    group: Ints,
    groups: Sequence[str],
    rows: Ints,
) -> Found:
    """Read all contigs, and all scores if there are any, once.

    ``group`` says for each sample which of the histograms, named by ``groups``, it goes to;
    ``rows``, ascending, are those of which more is wanted.
    """
    tap = _Tap(rows)
    bases = np.zeros(len(rows), dtype=np.int64)
    listing = Listing()
    tally = Tally()
    with Progress("report: contigs", total=store.n_rows, unit="records") as progress:
        source = None if scores is None else tap.of(scores)
        for contigs, segments in read_contigs(store, source):
            listing.offer(contigs, segments)
            tally.add(contigs, segments)
            here = slice(*np.searchsorted(rows, [contigs.first[0], contigs.stop[-1]]).tolist())
            bases[here] = contigs.bases[np.searchsorted(contigs.first, rows[here], "right") - 1]
            progress.update(int(contigs.stop[-1]))
    counts = tally.counts(len(group))
    calls = None if scores is None else tally.calls(scores, tap.scored, group=group, groups=groups)
    score = None if scores is None else tap.score
    return Found(_listed(store, listing), counts, calls, score, bases)


class Tally:
    """What contigs and segments add up to, sample by sample."""

    def __init__(self) -> None:
        # By number of the sample: counts as `COUNTED`; segments by their highest score2 and by
        # their consensus, (2, SCORE_BINS).
        self._of: dict[int, tuple[Ints, Ints]] = {}

    def add(self, contigs: Contigs, segments: Segments) -> None:
        """Take some contigs of one sample, and their segments, in."""
        called, viral = contigs.called > 0, contigs.viral
        values = (
            contigs.called,
            contigs.viral_segments,
            called,
            viral,
            contigs.bases[called],
            contigs.bases[viral],
        )
        counts = np.array([int(value.sum()) for value in values])
        bins = np.stack([_binned(segments.score2.astype(np.float64)), _binned(segments.consensus)])
        sample = int(contigs.sample[0])
        if sample in self._of:
            counts += self._of[sample][0]
            bins += self._of[sample][1]
        self._of[sample] = counts, bins

    def copy(self) -> Tally:
        """What was taken in by now; what is taken in later is not in it."""
        copied = Tally()
        copied._of = dict(self._of)
        return copied

    def counts(self, samples: int) -> dict[str, Ints]:
        """Counts of each sample, by name in `COUNTED`."""
        table = np.zeros((samples, len(COUNTED)), dtype=np.int64)
        for sample, (counts, _) in self._of.items():
            table[sample] = counts
        return dict(zip(COUNTED, table.T, strict=True))

    def calls(
        self, scores: ScoreSource, records: int, *, group: Ints, groups: Sequence[str]
    ) -> Calls:
        """Histograms of the groups of samples; ``records`` have a score."""
        bins = np.zeros((2, len(groups), SCORE_BINS), dtype=np.int64)
        for sample, (_, found) in self._of.items():
            bins[:, group[sample]] += found
        histograms, consensus = (
            tuple(Histogram(0.0, 1.0 / SCORE_BINS, each) for each in kind) for kind in bins
        )
        return Calls(
            file=scores.file,
            kept=scores.kept,
            digest=scores.digest,
            date=scores.date,
            records=records,
            groups=tuple(groups),
            histograms=histograms,
            consensus=consensus,
        )


def classifier_scores(store: Store, path: Path, *, device: str) -> ScoreSource:
    """Score with a classifier's file; `ClassifierError` or `FeaturesError` if it does not fit."""
    # What scores is torch's; kept scores are read without it.
    from vnp.classify.features import choose_models, score_rows
    from vnp.classify.files import load_classifier
    from vnp.inference.device import place

    classifier = load_classifier(path)
    view = store.merged(choose_models(store, classifier.card), verify=True)
    placed = place(device, precision="float32", threads=None, warn=lambda _: None).device
    module = classifier.module.to(placed)
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return ScoreSource(
        lambda start, stop: score_rows(view, module, device=placed, start=start, stop=stop),
        digest=classifier.card.digest,
        date=changed.isoformat(timespec="seconds"),
        file=path.name,
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
    read = LastChunk(partial(store.scores, name))
    return ScoreSource(
        lambda start, stop: (Scores(at, read(at, end)) for at, end in chunked(start, stop)),
        digest=known.digest,
        date=known.made,
        kept=name,
    )


def strings_of(store: Store, column: str, rows: Ints) -> list[str]:
    """Read a column of strings at some rows, in any order; each chunk of it is read once."""
    found = [""] * len(rows)
    order = np.argsort(rows, kind="stable")
    chunk = rows[order] // COLUMN_CHUNK_ROWS
    for part in np.split(order, np.flatnonzero(chunk[1:] != chunk[:-1]) + 1):
        if len(part):
            first, last = int(rows[part[0]]), int(rows[part[-1]]) + 1
            texts = store.column(column, first, last)
            assert isinstance(texts, Ragged)  # a column of strings
            for at in part.tolist():
                # A store made elsewhere may hold what is not UTF-8.
                found[at] = texts[int(rows[at]) - first].decode(errors="replace")
    return found


@dataclass(slots=True)
class _Tap:
    """Counts the scores that flow by, and keeps those of some rows."""

    rows: Ints  # ascending
    scored: int = 0
    score: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.score = np.full(len(self.rows), np.nan)

    def of(self, scores: ScoreSource) -> Callable[[int, int], Iterator[Scores]]:
        def parts(start: int, stop: int) -> Iterator[Scores]:
            for part in scores.of(start, stop):
                low, high = np.searchsorted(self.rows, [part.first, part.first + len(part)])
                self.score[low:high] = part.values[self.rows[low:high] - part.first, 1]
                self.scored += int(np.count_nonzero(~np.isnan(part.values[:, 1])))
                yield part

        return parts


def _binned(score: NDArray[np.float64]) -> Ints:
    score = score[~np.isnan(score)]
    at = np.minimum((score * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    return np.bincount(at, minlength=SCORE_BINS)


def _listed(store: Store, listing: Listing) -> ContigList | None:
    best = listing.best()
    if best is None:
        return None
    contigs, tracks = best
    names = strings_of(store, "contig", contigs.first)
    numbers = np.unique(contigs.sample).tolist()
    samples = {number: store.schema.samples[number].name for number in numbers}
    return ContigList(listing.offered, contigs, tuple(names), samples, tuple(tracks))
