"""Rows of the appender's columns on their way to chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.io.ragged import Ragged
from store.layout import Column
from store.zarr.codec import (
    decode_numbers,
    decode_strings,
    encode_numbers,
    encode_strings,
    numpy_dtype,
)

Chunk: TypeAlias = tuple[int, Callable[[], bytes]]  # its number, and what encodes it


class Pending(Protocol):
    """Rows of one column on their way to chunks."""

    column: Column

    def add(self, values: Any) -> None:
        """Take the next rows."""

    def full_chunks(self) -> list[Chunk]:
        """Give away the chunks that are full."""

    def last_chunk(self) -> Chunk | None:
        """Give away the rows that are left."""


def pending(column: Column, *, start: int, old_tail: bytes | None) -> Pending:
    """Begin at row ``start``; ``old_tail`` is the chunk that earlier rows share with it."""
    kind = _PendingStrings if column.dtype == "string" else _PendingNumbers
    try:
        return kind(column, start, old_tail)
    except DamageError as error:
        where = column.chunk_key(start // column.chunk[0])
        raise DamageError(f"{where}: {error}; run 'vnp verify' on the store") from None


class _PendingNumbers:
    def __init__(self, column: Column, start: int, old_tail: bytes | None) -> None:
        self.column = column
        self._chunk = start // column.chunk[0]
        self._buffer = np.empty(column.chunk[0], dtype=numpy_dtype(column))
        self._fill = start % column.chunk[0]
        self._full: list[Chunk] = []
        if old_tail is not None:
            self._buffer[: self._fill] = decode_numbers(old_tail, column=column)[: self._fill]

    def add(self, values: NDArray[Any]) -> None:
        taken = 0
        while taken < len(values):
            take = min(len(values) - taken, len(self._buffer) - self._fill)
            self._buffer[self._fill : self._fill + take] = values[taken : taken + take]
            self._fill += take
            taken += take
            if self._fill == len(self._buffer):
                self._cut()

    def full_chunks(self) -> list[Chunk]:
        full, self._full = self._full, []
        return full

    def last_chunk(self) -> Chunk | None:
        if self._fill == 0:
            return None
        self._buffer = self._buffer[: self._fill]
        self._cut()
        return self._full.pop()

    def _cut(self) -> None:
        values, column = self._buffer, self.column
        self._full.append((self._chunk, lambda: encode_numbers(values, column=column)))
        self._buffer = np.empty(column.chunk[0], dtype=values.dtype)
        self._chunk += 1
        self._fill = 0


class _PendingStrings:
    def __init__(self, column: Column, start: int, old_tail: bytes | None) -> None:
        self.column = column
        self._chunk = start // column.chunk[0]
        self._parts: list[Ragged] = []
        self._rows = 0
        self._full: list[Chunk] = []
        if old_tail is not None:
            old = decode_strings(old_tail, column=column)
            self._parts.append(old.slice(0, start % column.chunk[0]))
            self._rows = len(self._parts[0])

    def add(self, values: Ragged) -> None:
        rows = self.column.chunk[0]
        taken = 0
        while self._rows + len(values) - taken >= rows:
            take = rows - self._rows
            self._parts.append(values.slice(taken, taken + take))
            taken += take
            self._cut()
        if taken < len(values):
            self._parts.append(values.slice(taken, len(values)))
            self._rows += len(values) - taken

    def full_chunks(self) -> list[Chunk]:
        full, self._full = self._full, []
        return full

    def last_chunk(self) -> Chunk | None:
        if self._rows == 0:
            return None
        self._cut()
        return self._full.pop()

    def _cut(self) -> None:
        parts, column = self._parts, self.column
        self._full.append((self._chunk, lambda: encode_strings(*parts, column=column)))
        self._parts, self._rows = [], 0
        self._chunk += 1
