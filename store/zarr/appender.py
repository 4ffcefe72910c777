"""Appending rows: everything is staged, moved in at the commit, the root metadata last.

A reader sees the store as of the last root ``zarr.json``. While an append runs, its chunks lie in
a folder of their own beside the store. The commit moves them in, the one chunk per column that
holds committed rows too as a superset, then the metadata of the arrays, then the root's::

    rows      0 ........ N ............ N + n
    chunk 0   [committed | new]              replaced by a superset
    chunk 1              [new        ]       beyond the committed end: no reader gets there
    zarr.json                                of every array, then of the root: the commit

Killed before the root is renamed, the committed N stands, and the next append overwrites what
lies beyond; an error or Ctrl-C until then moves everything back. An appender that was frozen and
lost its lock has written to its own folder only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from store.duplicates import NO_TWIN, Digests, TwinSearch
from store.errors import ClaimLostError, DamageError
from store.geometry import chunks_of
from store.io.files import make_dir, publish_replace
from store.io.ragged import Ragged, concatenate, from_items
from store.layout import ROOT_DOCUMENT, Column, category_column, documents, row_columns
from store.rows import RowBatch
from store.schema import Sample, Schema
from store.zarr.codec import (
    decode_numbers,
    decode_strings,
    encode_numbers,
    encode_strings,
    numpy_dtype,
)
from store.zarr.moves import Moves

_PENDING_CHUNKS = 16  # encoded or being encoded at a time: bounds the memory of an append


class RowWriter:
    """Writes the rows of one sample; nothing is visible until :meth:`commit`.

    Parameters
    ----------
    root
        The store's directory.
    schema
        The committed schema the rows are appended to.
    tmp_dir
        Directory on the same file system for staged files.
    """

    def __init__(self, root: Path, *, schema: Schema, tmp_dir: Path) -> None:
        self._root = root
        self._schema = schema
        self._tmp_dir = tmp_dir
        for leftover in tmp_dir.glob("append-*"):  # of a killed append: the lock is ours now
            shutil.rmtree(leftover, ignore_errors=True)
        self._staging = tmp_dir / f"append-{uuid4().hex}"
        self._staging.mkdir(parents=True)
        self._staged: list[tuple[Path, Path]] = []  # file, and its place in the store
        self._pool = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)))
        self._slots = BoundedSemaphore(_PENDING_CHUNKS)
        self._futures: list[Future[None]] = []
        self._search = TwinSearch(self._staging / "digests", first_row=schema.n_rows)
        self.rows = 0  # rows taken so far
        self._columns: dict[str, _Pending] = {
            name: _pending(column, start=schema.n_rows, old_tail=self._old_tail(column))
            for name, column in row_columns(schema).items()
        }

    def write(self, batch: RowBatch) -> None:
        """Take the next rows."""
        digests = self._search.add(batch.nucleotide, batch.protein)
        made = {
            "sample": np.full(len(batch), len(self._schema.samples), dtype=np.int32),
            "digest": digests[:, 0],
            "digest_low": digests[:, 1],
        }
        for name in self._columns:
            if name != "twin":  # known when all rows are
                self._add(name, made[name] if name in made else getattr(batch, name))
        self.rows += len(batch)

    def commit(self, sample: Sample, *, still_mine: Callable[[], None]) -> Schema:
        """Make the rows visible as ``sample`` and return the new schema.

        Parameters
        ----------
        sample
            The sample; its ``start`` and ``stop`` must fit the rows written, its ``repeats``
            are counted here.
        still_mine
            Called right before the commit; raises if the appender's lock was lost.
        """
        twins = self._search.twins(self._old_digests)
        self._add("twin", twins)
        repeats = int(np.count_nonzero(twins != NO_TWIN))
        schema = self._schema.with_sample(replace(sample, repeats=repeats))
        if sample.stop - sample.start != self.rows:
            raise AssertionError(f"{sample.stop - sample.start} rows promised, {self.rows} written")
        for pending in self._columns.values():
            rest = pending.last_chunk()
            if rest is not None:
                self._submit(pending.column, *rest)
        self._drain(keep=0)
        self._pool.shutdown()
        self._move_in(schema, still_mine)
        shutil.rmtree(self._staging, ignore_errors=True)
        return schema

    def abort(self) -> None:
        """Drop the rows; the store was not touched."""
        for future in self._futures:
            future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._staging, ignore_errors=True)

    def _move_in(self, schema: Schema, still_mine: Callable[[], None]) -> None:
        """Move chunks and metadata in, the root last; on any error before that, back again."""
        root = self._root / ROOT_DOCUMENT
        before = root.read_bytes()
        moves = Moves(self._staging)
        self._stage(*categories(schema))
        old, new = documents(self._schema), documents(schema)
        for name, content in new.items():
            if name != ROOT_DOCUMENT and old[name] != content:
                self._stage(name, content)
        try:
            for staged, place in self._staged:
                still_mine()
                moves.move(staged, place)
            moves.sync()
            still_mine()
            publish_replace(self._tmp_dir, root, [new[ROOT_DOCUMENT]])
        except BaseException:
            # Once the root is renamed the rows are committed, whatever came after. And if the
            # lock is lost, another appender's files may lie where ours did.
            if root.read_bytes() == before:
                with suppress(ClaimLostError):
                    still_mine()
                    moves.undo()
            raise

    def _stage(self, name: str, content: bytes) -> None:
        staged = self._staging / f"{len(self._staged)}"
        self._staged.append((staged, self._root / name))
        publish_replace(self._staging, staged, [content])

    def _add(self, name: str, values: Any) -> None:
        pending = self._columns[name]
        pending.add(values)
        for chunk, encode in pending.full_chunks():
            self._submit(pending.column, chunk, encode)

    def _old_digests(self) -> Iterator[tuple[int, Digests]]:
        """Yield the digests of the committed rows, a chunk at a time."""
        columns = row_columns(self._schema)
        high, low = columns["digest"], columns["digest_low"]
        rows = high.chunk[0]
        for chunk in chunks_of(0, self._schema.n_rows, rows):
            count = min(rows, self._schema.n_rows - chunk * rows)
            parts = []
            for column in (high, low):
                name = column.chunk_key(chunk)
                try:
                    values = decode_numbers((self._root / name).read_bytes(), column=column)
                except (DamageError, FileNotFoundError) as error:
                    raise DamageError(f"{name}: {error}; run 'vnp verify' on the store") from None
                parts.append(values[:count])
            yield chunk * rows, np.stack(parts, axis=1)

    def _old_tail(self, column: Column) -> bytes | None:
        """Return the chunk that committed rows share with the first new row, if there is one."""
        start, rows = self._schema.n_rows, column.chunk[0]
        if start % rows == 0:
            return None
        return (self._root / column.chunk_key(start // rows)).read_bytes()

    def _submit(self, column: Column, chunk: int, encode: Callable[[], bytes]) -> None:
        path = self._staging / f"{len(self._staged)}"
        self._staged.append((path, self._root / column.chunk_key(chunk)))
        self._slots.acquire()
        future = self._pool.submit(self._write, path, encode)
        self._futures.append(future)
        self._drain(keep=_PENDING_CHUNKS)

    def _write(self, path: Path, encode: Callable[[], bytes]) -> None:
        try:
            publish_replace(self._staging, path, [encode()])
        finally:
            self._slots.release()

    def _drain(self, *, keep: int) -> None:
        """Surface errors of finished writes; wait until at most ``keep`` are left."""
        while self._futures and (len(self._futures) > keep or self._futures[0].done()):
            self._futures.pop(0).result()


def write_documents(root: Path, *, before: Schema | None, after: Schema, tmp_dir: Path) -> None:
    """Write every ``zarr.json`` that the change of schema touches, the root last."""
    old = documents(before) if before is not None else {}
    new = documents(after)
    for name, content in new.items():  # the root is last in the mapping
        if old.get(name) != content:
            path = root / name
            make_dir(path.parent)
            publish_replace(tmp_dir, path, [content])


def categories(schema: Schema) -> tuple[str, bytes]:
    """Name and content of the chunk of sample names that the schema's last sample falls in."""
    column = category_column(schema)
    rows = column.chunk[0]
    chunk = (len(schema.samples) - 1) // rows
    names = [sample.name.encode() for sample in schema.samples[chunk * rows :]]
    return column.chunk_key(chunk), encode_strings(from_items(names), column=column)


