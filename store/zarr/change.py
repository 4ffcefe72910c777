"""A change of a Zarr tree: which chunks it writes, wherever they go.

Chunks are encoded and written by threads while rows still come in; what a transaction does with
them, and how its commit is made, is the backend's (`store.zarr.transaction`, `store.s3`).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.geometry import chunks_of
from store.io.concurrent import processors
from store.io.ragged import from_items
from store.layout import (
    Column,
    all_columns,
    category_column,
    row_columns,
    samples_column,
    score_columns,
)
from store.samples import StoredSamples
from store.schema import Schema
from store.zarr.cells import ZarrTree
from store.zarr.codec import encode_numbers, encode_strings
from store.zarr.columns import Pending, pending
from store.zarr.metadata import ROOT_DOCUMENT, documents

_WAITING = 6  # threads that wait for a disk or a server while others encode
_PENDING_CHUNKS = 16  # encoded or being encoded at a time: bounds the memory of an append


class ZarrChange(abc.ABC):
    """What is common to a change of every Zarr tree; see `store.backend.Transaction`."""

    def __init__(self, tree: ZarrTree, *, guard: Callable[[], None]) -> None:
        self._tree = tree
        self._schema = tree.schema
        self._guard = guard
        cores = processors()
        self._pool = ThreadPoolExecutor(max_workers=min(cores + _WAITING, _PENDING_CHUNKS))
        self._slots = BoundedSemaphore(_PENDING_CHUNKS)
        self._futures: list[Future[None]] = []
        self._columns = row_columns(self._schema)
        self._pending: dict[str, Pending] = {}

    @abc.abstractmethod
    def _writer(self, key: str) -> Callable[[bytes], None]:
        """Return what writes a chunk, or metadata, where the commit finds it."""

    def append(self, name: str, values: Any) -> None:
        """Add values to the end of a row column."""
        column = self._columns[name]
        if name not in self._pending:
            start = self._schema.n_rows
            old_tail = None
            if start % column.chunk[0]:
                old_tail = self._old_chunk(column, start // column.chunk[0])
            self._pending[name] = pending(column, start=start, old_tail=old_tail)
        rows = self._pending[name]
        rows.add(values)
        for chunk, encode in rows.full_chunks():
            self._submit(column.chunk_key(chunk), encode)

    def write_scores(
        self,
        name: str,
        values: NDArray[np.float32],
        ranges: Iterable[tuple[int, int]],
        *,
        kept: int,
    ) -> None:
        """Stage the chunks of scores that change; a chunk is read only if rows of it are kept."""
        ranges = list(ranges)
        covered = max([kept, *(stop for _, stop in ranges)])
        for at, column in enumerate(score_columns(self._schema, name)):
            size = column.chunk[0]
            for chunk in chunks_of(0, covered, size):
                first = chunk * size
                parts = [(max(a - first, 0), min(b - first, size)) for a, b in ranges]
                parts = [(start, stop) for start, stop in parts if start < stop]
                old = min(max(kept - first, 0), size)
                again = sum(max(min(stop, old) - start, 0) for start, stop in parts)
                if old > 0 and not parts:
                    continue
                held = np.full(size, np.nan, np.float32)
                if old > again:
                    held = self._tree.read_scores_chunk(column, chunk).copy()
                for start, stop in parts:
                    held[start:stop] = values[first + start : first + stop, at]
                self._stage(column.chunk_key(chunk), encode_numbers(held, column=column))

    # -- for the commit -------------------------------------------------------------------------

    def _finish_chunks(self) -> None:
        """Write the chunks that are not full, and wait for all that are being written."""
        for name, rows in self._pending.items():
            rest = rows.last_chunk()
            if rest is not None:
                self._submit(self._columns[name].chunk_key(rest[0]), rest[1])
        self._drain(keep=0)
        self._pool.shutdown()

    def _stage_samples(self, schema: Schema) -> None:
        """Stage the chunks that new samples fall in, if there are any."""
        if schema.samples != self._schema.samples:
            for key, content in sample_chunks(schema, had=len(self._schema.samples)):
                self._stage(key, content)

    def _cancel(self) -> None:
        """Stop writing chunks."""
        for future in self._futures:
            future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _old_chunk(self, column: Column, chunk: int) -> bytes:
        """Return the chunk that committed rows share with the first new row."""
        return self._tree.read_file(column.chunk_key(chunk), column=column)

    def _stage(self, key: str, content: bytes) -> None:
        self._writer(key)(content)

    def _submit(self, key: str, encode: Callable[[], bytes]) -> None:
        write = self._writer(key)

        def encode_and_write() -> None:
            try:
                write(encode())
            finally:
                self._slots.release()

        self._slots.acquire()
        self._futures.append(self._pool.submit(encode_and_write))
        self._drain(keep=_PENDING_CHUNKS)

    def _drain(self, *, keep: int) -> None:
        """Surface errors of finished writes; wait until at most ``keep`` are left."""
        while self._futures and (len(self._futures) > keep or self._futures[0].done()):
            self._futures.pop(0).result()


def new_columns(before: Schema, after: Schema) -> list[Column]:
    """Arrays that one schema has and an earlier one has not."""
    listed = {column.path for column in all_columns(before)}
    return [column for column in all_columns(after) if column.path not in listed]


def changed_documents(before: Schema, after: Schema) -> dict[str, bytes]:
    """Metadata of arrays and groups that a change of schema touches, all but the root's."""
    old, new = documents(before), documents(after)
    return {
        name: content
        for name, content in new.items()
        if name != ROOT_DOCUMENT and old.get(name) != content
    }


def replaced_scores(before: Schema, after: Schema) -> list[str]:
    """Names of scores whose classifier another one replaces."""
    digests = {scores.name: scores.digest for scores in after.scores}
    return [old.name for old in before.scores if digests.get(old.name) != old.digest]


def sample_chunks(schema: Schema, *, had: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of the chunks that samples from number ``had`` on fall in."""
    column, samples = category_column(schema), schema.samples
    rows = column.chunk[0]
    for chunk in chunks_of(had, len(samples), rows):
        names = [each.name.encode() for each in samples[chunk * rows : (chunk + 1) * rows]]
        yield column.chunk_key(chunk), encode_strings(from_items(names), column=column)
    if isinstance(samples, StoredSamples):
        column = samples_column(schema)
        for chunk in chunks_of(had, len(samples), column.chunk[0]):
            yield column.chunk_key(chunk), encode_strings(samples.texts(chunk), column=column)
