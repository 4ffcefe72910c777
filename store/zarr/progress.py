"""Which blocks are finished: from one directory listing, without reading 25,000 files.

A worker publishes all the rows a block has, so a block whose ``filled`` chunk exists is finished
unless it was a partial tail at some commit; only those few chunks are read.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.geometry import block_bounds, n_blocks, once_partial
from store.layout import filled_column
from store.schema import Schema
from store.zarr.blocks import block_files, filled_rows


def chunk_indices(directory: Path) -> NDArray[np.int64]:
    """First index of every chunk file in an array's directory, in no order."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return np.empty(0, np.int64)
    keys = [name[2:].partition(".")[0] for name in names if name.startswith("c.")]
    return np.array([int(key) for key in keys if key.isdecimal()], dtype=np.int64)


def rows_filled(root: Path, *, schema: Schema, model: str) -> NDArray[np.int64]:
    """Filled rows of every block, shape (n_blocks,).

    A damaged ``filled`` chunk counts as no rows.
    """
    blocks = n_blocks(schema.n_rows, schema.block_rows)
    filled = np.zeros(blocks, dtype=np.int64)
    column = filled_column(schema, schema.model(model))
    present = chunk_indices(root / column.path)
    present = present[present < blocks]
    filled[present] = schema.block_rows
    if blocks and filled[-1]:
        start, stop = block_bounds(blocks - 1, schema.n_rows, schema.block_rows)
        filled[-1] = stop - start
    partial = once_partial((sample.stop for sample in schema.samples), schema.block_rows)
    for block in partial.intersection(present.tolist()):
        try:
            filled[block] = filled_of_block(root, schema=schema, model=model, block=block)
        except DamageError:
            filled[block] = 0
    return filled


def filled_of_block(root: Path, *, schema: Schema, model: str, block: int) -> int:
    """Filled rows of one block, capped at the rows the schema knows.

    Raises
    ------
    DamageError
        If its ``filled`` chunk is damaged.
    """
    start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
    files = block_files(root, schema=schema, model=model, block=block)
    return min(filled_rows(files), stop - start)
