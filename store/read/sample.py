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
    """Nucleotide and protein sequences of about ``count`` records, spread evenly over a store.

    They are the first records of at most ``blocks`` blocks, as many of each, so there may be a few
    more than asked for, or fewer where a block has not so many.
    """
    schema = store.schema
    n = n_blocks(schema.n_rows, schema.block_rows)
    starts = evenly(n, blocks) * schema.block_rows
    each = min(-(-count // max(len(starts), 1)), schema.block_rows)

    def strings(name: str) -> Ragged:
        parts = []
        for start in starts.tolist():
            column = store.column(name, start, min(start + each, schema.n_rows))
            assert isinstance(column, Ragged)  # a column of strings
            parts.append(column)
        return concatenate(parts)

    return strings("nucleotide"), strings("protein")
