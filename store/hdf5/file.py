"""One committed state of an HDF5 store: its schema, and the byte at which everything lies.

The map says where the chunks are. Chunks never move, so rows and blocks are read and written there
directly, even while the file grows, and without the HDF5 library. What was read is of one commit
if the commit record was the same before and after, with the signature in place.

If the structures are not as the commit left them, another program changed the file, or it is
damaged: see `State`.
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from store.claims.claims import APPEND, Claims
from store.claims.participant import Participant
from store.errors import BusyError, DamageError, NotAStoreError
from store.hdf5.commit import (
    COMMIT_BYTES,
    Commit,
    check_structures,
    find_commit,
    is_record,
    read_map_bytes,
    spans_of,
)
from store.hdf5.home import COMMIT, Home
from store.hdf5.journal import has_signature, is_blanked, journal_path, recover
from store.hdf5.layout import open_library
from store.hdf5.look import look
from store.hdf5.map import Places, unpack
from store.hdf5.overlay import Overlay
from store.hdf5.places import places_in
from store.io.files import WriteError, naming
from store.io.regular import open_regular
from store.io.words import count
from store.schema import Schema
from store.sidecar import sidecar_of

T = TypeVar("T")

_RETRY = 0.005  # seconds between two looks at a file that is being grown
_TRIES = 100  # looks at a file that changes all the time
_FAILURES = 3  # looks that find it damaged before it is called so
_PATIENCE = 5.0  # seconds after which a file without signature is not just being patched


class State(enum.Enum):
    """What became of a file's HDF5 structures since the commit."""

    WHOLE = enum.auto()  # they are as the commit left them
    CHANGED = enum.auto()  # by another program, and everything of the store is where it was
    BROKEN = enum.auto()  # the library does not find the store's data where the map has them
    MOVED = enum.auto()  # the file was rewritten (h5repack): the map's places mean nothing


@dataclass(frozen=True, slots=True)
class FileMap:
    """A commit, and where its data lie."""

    commit: Commit
    record: bytes  # the commit record as it is in the file
    places: Places
    inode: tuple[int, int]  # of the file: device and number
    end: int  # bytes that belong to the committed state
    state: State = State.WHOLE
    trouble: str = ""  # unless it is whole: what was found

    @property
    def schema(self) -> Schema:
        """The committed schema."""
        return self.places.schema

    @property
    def chunks(self) -> dict[str, NDArray[np.int64]]:
        """First byte of each chunk along the rows, by dataset."""
        return self.places.chunks

    @property
    def fixed(self) -> dict[str, tuple[int, int]]:
        """First byte and length of contiguous fields, by dataset."""
        return self.places.fixed

    @property
    def record_at(self) -> int:
        """First byte of the commit record."""
        return self.fixed[COMMIT][0]

    def require_writable(self, path: Path) -> None:
        """Raise a DamageError if blocks cannot be written where the map has them."""
        if self.state in (State.BROKEN, State.MOVED):
            raise DamageError(
                f"{path}: {self.trouble}. Its rows can be read; run 'vnp verify --repair {path}', "
                "which rebuilds the file from them, then run the command again"
            )


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


def with_tree(path: Path, known: FileMap, read: Callable[[Home], T]) -> T:
    """Read something of the last commit through the library; again if the file changed."""
    for _ in range(_TRIES):
        file_map = current_map(path, known)
        if file_map.state is State.BROKEN:
            file_map.require_writable(path)
        with reading(path) as fd:
            try:
                with open_library(Overlay(fd), "r") as tree:
                    result = read(Home(tree))
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
        fd = open_regular(path)
    except FileNotFoundError:
        raise NotAStoreError(
            f"{path} is not a vnp store (the file does not exist); make one with 'vnp init {path}'"
        ) from None
    except DamageError as error:
        raise NotAStoreError(f"{path} is not an HDF5 store: it {error}") from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def writing(path: Path, file_map: FileMap) -> Iterator[int]:
    """Open the file for writing rows that are safe on disk when the write returns.

    DamageError if the places of ``file_map`` are not this file's (any more).
    """
    file_map.require_writable(path)
    # O_DSYNC syncs what the call wrote and no other worker's pages; NFS clients then also send
    # exactly these bytes, where they would else round to pages that others write in too.
    with naming(path):
        fd = open_regular(path, os.O_RDWR | os.O_DSYNC)
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != file_map.inode or not is_record(
            os.pread(fd, COMMIT_BYTES, file_map.record_at)
        ):
            raise DamageError(
                f"{path} was replaced by another file while it was in use; run the command again"
            )
        with naming(path):
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
    """Take the dead appender's lock and finish its transaction; False if another was faster."""
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
    file_map = _found(fd, path)
    record = os.pread(fd, COMMIT_BYTES, file_map.record_at)
    return file_map if has_signature(fd) and record == file_map.record else None


