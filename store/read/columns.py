"""Columns of chosen rows: read chunk by chunk, in the order asked."""

from __future__ import annotations

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
    schema = store.schema
    size = schema.block_rows if name in _BY_BLOCK else COLUMN_CHUNK_ROWS
    if len(rows) and (np.diff(rows) == 1).all():
        return store.column(name, int(rows[0]), int(rows[-1]) + 1)
    parts: list[NDArray[Any] | Ragged] = []
    targets = [np.empty(0, np.int64)]
    for piece in pieces(rows, Uniform(size)):
        start = piece.part * size
        values = store.column(name, start, min(start + size, schema.n_rows))
        source = positions(piece.source)
        parts.append(take(values, source) if isinstance(values, Ragged) else values[source])
        targets.append(positions(piece.target))
    if not parts:
        return store.column(name, 0, 0)
    back = np.empty(len(rows), dtype=np.int64)
    back[np.concatenate(targets)] = np.arange(len(rows))
    strings = [part for part in parts if isinstance(part, Ragged)]
    if strings:
        joined = concatenate(strings)
        return joined if _is_identity(back) else take(joined, back)
    numbers = [part for part in parts if not isinstance(part, Ragged)]
    return np.concatenate(numbers)[back]


def take(column: Ragged, rows: Ints) -> Ragged:
    """Items of a column at ``rows`` (n,), any order, repeats allowed."""
    lengths = column.lengths[rows]
    offsets = offsets_of(lengths)
    # Byte j of item i comes from where item rows[i] begins, plus j.
    shift = np.repeat(column.offsets[:-1][rows] - offsets[:-1], lengths)
    return Ragged(column.data[np.arange(offsets[-1]) + shift], offsets)


def sample_names(store: Source, codes: NDArray[Any]) -> NDArray[np.object_]:
    """Sample of each code of the column ``sample``, as str, shape (n,)."""
    names = np.array([sample.name for sample in store.schema.samples] or [""], dtype=object)
    chosen: NDArray[np.object_] = names[codes]
    return chosen


def _is_identity(order: Ints) -> bool:
    return bool((order == np.arange(len(order))).all())
