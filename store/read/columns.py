"""Columns of chosen rows: read chunk by chunk, in the order asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged, concatenate, offsets_of
from store.read.indexing import Ints
from store.read.plan import Uniform, pieces, positions
from store.read.source import Source
from store.schema import COLUMN_CHUNK_ROWS

# Columns whose chunks are one block; all others have chunks of COLUMN_CHUNK_ROWS.
_BY_BLOCK = ("nucleotide", "protein")


def take_column(store: Source, name: str, rows: Ints) -> NDArray[Any] | Ragged:
    """Values of a column at ``rows`` (n,), any order, repeats allowed.

    Each chunk that holds one of the rows is read once; strings come as `Ragged`.
    """
    size = store.schema.block_rows if name in _BY_BLOCK else COLUMN_CHUNK_ROWS
    return _take(partial(store.column, name), rows, size=size, n_rows=store.schema.n_rows)


def take_scores(store: Source, name: str, rows: Ints) -> NDArray[np.float32]:
    """Scores kept under a name at ``rows`` (n,), any order, repeats allowed: float32 (n, 2)."""
    read = partial(store.scores, name)
    scores = _take(read, rows, size=COLUMN_CHUNK_ROWS, n_rows=store.schema.n_rows)
    assert not isinstance(scores, Ragged)
    return scores


def _take(
    read: Callable[[int, int], NDArray[Any] | Ragged], rows: Ints, *, size: int, n_rows: int
) -> NDArray[Any] | Ragged:
    """Values at rows of what ``read`` returns by range, in chunks of ``size`` rows."""
    if not len(rows):
        return read(0, 0)
    if (np.diff(rows) == 1).all():
        return read(int(rows[0]), int(rows[-1]) + 1)
    parts: list[Any] = []
    targets: list[Ints] = []
    for piece in pieces(rows, Uniform(size)):
        start = piece.part * size
        values = read(start, min(start + size, n_rows))
        source = positions(piece.source)
        parts.append(take(values, source) if isinstance(values, Ragged) else values[source])
        targets.append(positions(piece.target))
    order = np.concatenate(targets)
    in_order = (np.diff(order) == 1).all()
    if isinstance(parts[0], Ragged):
        strings = concatenate(parts)
        return strings if in_order else take(strings, np.argsort(order))
    numbers: NDArray[Any] = np.concatenate(parts)
    return numbers if in_order else numbers[np.argsort(order)]


class LastChunk:
    """A column read in ranges that each lie in one chunk, of which the one read last is kept.

    Samples are often smaller than a chunk, and each range alone would decode it again.

    Parameters
    ----------
    read
        Reads rows ``start .. stop``; past the end it gives what there is.
    """

    def __init__(self, read: Callable[[int, int], Any]) -> None:
        self._read = read
        self._first = -1
        self._values: Any = None

    def __call__(self, start: int, stop: int) -> Any:
        """Values of rows ``start .. stop``."""
        first = start // COLUMN_CHUNK_ROWS * COLUMN_CHUNK_ROWS
        if first != self._first:
            self._values = self._read(first, first + COLUMN_CHUNK_ROWS)
            self._first = first
        if isinstance(self._values, Ragged):
            return self._values.slice(start - first, stop - first)
        return self._values[start - first : stop - first]


def take(column: Ragged, rows: Ints) -> Ragged:
    """Items of a column at ``rows`` (n,), any order, repeats allowed."""
    lengths = column.lengths[rows]
    offsets = offsets_of(lengths)
    # Byte j of item i comes from where item rows[i] begins, plus j.
    shift = np.repeat(column.offsets[:-1][rows] - offsets[:-1], lengths)
    return Ragged(column.data[np.arange(offsets[-1]) + shift], offsets)


def sample_names(store: Source, codes: NDArray[Any]) -> NDArray[np.object_]:
    """Sample of each code of the column ``sample``, as str, shape (n,)."""
    found, at = np.unique(codes, return_inverse=True)
    names = [store.schema.samples[code].name for code in found.tolist()]
    chosen: NDArray[np.object_] = np.array(names or [""], dtype=object)[at]
    return chosen
