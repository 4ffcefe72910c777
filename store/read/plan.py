"""Which part of which chunk goes where: the plan of a read, without I/O.

Rows are in blocks, the columns of a merged view in bands, one band a model. A read of rows x
columns is the product of two plans, one along each axis::

    rows asked      7  2  9  3           blocks of 4 rows: [0..3] [4..7] [8..11]
    pieces          block 0: source (2, 3) -> target (1, 3)
                    block 1: source (3,)   -> target (0,)
                    block 2: source (1,)   -> target (2,)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from store.read.indexing import Axis, Ints

Span: TypeAlias = slice | Ints


@dataclass(frozen=True, slots=True)
class Piece:
    """What one part of an axis contributes to a read."""

    part: int  # number of the block or band
    source: Span  # positions within the part, ascending unless the axis is a falling range
    target: Span  # positions in the result, one for each of the source


@dataclass(frozen=True, slots=True)
class Uniform:
    """Parts of one size, without an end: the blocks."""

    size: int

    def bounds(self, part: int) -> tuple[int, int]:
        """First position of a part and one past its last."""
        return part * self.size, (part + 1) * self.size

    def of(self, positions: Ints) -> Ints:
        """Number of the part of each position."""
        return positions // self.size

    def part(self, position: int) -> int:
        """Number of the part of one position."""
        return position // self.size


@dataclass(frozen=True, slots=True)
class Bands:
    """Parts of given sizes, side by side: the models of a merged view."""

    edges: tuple[int, ...]  # 0, end of the first band, ..., end of the last

    def bounds(self, part: int) -> tuple[int, int]:
        """First position of a part and one past its last."""
        return self.edges[part], self.edges[part + 1]

    def of(self, positions: Ints) -> Ints:
        """Number of the part of each position."""
        return np.searchsorted(self.edges, positions, side="right").astype(np.int64) - 1

    def part(self, position: int) -> int:
        """Number of the part of one position."""
        return bisect_right(self.edges, position) - 1


Parts: TypeAlias = Uniform | Bands  # a division of an axis


def pieces(axis: Axis, parts: Parts) -> Iterator[Piece]:
    """Divide positions (any order, with repeats) by their part; each part comes at most once."""
    if isinstance(axis, range):
        yield from _of_range(axis, parts)
    else:
        yield from _of_array(axis, parts)


def positions(span: Span) -> Ints:
    """Positions of a span, one by one."""
    if isinstance(span, np.ndarray):
        return span
    step = 1 if span.step is None else span.step
    stop = -1 if span.stop is None else span.stop  # only a falling slice ends below 0
    return np.arange(span.start, stop, step, dtype=np.int64)


def below(piece: Piece, limit: int) -> tuple[Piece | None, Span | None]:
    """Divide a piece: what is below position ``limit`` of its part, and the targets of the rest."""
    source = positions(piece.source)
    inside = source < limit
    if inside.all():
        return piece, None
    if not inside.any():
        return None, piece.target
    target = positions(piece.target)
    return Piece(piece.part, source[inside], target[inside]), target[~inside]


def _of_range(axis: range, parts: Parts) -> Iterator[Piece]:
    done, total, step = 0, len(axis), axis.step
    while done < total:
        first = axis[done]
        part = parts.part(first)
        start, stop = parts.bounds(part)
        room = -(-(stop - first) // step) if step > 0 else (first - start) // -step + 1
        count = min(room, total - done)
        after = first + count * step - start
        # Where a falling range ends at the part's first position, only None says "to the start".
        source = slice(first - start, min(after, stop - start) if after >= 0 else None, step)
        yield Piece(part, source, slice(done, done + count))
        done += count


def _of_array(axis: Ints, parts: Parts) -> Iterator[Piece]:
    if not len(axis):
        return
    order: Ints | None = None
    if (axis[1:] < axis[:-1]).any():
        # Sorted, not only grouped by part: a disk is then read front to back.
        order = np.argsort(axis, kind="stable")
        axis = axis[order]
    part = parts.of(axis)
    cuts = [0, *(np.flatnonzero(part[1:] != part[:-1]) + 1).tolist(), len(axis)]
    for begin, end in pairwise(cuts):
        number = int(part[begin])
        local = axis[begin:end] - parts.bounds(number)[0]
        first, last = int(local[0]), int(local[-1])
        source: Span = local
        if last - first == end - begin - 1 and (local[1:] - local[:-1] == 1).all():
            source = slice(first, last + 1, 1)
        yield Piece(number, source, slice(begin, end) if order is None else order[begin:end])
