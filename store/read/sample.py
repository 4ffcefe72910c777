"""A few of many, evenly apart: of numbers, and of the records of a store."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.geometry import n_blocks
from store.io.ragged import Ragged, concatenate
from store.read.source import Source


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of the numbers 0 .. n - 1, evenly apart, the first and last among them."""
    if n <= most:
        return np.arange(n)
    return np.unique(np.linspace(0, n - 1, most).round().astype(np.int64))


def spread(store: Source, *, count: int, blocks: int) -> tuple[Ragged, Ragged]:
    """Take about ``count`` records from the beginnings of blocks spread evenly over a store.

    Parameters
    ----------
    store
        The store.
    count
        Records asked for. They are as many from each block, so there may be a few more of them, or
        fewer where a block has not so many.
    blocks
        The most blocks to read.

    Returns
    -------
    tuple of Ragged
        Nucleotide and protein sequences.
    """
    schema = store.schema
    n = n_blocks(schema.n_rows, schema.block_rows)
    starts = evenly(n, blocks) * schema.block_rows
    each = min(-(-count // max(len(starts), 1)), schema.block_rows)
    parts: tuple[list[Ragged], list[Ragged]] = ([], [])
    for start in starts.tolist():
        for part, name in zip(parts, ("nucleotide", "protein"), strict=True):
            column = store.column(name, start, min(start + each, schema.n_rows))
            assert isinstance(column, Ragged)  # a column of strings
            part.append(column)
    return concatenate(parts[0]), concatenate(parts[1])
