"""A change of a Zarr store: everything is staged, moved in at the commit, the root metadata last.

While an append runs, its chunks lie in a folder beside the store. The commit moves them in, then
the metadata of the arrays, then the root's::

    rows      0 ........ N ............ N + n
    chunk 0   [committed | new]              replaced by a superset
    chunk 1              [new        ]       beyond the committed end: no reader gets there
    zarr.json                                of every array, then of the root: the commit

Killed before the root is renamed, the committed N is what counts, and the next change (or repair)
undoes what was moved; an error or Ctrl-C until then moves everything back. An appender that was
frozen and lost its lock has written to its own folder only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import AfterCommitError, ClaimLostError, DamageError, StoreError
from store.findings import Remedy
from store.geometry import chunks_of
from store.io.files import fsync_dir, make_dir, naming, publish_replace
from store.io.json import LONGEST
from store.io.ragged import from_items
from store.io.regular import read_regular
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
from store.sidecar import Sidecar
from store.zarr.codec import decode_numbers, encode_numbers, encode_strings, read_chunk
from store.zarr.columns import Pending, pending
from store.zarr.metadata import ROOT_DOCUMENT, documents, is_of_a_commit
from store.zarr.strays import clear_folder, remove_array, remove_stray, stray_files

_COMMITTING = "committing"  # a file that is in it from the first move on
_STAGING = "append"  # kind of a change's own folder, see `Sidecar.temporary`
_PENDING_CHUNKS = 16  # encoded or being encoded at a time: bounds the memory of an append


class ZarrTransaction:
    """One change of the store at ``root``; see `store.backend.Transaction`."""

    def __init__(
        self, root: Path, *, schema: Schema, sidecar: Sidecar, guard: Callable[[], None]
    ) -> None:
        self._root = root
        self._schema = schema
        self._tmp_dir = sidecar.tmp
        self._guard = guard
        for leftover in _staging_folders(sidecar):  # of a killed append: the lock is ours now
            shutil.rmtree(leftover, ignore_errors=True)
        self._staging = sidecar.temporary(_STAGING)
        make_dir(self._staging)
        self._staged: list[tuple[Path, Path]] = []  # file, and its path in the store
        self._half_done = False  # metadata of some arrays are ahead of the root's
        self._pool = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)))
        self._slots = BoundedSemaphore(_PENDING_CHUNKS)
        self._futures: list[Future[None]] = []
        self._columns = row_columns(schema)
        self._pending: dict[str, Pending] = {}

    def append(self, name: str, values: Any) -> None:
        """Add values to the end of a row column."""
        column = self._columns[name]
        if name not in self._pending:
            start = self._schema.n_rows
            old_tail = self._old_tail(column)
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
                    held = read_scores_chunk(self._root, column, chunk).copy()
                for start, stop in parts:
                    held[start:stop] = values[first + start : first + stop, at]
                self._stage(column.chunk_key(chunk), encode_numbers(held, column=column))

    def commit(self, schema: Schema) -> None:
        """Move chunks and metadata in, the root last; on any error before that, back again."""
        self._guard()  # an appender that took the lock over has removed what is staged here
        for name, rows in self._pending.items():
            rest = rows.last_chunk()
            if rest is not None:
                self._submit(self._columns[name].chunk_key(rest[0]), rest[1])
        self._drain(keep=0)
        self._pool.shutdown()
        listed = {column.path for column in all_columns(self._schema)}
        for column in all_columns(schema):
            if column.path not in listed:
                clear_folder(self._root, column, schema=self._schema)
        publish_replace(self._staging, self._staging / _COMMITTING, [])
        self._drop_scores(schema)
        if schema.samples != self._schema.samples:
            for name, content in _sample_chunks(schema, had=len(self._schema.samples)):
                self._stage(name, content)
        old, new = documents(self._schema), documents(schema)
        for name, content in new.items():
            if name != ROOT_DOCUMENT and old.get(name) != content:
                self._stage(name, content)
        self._move_in(new[ROOT_DOCUMENT])
        shutil.rmtree(self._staging, ignore_errors=True)

    def abort(self) -> None:
        """Drop what is staged; the store was not touched, or the next change finds what was."""
        for future in self._futures:
            future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if not self._half_done:
            shutil.rmtree(self._staging, ignore_errors=True)

    def _move_in(self, content: bytes) -> None:
        root = self._root / ROOT_DOCUMENT
        before = read_regular(root, most=LONGEST)
        moves = _Moves(self._staging)
        try:
            for staged, path in self._staged:
                self._guard()
                with naming(path):
                    moves.move(staged, path)
            moves.sync()
            self._guard()
            publish_replace(self._tmp_dir, root, [content])
        except BaseException as error:
            # Once the root is renamed the rows are committed. If the lock is lost, another
            # appender's files may lie where ours did.
            if read_regular(root, most=LONGEST) == before:
                with suppress(ClaimLostError):
                    self._guard()
                    moves.undo()
            elif isinstance(error, (StoreError, OSError)):
                raise AfterCommitError(f"{self._root}: the change", error) from error
            raise

    def _drop_scores(self, schema: Schema) -> None:
        """Commit the loss of scores that another classifier replaces, so that they never mix."""
        digests = {scores.name: scores.digest for scores in schema.scores}
        replaced = [old for old in self._schema.scores if digests.get(old.name) != old.digest]
        if not replaced:
            return
        self._guard()
        without = self._schema
        for old in replaced:
            without = without.without_scores(old.name)
        self._half_done = True
        write_documents(self._root, before=self._schema, after=without, tmp_dir=self._tmp_dir)
        self._half_done = False
        self._schema = without
        for old in replaced:
            for column in score_columns(schema, old.name):
                remove_array(self._root, column)
        fsync_dir(self._root / "obs")

    def _stage(self, name: str, content: bytes) -> None:
        staged = self._staging / f"{len(self._staged)}"
        self._staged.append((staged, self._root / name))
        publish_replace(self._staging, staged, [content])

    def _old_tail(self, column: Column) -> bytes | None:
        """Return the chunk that committed rows share with the first new row, if there is one."""
        start, rows = self._schema.n_rows, column.chunk[0]
        if start % rows == 0:
            return None
        return read_chunk(self._root / column.chunk_key(start // rows), column=column)

    def _submit(self, name: str, encode: Callable[[], bytes]) -> None:
        path = self._staging / f"{len(self._staged)}"
        self._staged.append((path, self._root / name))
        self._slots.acquire()
        self._futures.append(self._pool.submit(self._write, path, encode))
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


def is_committing(sidecar: Sidecar) -> bool:
    """Whether a commit was begun and is not over: it is being made, or was interrupted."""
    return any(os.path.lexists(path / _COMMITTING) for path in _staging_folders(sidecar))


def undo_interrupted(root: Path, *, schema: Schema, sidecar: Sidecar) -> None:
    """Undo what a commit that was killed has moved in; the caller holds the appender's lock."""
    if not is_committing(sidecar):
        return
    for name, content in documents(schema).items():
        with suppress(FileNotFoundError, DamageError):
            found = read_regular(root / name, most=LONGEST)
            if found != content and is_of_a_commit(found, content):
                publish_replace(sidecar.tmp, root / name, [content])
    for finding in list(stray_files(root, schema=schema)):
        if finding.remedy is Remedy.REMOVE:
            remove_stray(root, finding.path)
    for folder in _staging_folders(sidecar):
        shutil.rmtree(folder, ignore_errors=True)