def _found(fd: int, path: Path) -> FileMap:
    """Find the commit record and its map, and compare the structures with their checksum."""
    at, record = find_commit(fd) or (-1, b"")
    if at < 0:
        return _moved(fd, path)
    inode, size = _identity(fd)
    commit = _commit_of(record, path)
    if size < (commit.end if commit.has_map else commit.map_at):
        raise DamageError(
            f"{path} has {count(size, 'byte')} of {commit.end:,} (truncated); restore it from a "
            "copy"
        )
    places: Places | None = None
    try:
        raw = read_map_bytes(fd, commit)
        if commit.has_map:
            places = unpack(raw, where=str(path))
            if places.fixed[COMMIT][0] != at:
                return _moved(fd, path)
        check_structures(fd, commit, spans_of(raw) if places is None else places.spans)
    except DamageError as error:
        return _examined(fd, path, commit, record, places, str(error))
    if places is None:
        places = _ask_library(fd, path)
    if places.schema.n_rows != commit.rows:
        raise DamageError(f"{path}: its commit record is of another commit than its schema")
    return FileMap(commit, record, places, inode, commit.end)


def _examined(
    fd: int, path: Path, commit: Commit, record: bytes, places: Places | None, trouble: str
) -> FileMap:
    """Tell from a guarded look what became of a file whose structures or map do not match."""
    inode, size = _identity(fd)
    try:
        looked = look(path)
    except DamageError as error:
        if places is None:
            raise DamageError(f"{path}: {trouble}; {error}; restore it from a copy") from None
        return FileMap(commit, record, places, inode, commit.end, State.BROKEN, str(error))
    if (places is None or looked.same(places)) and looked.schema.n_rows == commit.rows:
        end = max(size, commit.end if commit.has_map else 0)
        trouble = "another program changed the file"
        return FileMap(commit, record, looked, inode, end, State.CHANGED, trouble)
    if places is None:
        raise DamageError(f"{path}: {trouble}; restore it from a copy")
    trouble = "another program moved or removed data of the store"
    return FileMap(commit, record, places, inode, commit.end, State.BROKEN, trouble)


def _moved(fd: int, path: Path) -> FileMap:
    """Find the commit through the library: it is not where vnp puts it."""
    try:
        places = look(path)
    except DamageError as error:
        known = str(path) in str(error)
        raise NotAStoreError(
            str(error) if known else f"{path} is not a vnp store, or is damaged: {error}"
        ) from None
    record = os.pread(fd, COMMIT_BYTES, places.fixed[COMMIT][0])
    commit = _commit_of(record, path)
    if places.schema.n_rows != commit.rows:
        raise DamageError(f"{path}: its commit record is of another commit than its schema")
    inode, size = _identity(fd)
    trouble = "another program rewrote the whole file"
    return FileMap(commit, record, places, inode, size, State.MOVED, trouble)


def _ask_library(fd: int, path: Path) -> Places:
    """Read the places of a file without map, whose structures are whole."""
    try:
        with open_library(Overlay(fd), "r") as tree:
            return places_in(Home(tree), where=str(path))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise NotAStoreError(
            f"{path} is not a vnp store, or its metadata is damaged: {error}"
        ) from None


def _commit_of(record: bytes, path: Path) -> Commit:
    try:
        return Commit.from_bytes(record)
    except DamageError as error:
        raise DamageError(f"{path}: {error}; restore it from a copy") from None


def _identity(fd: int) -> tuple[tuple[int, int], int]:
    """Device and number of a file, and its size."""
    found = os.fstat(fd)
    return (found.st_dev, found.st_ino), found.st_size