class _Pending(Protocol):
    """Rows of one column on their way to chunks."""

    column: Column

    def add(self, values: Any) -> None: ...
    def full_chunks(self) -> list[tuple[int, Callable[[], bytes]]]: ...
    def last_chunk(self) -> tuple[int, Callable[[], bytes]] | None: ...


def _pending(column: Column, *, start: int, old_tail: bytes | None) -> _Pending:
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
        self._full: list[tuple[int, Callable[[], bytes]]] = []
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

    def full_chunks(self) -> list[tuple[int, Callable[[], bytes]]]:
        full, self._full = self._full, []
        return full

    def last_chunk(self) -> tuple[int, Callable[[], bytes]] | None:
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
        self._full: list[tuple[int, Callable[[], bytes]]] = []
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

    def full_chunks(self) -> list[tuple[int, Callable[[], bytes]]]:
        full, self._full = self._full, []
        return full

    def last_chunk(self) -> tuple[int, Callable[[], bytes]] | None:
        if self._rows == 0:
            return None
        self._cut()
        return self._full.pop()

    def _cut(self) -> None:
        parts, column = self._parts, self.column
        self._full.append((self._chunk, lambda: encode_strings(concatenate(parts), column=column)))
        self._parts, self._rows = [], 0
        self._chunk += 1
