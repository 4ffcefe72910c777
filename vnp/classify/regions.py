"""Viral regions along a contig: where the smoothed consensus of its segments is high.

One rule makes the regions of every table and file::

    consensus of called segments  .1 .2 .9 .8 .3 .9 .9 .1 .1
    moving average (smooth)       .4 .5 .5 .6 .8 .6 .4 ...
    at least ``leave`` ...           |-------------|          a run,
    ... and somewhere ``enter``               ^               kept for this
    less segments under ``leave`` at its ends, joined with runs at most ``merge_gap`` bases
    away, and kept if it is at least ``min_region`` bases long

Segments without a record have none. They are passed over, unless they make a blank of more
than ``max_blank`` bases, such as an assembly gap: nothing is smoothed or joined across one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from store.errors import UsageError
from vnp.classify.calls import VIRAL, Window

_ROUNDING = 1e-9  # far more than what sums and quotients of scores are rounded by


@dataclass(frozen=True, slots=True)
class RegionRule:
    """What makes a region; `UsageError` if the numbers contradict each other."""

    smooth: int = 5  # called segments of the moving average, an odd number; 1 does not smooth
    enter: float = 0.7  # smoothed consensus that a region reaches somewhere
    leave: float = 0.5  # smoothed consensus that it has everywhere
    min_region: int = 2000  # bases; a shorter region is dropped
    merge_gap: int = 2000  # bases between two regions up to which they are one
    max_blank: int = 10_000  # bases without a called segment up to which a region goes on

    def __post_init__(self) -> None:
        if self.smooth < 1 or self.smooth % 2 == 0:
            raise UsageError(
                f"segments are smoothed over an odd number of them, not {self.smooth}: the segment "
                "and as many on each side"
            )
        if not 0 <= self.leave <= self.enter <= 1:
            raise UsageError(
                f"a region cannot begin at a consensus of {self.enter} and end below {self.leave}: "
                "0 <= leave <= enter <= 1"
            )
        for name in ("min_region", "merge_gap", "max_blank"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)} bases; it cannot be negative")


@dataclass(frozen=True, slots=True)
class Region:
    """A viral region of one contig."""

    start: int  # first base, 0-based: where its first segment begins
    end: int  # one past the last base
    windows: int  # called windows in it
    viral: int  # of these, viral
    mean: float  # mean consensus of these windows
    best: float  # highest consensus of one


def find_regions(
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    consensus: NDArray[np.float64],
    rule: RegionRule,
) -> list[Region]:
    """Find the regions of a contig from its called windows, in any order.

    ``start``, ``end`` (0-based, half-open) and ``consensus`` (0 to 1, viral from `VIRAL` on) have
    shape (n,). Regions come in order and neither touch nor overlap.
    """
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate(end[order])
    consensus = consensus[order]
    regions = []
    for piece in _pieces(start, end, rule.max_blank):
        first = piece.start
        for low, high in _runs(start[piece], end[piece], consensus[piece], rule):
            inside = consensus[first + low : first + high]
            regions.append(
                Region(
                    start=int(start[first + low]),
                    end=int(end[first + high - 1]),
                    windows=len(inside),
                    viral=int(np.count_nonzero(inside >= VIRAL)),
                    mean=float(inside.mean()),
                    best=float(inside.max()),
                )
            )
    return regions


def regions_of(windows: Sequence[Window], rule: RegionRule) -> list[Region]:
    """Find the regions of a contig from its called windows."""
    # `Window.consensus` of each: there are millions.
    scores = [VIRAL + (score2 - score1) / 2 for _, _, _, _, _, _, _, score1, score2, _ in windows]
    # Most contigs are not viral: no average is higher than the highest score, but for rounding.
    if max(scores, default=0.0) < rule.enter - _ROUNDING:
        return []
    start = np.array([window.start for window in windows], dtype=np.int64)
    end = np.array([window.end for window in windows], dtype=np.int64)
    return find_regions(start, end, np.array(scores, dtype=np.float64), rule)


def smoothed(score: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Moving average (n,) over ``width`` scores, an odd number; over those there are at the ends.

    With a width of 1 the scores come out bit for bit.
    """
    if not len(score):
        return score
    # Sums of neighbours, not differences of running sums: these would not be exact.
    inside = slice(width // 2, width // 2 + len(score))
    total = np.convolve(score, np.ones(width))[inside]
    return total / np.convolve(np.ones(len(score)), np.ones(width))[inside]


def _pieces(
    start: NDArray[np.int64], end: NDArray[np.int64], max_blank: int
) -> Iterator[slice[int, int, None]]:
    """Yield stretches of windows without a blank that is too long."""
    cuts = np.flatnonzero(start[1:] - end[:-1] > max_blank) + 1
    bounds = [0, *cuts.tolist(), len(start)]
    for low, high in pairwise(bounds):
        if low < high:
            yield slice(low, high)


def _runs(
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    score: NDArray[np.float64],
    rule: RegionRule,
) -> Iterator[tuple[int, int]]:
    """Yield the regions of a piece as first window and one past the last."""
    level = smoothed(score, rule.smooth)
    if level.max() < rule.enter:
        return
    above = np.zeros(len(level) + 2, dtype=bool)
    above[1:-1] = level >= rule.leave
    edges = np.flatnonzero(above[1:] != above[:-1]).tolist()
    joined: list[tuple[int, int]] = []
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        own = np.flatnonzero(score[low:high] >= rule.leave)
        if level[low:high].max() < rule.enter or not len(own):
            continue
        first, last = low + int(own[0]), low + int(own[-1]) + 1
        if joined and start[first] - end[joined[-1][1] - 1] <= rule.merge_gap:
            first = joined.pop()[0]
        joined.append((first, last))
    for first, last in joined:
        if end[last - 1] - start[first] >= rule.min_region:
            yield first, last
