"""The first rows of each block, numbered without gaps: certified rows, at two numbers a block.

Blocks are filled from their first row, so which rows are certified is one number a block. A mask
takes a byte a row and row numbers take eight, gigabytes where a store has a billion::

    blocks of 4 rows   [0 1 2 3] [4 5 . .] [. . . .] [12 13 14 15]
    position            0 1 2 3   4 5                 6  7  8  9
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.read.indexing import Ints


class FirstRows:
    """Rows ``b * block_rows .. b * block_rows + counts[b]`` of every block b, ascending.

    Parameters
    ----------
    counts
        First rows of each block that are in, shape (n_blocks,).
    """

    def __init__(self, counts: Ints, *, block_rows: int) -> None:
        self.counts = counts
        self.block_rows = block_rows
        self._before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def rows(self, positions: Ints) -> Ints:
        """Row at each position (n,), which must be 0 or more and less than the length."""
        block = np.searchsorted(self._before, positions, side="right") - 1
        rows: Ints = block * self.block_rows + positions - self._before[block]
        return rows

    def span(self, start: int, stop: int) -> Ints:
        """Rows at positions ``start .. stop``."""
        return self.rows(np.arange(start, stop))

    def before(self, row: int) -> int:
        """How many of them are below a row: the position of the first that is not."""
        block, inside = divmod(row, self.block_rows)
        if block >= len(self.counts):
            return len(self)
        return int(self._before[block]) + min(inside, int(self.counts[block]))

    def between(self, start: int, stop: int) -> int:
        """How many of them are in rows ``start .. stop``."""
        return self.before(stop) - self.before(start)

    def holds(self, rows: Ints) -> NDArray[np.bool_]:
        """Whether each row (n,) is one of them."""
        found: NDArray[np.bool_] = rows % self.block_rows < self.counts[rows // self.block_rows]
        return found

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Whether each row of ``start .. stop`` is one of them."""
        size = self.block_rows
        first, last = start // size, -(-stop // size)
        found = np.arange(size) < self.counts[first:last, None]
        return found.ravel()[start - first * size : stop - first * size]

    def runs(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Rows ``start .. stop`` that are in, as first row and one past the last, ascending."""
        size = self.block_rows
        block = np.arange(start // size, min(-(-stop // size), len(self.counts)))
        begin = np.maximum(block * size, start)
        end = np.minimum(block * size + self.counts[block], stop)
        begin, end = begin[end > begin], end[end > begin]
        gap = begin[1:] != end[:-1]
        first = begin[np.concatenate([[True], gap])] if len(begin) else begin
        last = end[np.concatenate([gap, [True]])] if len(end) else end
        return list(zip(first.tolist(), last.tolist(), strict=True))
