"""A backend that keeps everything in memory: what the port asks for, and nothing more.

Atomic cells, a commit that replaces one reference, no file, no rename, no link: much like object
storage. ``new`` and ``open`` find a store again by its path within one process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.backend import Cell, Part, Rows, Values
from store.errors import DamageError, NotAStoreError, UsageError
from store.findings import Finding
from store.io.ragged import Ragged, concatenate
from store.layout import row_columns
from store.schema import Schema
from store.sidecar import sidecar_of

CHUNK = 24  # rows of a chunk: neither a block nor a multiple of one
CRC_BYTES = 4


@dataclass(frozen=True)
class Commit:
    """What one commit makes visible."""

    schema: Schema
    columns: dict[str, Values]
    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass
class Bucket:
    """What is kept of one store."""

    commit: Commit
    cells: dict[Cell, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


BUCKETS: dict[Path, Bucket] = {}


class MemoryBackend:
    trouble = ""
    checks_itself = True  # values begin with their CRC-32C

    def __init__(self, path: Path, bucket: Bucket) -> None:
        self.path = path
        self.sidecar = sidecar_of(path)
        self._bucket = bucket
        self._commit = bucket.commit
        self.schema = bucket.commit.schema

    @classmethod
    def new(cls, path: Path, schema: Schema) -> Self:
        if path in BUCKETS:
            raise UsageError(f"{path} exists already")
        columns: dict[str, Values] = {
            name: concatenate([]) if column.dtype == "string" else np.empty(0, column.dtype)
            for name, column in row_columns(schema).items()
        }
        BUCKETS[path] = Bucket(Commit(schema, columns))
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        if path not in BUCKETS:
            raise NotAStoreError(f"{path} is not in memory; make one with 'vnp init'")
        return cls(path, BUCKETS[path])

    # -- commits ------------------------------------------------------------------------------

    def newest(self, *, locked: bool = False) -> Self:
        same = self._bucket.commit is self._commit
        return self if same else type(self)(self.path, self._bucket)

    def begin(self, guard: Callable[[], None]) -> MemoryTransaction:
        return MemoryTransaction(self._bucket, guard)

    def repair(self, finding: Finding) -> None:
        """Nothing to do: there is nothing but the schema, rows and cells."""

    # -- rows, read ---------------------------------------------------------------------------

    def column_rows(self, name: str) -> int:
        return CHUNK

    def read_column(self, name: str, chunk: int, rows: int) -> Values:
        values = self._commit.columns[name]
        start, stop = chunk * CHUNK, chunk * CHUNK + rows
        return values.slice(start, stop) if isinstance(values, Ragged) else values[start:stop]

    def read_scores(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        return _grown(self._commit.scores[name], self.schema.n_rows)[start:stop]

    # -- cells --------------------------------------------------------------------------------

    def encode(self, model: str, values: Rows) -> tuple[bytes, str]:
        body = np.ascontiguousarray(values, "<f2").tobytes()
        crc = google_crc32c.value(body)
        return crc.to_bytes(CRC_BYTES, "big") + body, f"{crc:08x}"

    def create(self, cell: Cell, content: bytes) -> bool:
        with self._bucket.lock:
            if cell in self._bucket.cells:
                return False
            self._bucket.cells[cell] = content
            return True

    def replace(self, cell: Cell, content: bytes) -> None:
        self._bucket.cells[cell] = content

    def remove(self, cell: Cell) -> None:
        self._bucket.cells.pop(cell, None)

    def read(self, cell: Cell) -> bytes | None:
        return self._bucket.cells.get(cell)

    def read_values(self, cell: Cell, rows: int) -> tuple[Rows, str] | None:
        content = self._bucket.cells.get(cell)
        if content is None:
            return None
        crc, body = content[:CRC_BYTES].hex(), content[CRC_BYTES:]
        if f"{google_crc32c.value(body):08x}" != crc:
            raise DamageError(f"{self.name(cell)}: checksum does not match")
        return np.frombuffer(body, "<f2").reshape(-1, self.schema.model(cell.model).dim), crc

    def read_rows(self, cell: Cell, rows: int, first: int, out: Rows) -> str | None:
        return None  # `read_values` does it

    def checksum(self, cell: Cell, rows: int) -> str | None:
        content = self._bucket.cells.get(cell)
        return None if content is None else content[:CRC_BYTES].hex()

    def flagged(self, model: str) -> NDArray[np.int64]:
        cells = list(self._bucket.cells)
        found = [c.block for c in cells if c.part is Part.FILLED and c.model == model]
        return np.array(found, dtype=np.int64)

    # -- for people ---------------------------------------------------------------------------

    def name(self, cell: Cell) -> str:
        return f"{cell.part}/{cell.model}/{cell.block}"

    def values_file(self, cell: Cell) -> None:
        return None

    def verify(self) -> Iterator[Finding]:
        return iter(())


class MemoryTransaction:
    def __init__(self, bucket: Bucket, guard: Callable[[], None]) -> None:
        self._bucket = bucket
        self._guard = guard
        self._columns: dict[str, list[Any]] = {
            name: [values] for name, values in bucket.commit.columns.items()
        }
        self._scores = dict(bucket.commit.scores)

    def append(self, name: str, values: Values) -> None:
        self._columns[name].append(values)

    def write_scores(
        self,
        name: str,
        values: NDArray[np.float32],
        ranges: Iterable[tuple[int, int]],
        *,
        kept: int,
    ) -> None:
        rows = self._bucket.commit.schema.n_rows
        old = self._scores.get(name, np.empty((0, 2), np.float32))[:kept]
        scores = _grown(old, rows)
        for start, stop in ranges:
            scores[start:stop] = values[start:stop]
        self._scores[name] = scores

    def commit(self, schema: Schema) -> None:
        columns: dict[str, Values] = {
            name: concatenate(parts) if isinstance(parts[0], Ragged) else np.concatenate(parts)
            for name, parts in self._columns.items()
        }
        assert {len(values) for values in columns.values()} == {schema.n_rows}
        self._guard()
        self._bucket.commit = Commit(schema, columns, self._scores)

    def abort(self) -> None:
        """Nothing to do: whatever was written is dropped with this object."""


def _grown(scores: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    out = np.full((rows, 2), np.nan, np.float32)
    out[: len(scores)] = scores
    return out
