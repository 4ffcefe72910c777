"""Listing again only where something new can be: pure planning, and names known so far.

Keys of a folder have positions. A position is *settled* when nothing new is expected there; a LIST
begins after any key, so long runs of settled positions are jumped over::

    positions   0 ...... 9,999 | 10,000 ... 10,420 | 10,421 ... 499,999
                settled          open                settled
    to list                      10,000 - 10,420
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.concurrent import in_order
from store.s3.objects import PAGE, Objects

_PIECE = 8 * PAGE  # positions listed by one thread
_THREADS = 8  # at most: each may list two pieces behind the last name


def unsettled(
    settled: NDArray[np.int64], *, size: int | None, jump: int = PAGE
) -> list[tuple[int, int | None]]:
    """Ranges of positions to list: first one, and one past the last (None: to the end).

    ``settled`` is ascending. There are positions 0 to ``size``, or without an end if it is None. A
    run of fewer than ``jump`` settled positions is listed again: that costs no more.
    """
    edges = np.flatnonzero(np.diff(settled) != 1) + 1
    ranges: list[tuple[int, int | None]] = []
    start = 0
    for run in np.split(settled, edges):
        if len(run) < jump:
            continue
        if run[0] > start:
            ranges.append((start, int(run[0])))
        start = int(run[-1]) + 1
    if size is None or start < size:
        ranges.append((start, None))
    return ranges


def pieces(
    ranges: list[tuple[int, int | None]], *, size: int | None, length: int
) -> Iterator[tuple[int, int | None]]:
    """Cut ranges of positions into pieces that can be listed concurrently; maybe without an end."""
    for first, stop in ranges:
        end = stop if stop is not None else size
        while end is None or first + length < end:
            yield first, first + length
            first += length
        yield first, stop


def list_ranges(
    objects: Objects,
    folder: str,
    ranges: list[tuple[int, int | None]],
    *,
    size: int | None,
    after: Callable[[int], str],
    until: Callable[[int], str],
) -> Iterator[str]:
    """Yield the names in ranges of positions, some perhaps twice.

    ``after`` gives a name before all of a position and not before those of the previous one,
    ``until`` one that no name of an earlier position reaches. ``size`` as of `unsettled`. Long
    ranges are listed in pieces, several at a time, which adds a request each.
    """

    def list_piece(piece: tuple[int, int | None]) -> tuple[list[str], bool]:
        """Names of a piece, and whether nothing lies behind them."""
        first, stop = piece
        names: list[str] = []
        for page in objects.pages(folder, after=after(first) if first else ""):
            names += page
            if stop is not None and page[-1] >= until(stop):
                return names, False
        return names, True

    cut = pieces(ranges, size=size, length=_PIECE)
    with closing(in_order(list_piece, cut, most=_THREADS)) as found:
        for names, over in found:
            yield from names
            if over:
                return


class ChunkListing:
    """Chunk numbers in the folders of one-dimensional arrays, remembered between listings.

    A chunk that was seen counts as settled. Once all are, the whole folder is listed: so one that
    was removed by another process is noticed by whoever believes that nothing is left to do.
    """

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}
        self._order: dict[int, tuple[list[str], dict[str, int]]] = {}

    def names(self, objects: Objects, folder: str, chunks: int) -> list[str]:
        """Names ``c.0`` to ``c.<chunks - 1>`` that are there."""
        seen = self._seen.get(folder, set())
        names, position = self._ordered(chunks)
        at = np.array(sorted(position[name] for name in seen if name in position), dtype=np.int64)
        ranges = unsettled(at, size=chunks)
        if len(at) == chunks or not len(at):
            seen, ranges = set(), [(0, None)]
        found = list_ranges(
            objects,
            folder,
            ranges,
            size=chunks,
            after=lambda i: names[i - 1],
            until=lambda i: names[i],
        )
        seen = {*seen, *(name for name in found if name in position)}
        self._seen[folder] = seen
        return list(seen)

    def forget(self, folder: str, name: str) -> None:
        """Take a name for removed."""
        self._seen.get(folder, set()).discard(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkListing, ()  # another process looks for itself

    def _ordered(self, chunks: int) -> tuple[list[str], dict[str, int]]:
        if chunks not in self._order:
            names = sorted(f"c.{number}" for number in range(chunks))
            self._order = {chunks: (names, {name: at for at, name in enumerate(names)})}
        return self._order[chunks]
