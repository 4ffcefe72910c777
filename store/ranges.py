"""Reading ranges of rows, whichever chunks and blocks they lie in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import blocks, counts
from store.backend import Backend, Rows
from store.errors import DamageError, UsageError
from store.geometry import chunks_of
from store.io.concurrent import in_order
from store.io.ragged import Ragged, concatenate
from store.io.words import count
from store.layout import row_columns

_THREADS = 8  # at most, that read blocks concurrently
_THREADED_BYTES = 1 << 20  # of a block; reading less is faster than handing it to a thread


def column_range(backend: Backend, name: str, start: int, stop: int) -> NDArray[Any] | Ragged:
    """Values of a column in rows ``start .. stop``; `store.store.Store.column` says more."""
    columns = row_columns(backend.schema)
    if name not in columns:
        raise UsageError(f"no column {name!r} (there are: {', '.join(columns)})")
    rows = backend.column_rows(name)
    strings: list[Ragged] = []
    numbers: list[NDArray[Any]] = []
    for chunk in chunks_of(start, stop, rows):
        first, last = max(start - chunk * rows, 0), min(stop - chunk * rows, rows)
        values = backend.read_column(name, chunk, last)
        if isinstance(values, Ragged):
            strings.append(values.slice(first, last))
        else:
            numbers.append(values[first:last])
    if columns[name].dtype == "string":
        return concatenate(strings)
    return np.concatenate(numbers) if numbers else np.empty(0, dtype=columns[name].dtype)


def embedding_range(backend: Backend, model: str, start: int, stop: int) -> Rows:
    """Embeddings of rows ``start .. stop``; `store.store.Store.read` says more."""
    schema = backend.schema
    if not 0 <= start <= schema.n_rows:
        raise UsageError(f"row {start} of a store with {count(schema.n_rows, 'row')}")
    dim = schema.model(model).dim
    out = np.empty((max(stop - start, 0), dim), dtype=np.float16)
    rows = schema.block_rows
    wanted = chunks_of(start, stop, rows)

    def read(block: int) -> None:
        try:
            filled = counts.filled_of_block(backend, model, block)
        except DamageError as error:
            raise DamageError(f"{model} block {block}: filled: {error}; run 'vnp verify'") from None
        begin = block * rows
        first, stop_here = max(start, begin), min(stop, begin + rows)
        last = max(min(stop_here, begin + filled), first)
        out[last - start : stop_here - start] = np.nan
        if first == last:
            return
        part = out[first - start : last - start]
        try:
            blocks.read_rows(backend, model, block, filled, first=first - begin, out=part)
        except DamageError as error:
            raise DamageError(f"{model} block {block}: {error}; run 'vnp verify'") from None

    large = len(wanted) > 1 and out.nbytes >= _THREADED_BYTES * len(wanted)
    for _ in in_order(read, wanted, threads=min(_THREADS, len(wanted)) if large else 1):
        pass
    return out
