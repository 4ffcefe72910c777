"""Some records of a store, from all over it."""

from __future__ import annotations

import numpy as np

from store.io.ragged import Ragged, concatenate
from store.store import Store


def spread(store: Store, *, count: int, blocks: int) -> tuple[Ragged, Ragged]:
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
    chosen = np.unique(np.linspace(0, max(store.n_blocks - 1, 0), blocks).astype(int))
    parts: tuple[list[Ragged], list[Ragged]] = ([], [])
    for block in chosen[: store.n_blocks].tolist():
        for part, column in zip(parts, store.sequences(block), strict=True):
            part.append(column.slice(0, min(-(-count // len(chosen)), len(column))))
    return concatenate(parts[0]), concatenate(parts[1])