def _staging_folders(sidecar: Sidecar) -> list[Path]:
    return [path for path in sidecar.temporaries() if path.name.startswith(f"{_STAGING}-")]


class _Moves:
    """Moves staged files into the store, keeping what they replace in the folder ``aside``."""

    def __init__(self, aside: Path) -> None:
        self._aside = aside
        self._folders: set[Path] = set()
        self._done: list[tuple[Path, Path | None]] = []  # path, and what was there before

    def move(self, staged: Path, path: Path) -> None:
        if path.parent not in self._folders:
            make_dir(path.parent)
            self._folders.add(path.parent)
        before = self._aside / f"{len(self._done)}.before"
        try:
            os.link(path, before)
        except FileNotFoundError:
            self._done.append((path, None))
        else:
            self._done.append((path, before))
        staged.replace(path)

    def sync(self) -> None:
        for directory in self._folders:
            fsync_dir(directory)

    def undo(self) -> None:
        """Put everything back, the last move first."""
        while self._done:
            path, before = self._done.pop()
            if before is None:
                path.unlink(missing_ok=True)
            else:
                before.replace(path)


def write_documents(root: Path, *, before: Schema | None, after: Schema, tmp_dir: Path) -> None:
    """Write every ``zarr.json`` that the change of schema touches, the root last."""
    old = documents(before) if before is not None else {}
    for name, content in documents(after).items():  # the root is last in the mapping
        if old.get(name) != content:
            path = root / name
            make_dir(path.parent)
            publish_replace(tmp_dir, path, [content])


def read_scores_chunk(root: Path, column: Column, chunk: int) -> NDArray[np.float32]:
    """Read a chunk of scores; DamageError if it is missing or damaged."""
    path = root / column.chunk_key(chunk)
    try:
        return decode_numbers(read_chunk(path, column=column), column=column)
    except FileNotFoundError:
        raise DamageError(f"{path} is missing; save all scores again") from None
    except DamageError as error:
        raise DamageError(f"{path}: {error}; save all scores again") from None


def _sample_chunks(schema: Schema, *, had: int) -> Iterator[tuple[str, bytes]]:
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
