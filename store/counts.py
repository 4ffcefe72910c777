"""How many rows of a block are filled: from one listing, and the flags of a few blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from store.backend import Backend, Cell, Part
from store.errors import DamageError
from store.geometry import block_bounds, n_blocks, rows_wanted, tails
from store.schema import Schema

_TAILS = 64  # that a schema keeps in any case
_LISTED = 32  # blocks that a listing tells of in the time that reading the flags of one takes


def filled_of_block(backend: Backend, model: str, block: int) -> int:
    """Filled rows of a block, its first ones, capped at the rows the schema knows."""
    start, stop = bounds_of(backend.schema, block)
    return min(filled_rows(backend, Cell(Part.FILLED, model, block)), stop - start)


def rows_filled(backend: Backend, model: str, among: range | None = None) -> NDArray[np.int64]:
    """Filled rows of every block, or of those ``among``; damaged flags count as no rows.

    A worker publishes all the rows a block has, so a block with a filled row is finished unless it
    is one of the `store.geometry.tails`: of these few the flags are read. So they are of a few
    blocks, for which listing all is not worth while.
    """
    schema = backend.schema
    total = n_blocks(schema.n_rows, schema.block_rows)
    if among is not None:
        if len(among) * _LISTED > total:
            return rows_filled(backend, model)[among.start : among.stop]
        return np.array([_counted(backend, model, block) for block in among], dtype=np.int64)
    flagged = backend.flagged(model)
    flagged = flagged[flagged < total]
    filled = np.zeros(total, dtype=np.int64)
    filled[flagged] = rows_wanted(schema)[flagged]
    for block in sorted(tails(schema)):
        if block < total and filled[block]:
            filled[block] = _counted(backend, model, block)
    return filled


def _counted(backend: Backend, model: str, block: int) -> int:
    try:
        return filled_of_block(backend, model, block)
    except DamageError:
        return 0


def without_settled(backend: Backend, schema: Schema) -> Schema:
    """Return a schema to commit, without early tails that need not be looked into any more.

    The last ones stay: a worker that knows an earlier commit may yet fill one of them in part. Of
    those before, one stays while a model fills it in part, or its flags are damaged. (Of one that
    is filled in part by a worker that slept through `_TAILS` appends, certifying finds it.)
    """
    known = schema.tails
    early = known[: max(len(known) - _TAILS, 0)]
    kept = tuple(block for block in early if not _is_settled(backend, block))
    return replace(schema, tails=kept + known[len(early) :])


def _is_settled(backend: Backend, block: int) -> bool:
    start, stop = bounds_of(backend.schema, block)
    cells = [Cell(Part.FILLED, model.name, block) for model in backend.schema.models]
    return all(rows_or_none(backend, cell) in (0, stop - start) for cell in cells)


def bounds_of(schema: Schema, block: int) -> tuple[int, int]:
    """First row of a block, and one past its last."""
    return block_bounds(block, schema.n_rows, schema.block_rows)


def filled_rows(backend: Backend, cell: Cell) -> int:
    """Count the rows that are flagged: always the first ones."""
    flags = backend.read(cell)
    if flags is None:
        return 0
    count = len(flags) - flags.count(0)
    if flags[:count] != b"\1" * count:
        raise DamageError("filled rows have a hole, or are not booleans")
    return count


def rows_or_none(backend: Backend, cell: Cell) -> int | None:
    """Count the same; None if the flags are damaged."""
    try:
        return filled_rows(backend, cell)
    except DamageError:
        return None
