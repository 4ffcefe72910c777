"""One committed state of an HDF5 store: its schema, and the byte at which everything lies.

The HDF5 library is asked once per commit where the chunks are. Chunks never move, so rows and
blocks are then read and written there directly, even while the file grows. What the library said
is of one commit if the commit record was the same before and after, with the signature in place.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from store.claims.claims import APPEND, Claims
from store.claims.participant import Participant
from store.errors import BusyError, DamageError, NotAStoreError
from store.hdf5.commit import COMMIT_BYTES, Commit, check_metadata, find_commit
from store.hdf5.journal import has_signature, is_blanked, journal_path, recover
from store.hdf5.layout import (
    CHECKSUMS,
    COMMIT,
    HEAP,
    chunk_offsets,
    fixed_fields,
    open_library,
    worker_paths,
)
from store.hdf5.overlay import Overlay
from store.io.files import WriteError
from store.layout import row_columns
from store.schema import Schema, from_attribute
from store.sidecar import sidecar_of

T = TypeVar("T")

_RETRY = 0.005  # seconds between two looks at a file that is being grown
_TRIES = 100  # looks at a file that changes all the time
_FAILURES = 3  # looks that find it damaged before it is called so
_PATIENCE = 5.0  # seconds after which a file without signature is not just being patched


@dataclass(frozen=True, slots=True)
class FileMap:
    """A commit, and where its data lie."""

    schema: Schema
    commit: Commit
    record: bytes  # the commit record as it is in the file
    chunks: dict[str, NDArray[np.int64]]  # by dataset: first byte of each chunk along the rows
    fixed: dict[str, tuple[int, int]]  # by dataset: first byte and length of the field
    collection: int  # bytes of a heap collection

    @property
    def record_at(self) -> int:
        """First byte of the commit record."""
        return self.fixed[COMMIT][0]


def read_map(path: Path) -> FileMap:
    """Open a store's file at its last commit.

    NotAStoreError, DamageError, or BusyError if a living appender stays in the middle of a commit.
    """
    failed = 0
    for _ in range(_TRIES):
        settle(path)
        try:
            with reading(path) as fd:
                file_map = _try_map(fd, path)
        except (NotAStoreError, DamageError):
            # Half of it may have been read before a commit and half after it: that passes.
            failed += 1
            if failed == _FAILURES:
                raise
            file_map = None
        if file_map is not None:
            return file_map
        time.sleep(_RETRY)
    raise BusyError(f"{path} is changing all the time; try again in a moment")


def current_map(path: Path, known: FileMap) -> FileMap:
    """Return ``known`` if it still is the last commit, else the last commit."""
    with reading(path) as fd:
        if has_signature(fd) and os.pread(fd, COMMIT_BYTES, known.record_at) == known.record:
            return known
    return read_map(path)


def load(fd: int, overlay: Overlay, path: Path) -> FileMap:
    """Ask the library for everything; the file must not be changing."""
    with open_library(overlay, "r") as tree:
        text = tree.attrs.get("vnp")
        if not isinstance(text, str):
            raise NotAStoreError(
                f"{path} is not a vnp store: its root has no attribute 'vnp'; make one with "
                f"'vnp init {path}'"
            )
        try:
            value: Any = json.loads(text)
        except ValueError:
            raise NotAStoreError(f"{path}: the attribute 'vnp' is damaged: not JSON") from None
        schema = from_attribute(value, where=str(path))
        fixed = fixed_fields(tree, schema)
        names = [column.path for column in row_columns(schema).values()]
        names += [CHECKSUMS, *worker_paths(schema)]
        chunks = {name: chunk_offsets(tree[name]) for name in names}
        collection = int(tree[HEAP].chunks[0])
    record = overlay.pread(fixed[COMMIT][0], COMMIT_BYTES)
    commit = Commit.from_bytes(record)
    if commit.rows != schema.n_rows or os.fstat(fd).st_size < commit.end:
        raise DamageError(
            f"{path} has {os.fstat(fd).st_size:,} bytes and {schema.n_rows:,} rows where its last "
            f"commit left {commit.end:,} and {commit.rows:,} (truncated or changed by others)"
        )
    for name, offsets in chunks.items():
        if bool(((offsets < 0) | (offsets >= commit.end)).any()):
            raise DamageError(f"{path}: a chunk of {name} lies outside the file (damaged)")
    return FileMap(schema, commit, record, chunks, fixed, collection)


def with_tree(path: Path, read: Callable[[h5py.File], T]) -> T:
    """Read something of a committed state through the library; again if the file changed."""
    for _ in range(_TRIES):
        file_map = read_map(path)
        with reading(path) as fd:
            try:
                with open_library(Overlay(fd), "r") as tree:
                    result = read(tree)
            except (OSError, RuntimeError, KeyError, ValueError) as error:
                failure: Exception | None = error
            else:
                failure = None
            if (
                has_signature(fd)
                and os.pread(fd, COMMIT_BYTES, file_map.record_at) == file_map.record
            ):
                if failure is not None:
                    raise DamageError(f"{path}: {failure}; run 'vnp verify'") from None
                return result
        time.sleep(_RETRY)
    raise BusyError(f"{path} is changing all the time; try again in a moment")


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """Open the file for reading; yield the descriptor."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotAStoreError(
            f"{path} is not a vnp store (there is no such file); make one with 'vnp init {path}'"
        ) from None
    try:
        yield fd
    except IsADirectoryError:
        raise NotAStoreError(f"{path} is a directory, not an HDF5 store's file") from None
    finally:
        os.close(fd)


