"""Arithmetic of the report: shares, histograms, the time axis, long contigs. No files."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vnp.classify.contig_arrays import Segments
from vnp.report.data import MOST_BINS, MOST_TIME_BINS, Histogram, Stretch, Timeline

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SHORTEST_BIN = 2.0  # seconds
_PAUSE = 900.0  # seconds without any work that are cut out of the time axis


def shares(part: Ints, whole: Ints, most: int) -> Floats:
    """Share of ``part`` in ``whole`` over runs of neighbours, at most ``most`` of them."""
    n = len(whole)
    if not n:
        return np.empty(0)
    first = np.unique(np.linspace(0, n, min(n, most), endpoint=False).astype(np.int64))
    total = np.add.reduceat(whole, first)
    filled: Floats = np.add.reduceat(part, first) / np.maximum(total, 1)
    return filled


def filled_before(row: Ints, filled: Ints, block_rows: int) -> Ints:
    """Count the filled rows among the rows before each of ``row``.

    ``filled`` are the filled rows of every block, always its first ones.
    """
    before = np.concatenate([[0], np.cumsum(filled)])
    block = row // block_rows
    padded = np.append(filled, 0)
    counts: Ints = before[block] + np.minimum(row - block * block_rows, padded[block])
    return counts


def round_step(span: float, most: int) -> float:
    """Smallest of 1, 2, 5 times a power of ten that cuts ``span`` into at most ``most`` parts."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        if span / (factor * power) <= most * (1 + 1e-9):
            return factor * power
    raise AssertionError("ten times the power of ten below a part is more than a part")


def length_histogram(lengths: Ints, most: int) -> Histogram:
    """Counts of whole numbers in at most ``most`` bins of a round width."""
    if not len(lengths):
        return Histogram(0, 1, np.zeros(1, np.int64))
    low, high = int(lengths.min()), int(lengths.max())
    width = max(round_step(high - low + 1, most - 1), 1.0)
    first = math.floor(low / width) * width
    index = ((lengths - first) // width).astype(np.int64)
    return Histogram(first, width, np.bincount(index))


def timeline(
    begin: Floats, end: Floats, records: Floats, group: Ints, *, groups: Sequence[str]
) -> Timeline | None:
    """Spread the records of blocks evenly over the time in which they were embedded.

    ``begin`` and ``end``, in seconds, ``records`` and ``group``, which of ``groups`` did it, are
    of length n. Pauses of more than a quarter of an hour are left out. None without blocks.
    """
    if not len(begin):
        return None
    end = np.maximum(end, begin + 1e-3)
    order = np.argsort(begin, kind="stable")
    reach = np.maximum.accumulate(end[order])
    cut = np.flatnonzero(begin[order][1:] - reach[:-1] > _PAUSE) + 1
    # The longest stretches only, should there be hundreds of them: each takes a bin at least.
    first = np.concatenate([[0], cut])
    last = np.concatenate([cut, [len(order)]]) - 1
    starts, stops = begin[order][first], reach[last]
    if len(starts) > MOST_TIME_BINS // 4:
        kept = np.sort(np.argsort(starts - stops, kind="stable")[: MOST_TIME_BINS // 4])
        starts, stops = starts[kept], stops[kept]
    spans = stops - starts
    share = (spans / spans.sum() * (MOST_TIME_BINS - len(spans))).astype(np.int64)
    # Certificates have whole seconds: shorter bins would show their rounding.
    bins = np.clip(share, 1, np.maximum(1, (spans / _SHORTEST_BIN).astype(np.int64)))
    edges = [
        np.linspace(start, stop, count + 1)
        for start, stop, count in zip(starts, stops, bins, strict=True)
    ]
    low = np.concatenate([edge[:-1] for edge in edges])
    high = np.concatenate([edge[1:] for edge in edges])
    shared = np.minimum(end[:, None], high) - np.maximum(begin[:, None], low)  # seconds
    table = np.zeros((len(groups), len(low)))
    np.add.at(table, group, np.maximum(shared, 0.0) * (records / (end - begin))[:, None])
    stretches = tuple(
        Stretch(float(edge[0]), float(edge[-1]), int(last) - len(edge) + 1, int(last))
        for edge, last in zip(edges, np.cumsum(bins), strict=True)
    )
    return Timeline(stretches, high - low, tuple(groups), table)


def binned(segments: Segments, most: int = MOST_BINS) -> tuple[Segments, int]:
    """Join neighbours on a long contig into at most ``most``, with mean scores and all frames.

    Returns how many neighbours are one, too.
    """
    n = len(segments)
    each = -(-n // most)
    if each <= 1:
        return segments, 1
    first = np.arange(0, n, each)
    scored = np.add.reduceat(~np.isnan(segments.score2), first, dtype=np.int64)

    def mean(score: NDArray[np.float32]) -> NDArray[np.float32]:
        total = np.add.reduceat(np.nan_to_num(score), first)
        nothing = np.full(len(first), np.nan, dtype=np.float32)
        found: NDArray[np.float32] = np.divide(total, scored, out=nothing, where=scored > 0)
        return found

    return Segments(
        start=np.minimum.reduceat(segments.start, first),
        end=np.maximum.reduceat(segments.end, first),
        frames=np.bitwise_or.reduceat(segments.frames, first),
        score1=mean(segments.score1),
        score2=mean(segments.score2),
    ), each
