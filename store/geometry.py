"""Rows, chunks and blocks: arithmetic only, no files.

Block ``b`` of a store with N rows and R rows per block holds rows ``bR .. min((b+1)R, N)``. Only
the last block can be partial, and a block is ever partial only if some append ended inside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.samples import StoredSamples
from store.schema import Schema


def n_blocks(n_rows: int, block_rows: int) -> int:
    """Count the blocks that ``n_rows`` rows need."""
    return -(-n_rows // block_rows)


def block_bounds(block: int, n_rows: int, block_rows: int) -> tuple[int, int]:
    """First row and one past the last row of a block; IndexError outside the store."""
    if not 0 <= block < n_blocks(n_rows, block_rows):
        raise IndexError(
            f"block {block} is out of range; number of blocks: {n_blocks(n_rows, block_rows)}"
        )
    return block * block_rows, min((block + 1) * block_rows, n_rows)


def partial_ends(schema: Schema) -> dict[int, set[int]]:
    """Row counts of each block that was the partial tail at some commit.

    All other blocks were published whole: a worker publishes all rows a block has at that time.
    """
    ends: dict[int, set[int]] = {}
    for sample in schema.samples:
        block, rows = divmod(sample.stop, schema.block_rows)
        if rows:
            ends.setdefault(block, set()).add(rows)
    return ends


def tails(schema: Schema) -> set[int]:
    """Blocks that may be filled in part: those that were the partial tail at some commit.

    Where samples are an array the schema keeps the last ones, and earlier ones that were found
    filled in part (`store.counts.without_settled`); the others are filled whole, or not at all.
    """
    if not isinstance(schema.samples, StoredSamples):
        return set(partial_ends(schema))
    last = [schema.n_rows // schema.block_rows] if schema.n_rows % schema.block_rows else []
    return {*schema.tails, *last}


def chunks_of(start: int, stop: int, chunk_rows: int) -> range:
    """Indices of the chunks that rows ``start .. stop`` touch."""
    if stop <= start:
        return range(0)
    return range(start // chunk_rows, -(-stop // chunk_rows))


def rows_wanted(schema: Schema) -> NDArray[np.int64]:
    """Rows of every block, shape (n_blocks,)."""
    blocks = n_blocks(schema.n_rows, schema.block_rows)
    wanted = np.full(blocks, schema.block_rows, dtype=np.int64)
    if blocks:
        wanted[-1] = schema.n_rows - (blocks - 1) * schema.block_rows
    return wanted