@contextmanager
def writing(path: Path) -> Iterator[int]:
    """Open the file for writing rows that are safe on disk when the write returns."""
    # O_DSYNC syncs what the call wrote and no other worker's pages; NFS clients then also send
    # exactly these bytes, where they would else round to pages that others write in too.
    fd = os.open(path, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def settle(path: Path) -> None:
    """Finish what a killed appender left half done, or wait while a living one applies patches.

    Returns at once if the committed state can be read; BusyError if the appender lives on.
    """
    sidecar = sidecar_of(path).path
    claims: Claims | None = None
    began = time.monotonic()
    while True:
        with reading(path) as fd:
            blanked = is_blanked(fd)
        if not blanked and not journal_path(sidecar).exists():
            return
        if claims is None:
            claims = Participant(sidecar).claims
        owner = claims.owner(APPEND)
        if owner is None or owner.verdict is None or owner.verdict.stale:
            if _recover(path, sidecar, wanted=blanked):
                return
        elif not blanked:
            return  # the old state is whole until the patches are written
        elif time.monotonic() - began > _PATIENCE:
            # Waits until the appender shows a sign of life (BusyError) or counts as dead.
            with Participant(sidecar) as participant, participant.claims.acquire(APPEND):
                _recover_held(path, sidecar)
            return
        time.sleep(_RETRY)


def _recover(path: Path, sidecar: Path, *, wanted: bool) -> bool:
    """Take the dead appender's lock and finish its growth; False if another was faster."""
    try:
        with Participant(sidecar) as participant:
            claim = participant.claims.try_claim(APPEND)
            if claim is None:
                return False
            with claim:
                _recover_held(path, sidecar)
    except (PermissionError, WriteError) as error:
        if not wanted:
            return True  # the committed state is whole; somebody who may write will finish it
        raise DamageError(
            f"{path}: its appender was killed while it committed; open the store once as a user "
            f"who may write to it ({error})"
        ) from None
    return True


def _recover_held(path: Path, sidecar: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not recover(fd, sidecar) and is_blanked(fd):
            raise DamageError(
                f"{path}: an append was cut short while it was committed, and its journal in "
                f"{sidecar.name}/journal is gone: restore the file from a copy"
            )
    finally:
        os.close(fd)


def _try_map(fd: int, path: Path) -> FileMap | None:
    """Load the last commit; None when the file changed meanwhile."""
    if not has_signature(fd):
        if is_blanked(fd):
            return None
        raise NotAStoreError(f"{path} is not an HDF5 file (it begins with other bytes)")
    record = find_commit(fd, path)
    try:
        check_metadata(fd, Commit.from_bytes(record))
    except DamageError as error:
        raise DamageError(f"{path}: {error}; restore it from a copy") from None
    try:
        file_map = load(fd, Overlay(fd), path)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise NotAStoreError(
            f"{path} is not a vnp store, or its metadata is damaged: {error}"
        ) from None
    record = os.pread(fd, COMMIT_BYTES, file_map.record_at)
    return file_map if has_signature(fd) and record == file_map.record else None
