"""One change of an HDF5 store's tree: opened over an overlay, committed through a journal."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import h5py
import numpy as np
from numpy.typing import NDArray

from store.backend import Values
from store.errors import AfterCommitError, BusyError, DamageError, StoreError, UsageError
from store.hdf5.appender import ColumnAppender
from store.hdf5.commit import (
    FLAGS,
    Commit,
    check_structures,
    crc_of,
    crc_of_spans,
    spans_between,
)
from store.hdf5.file import FileMap, State
from store.hdf5.home import COMMIT, GROUPS, Home
from store.hdf5.journal import Journal, apply_journal, is_journal, write_journal
from store.hdf5.layout import (
    MAP,
    check_models,
    create_tree,
    grow,
    make_map,
    open_library,
    write_scores,
)
from store.hdf5.map import Places, pack
from store.hdf5.overlay import Overlay
from store.hdf5.places import (
    checksummed_paths,
    chunk_bytes,
    chunk_offsets,
    fixed_fields,
    places_in,
    worker_paths,
)
from store.io.files import fsync_dir, make_dir, naming
from store.layout import score_columns
from store.schema import Schema
from store.sidecar import DirectorySidecar


class Hdf5Transaction:
    """The tree of a store, open for one change; see `store.backend.Transaction`.

    BusyError if an appender of this machine that lost its lock while frozen has the file open.
    """

    def __init__(
        self, path: Path, *, file_map: FileMap, sidecar: DirectorySidecar, guard: Callable[[], None]
    ) -> None:
        file_map.require_writable(path)
        self._path = path
        self._map = file_map
        self._sidecar = sidecar
        self._guard = guard
        self._columns: dict[str, ColumnAppender] = {}
        self._checksums: dict[int, NDArray[np.uint32]] = {}  # of blocks that got rows
        self._begun = False  # the journal may be in place: the file must not be touched otherwise
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._lock = _lock(sidecar.path, path)
            # What a killed appender wrote beyond the end must not show through as unfilled rows.
            # Of a file that another program changed, all is kept.
            os.ftruncate(self._fd, file_map.end)
            self.overlay = Overlay(self._fd, end=file_map.end, guard=guard, path=path)
            if file_map.state is State.WHOLE and file_map.commit.has_map:
                try:  # the commit computes the checksum of the metadata again, damage and all
                    check_structures(self._fd, file_map.commit, file_map.places.spans)
                except DamageError as error:
                    raise DamageError(f"{path}: {error}; run 'vnp verify'") from None
            with self._naming_damage():
                self.tree: h5py.File = open_library(self.overlay, "r+")
                Home(self.tree).take_back(file_map.schema)
        except BaseException:
            self._close()
            raise

    def append(self, name: str, values: Values) -> None:
        """Add values to the end of a row column."""
        with self._naming_damage():
            if name not in self._columns:
                self._columns[name] = ColumnAppender(
                    self.tree, self.overlay, name, schema=self._map.schema,
                    checksums=self._checksums,
                )  # fmt: skip
            self._columns[name].add(values)

    def write_scores(
        self,
        name: str,
        values: NDArray[np.float32],
        ranges: Iterable[tuple[int, int]],
        *,
        kept: int,
    ) -> None:
        """Rewrite both columns of scores."""
        columns = score_columns(self._map.schema, name)
        with self._naming_damage():
            write_scores(self.tree, columns, values, ranges, kept=kept)

    def commit(self, schema: Schema) -> None:
        """Make the change the committed state: link its journal, then apply it."""
        check_models(schema)
        with self._naming_damage():
            for column in self._columns.values():
                column.finish()
            grow(self.tree, schema, self._checksums)
            self._zero_recycled(schema)
            fixed = fixed_fields(self.tree, schema)
        if any(fixed[name] != field for name, field in self._map.fixed.items() if name != MAP):
            raise AssertionError("a field that never moves was moved")
        record_at = self._map.record_at
        generation = self._map.commit.generation + 1
        with self._naming_damage():
            self._close_tree()
            commit = write_commit(self.overlay, record_at=record_at, generation=generation)
        journal = Journal(
            record_at=record_at,
            before=self._map.record,
            after=commit.to_bytes(),
            end=commit.end,
            patches=tuple(self.overlay.patches()),
        )
        with naming(self._path):
            os.ftruncate(self._fd, commit.end)
            os.fsync(self._fd)
        self._guard()
        self._begun = True
        what = f"{self._path}: the change (the next command that opens the store finishes it)"
        try:
            write_journal(self._sidecar.path, journal)
        except StoreError as error:
            if is_journal(self._sidecar.path, journal):  # linked, before it failed
                raise AfterCommitError(what, error) from error
            raise
        try:
            with naming(self._path):
                apply_journal(self._fd, self._sidecar.path, journal)
        except StoreError as error:
            raise AfterCommitError(what, error) from error
        self._close()

    def abort(self) -> None:
        """Leave the file as it was; safe to call again."""
        if self._fd < 0:
            return
        try:
            if not self._begun:
                with suppress(Exception):  # it only closes what is dropped anyway
                    self.tree.close()
                os.ftruncate(self._fd, self._map.end)
        finally:
            self._close()

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        """Tell what the library raises where structures are damaged from what a disk refuses."""
        try:
            yield
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            self.overlay.raise_error()
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system, which could not read
            raise DamageError(
                f"{self._path}: the HDF5 library cannot work on its structures ({error}); run "
                "'vnp verify'"
            ) from error

    def _zero_recycled(self, schema: Schema) -> None:
        """Zero chunks of workers that lie where the library had freed metadata."""
        end = self._map.end
        for name in worker_paths(schema):
            dataset = self.tree[name]
            had = len(self._map.chunks.get(name, ()))
            offsets = chunk_offsets(dataset)[had:]
            for offset in offsets[offsets < end].tolist():
                self.overlay.pwrite(offset, bytes(chunk_bytes(dataset)))

    def _close_tree(self) -> None:
        """Close the library's view; raise what it could not write."""
        try:
            self.tree.close()
        finally:
            self.overlay.raise_error()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        lock = getattr(self, "_lock", -1)
        if lock >= 0:
            os.close(lock)
            self._lock = -1


def create_file(path: Path, *, schema: Schema, sidecar: DirectorySidecar) -> None:
    """Make an empty store's file; it appears whole or not at all."""
    made = sidecar.tmp / f"create-{uuid4().hex}"
    fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        overlay = Overlay(fd, end=0, path=path)
        with open_library(overlay, "w") as tree:
            create_tree(tree, schema)
            record_at = fixed_fields(tree, schema)[COMMIT][0]
        overlay.raise_error()
        write_commit(overlay, record_at=record_at, generation=1)
        os.ftruncate(fd, overlay.size)
        os.fsync(fd)
        try:
            os.link(made, path)
        except FileExistsError:
            raise UsageError(f"{path} was created by someone else just now") from None
        fsync_dir(path.parent)
    finally:
        os.close(fd)
        made.unlink(missing_ok=True)


def write_commit(overlay: Overlay, *, record_at: int, generation: int) -> Commit:
    """Write map and commit record of a tree that the library has closed.

    The commit's checksum is over every byte that no other checksum covers.
    """
    places, headers = _placed(overlay)
    packed = pack(places)
    if len(packed) > places.fixed[MAP][1]:
        with open_library(overlay, "r+") as tree:
            make_map(tree, len(packed))
        places, headers = _placed(overlay)
        packed = pack(places)
    _hold_groups(overlay, headers)
    at, capacity = places.fixed[MAP]
    packed = packed.ljust(capacity, b"\0")
    overlay.pwrite(at, packed)
    commit = Commit(
        generation=generation,
        rows=places.schema.n_rows,
        end=overlay.size,
        map_at=at,
        map_bytes=len(packed),
        map_crc32c=crc_of(packed),
        metadata_crc32c=crc_of_spans(overlay.pread, places.spans),
    )
    overlay.pwrite(record_at, commit.to_bytes())
    overlay.raise_error()
    return commit


def _hold_groups(overlay: Overlay, headers: list[int]) -> None:
    """Count one link more to each of the store's groups, at ``headers``, than there is.

    A program that replaces such a group, as AnnData's ``write()`` does, then deletes its name and
    not what is in it. An object header of version 1 begins with version, reserved byte, number of
    messages (2 bytes) and the number of links (4 bytes).
    """
    for at in headers:
        raw = overlay.pread(at, 8)
        if raw[0] == 1 and int.from_bytes(raw[4:], "little") == 1:
            overlay.pwrite(at + 4, (2).to_bytes(4, "little"))


def _placed(overlay: Overlay) -> tuple[Places, list[int]]:
    """Where everything of a closed tree lies, its structures among it, and its groups' headers."""
    overlay.raise_error()
    taken: list[tuple[int, int]] = [FLAGS]
    with open_library(overlay, "r") as tree:
        places = places_in(Home(tree), where="the new commit")
        headers = [int(h5py.h5o.get_info(tree[name].id).addr) for name in GROUPS]
        for name in checksummed_paths(places.schema):
            size = chunk_bytes(tree[name])
            offsets = chunk_offsets(tree[name])
            taken += [(offset, offset + size) for offset in offsets[offsets >= 0].tolist()]
        taken += [(offset, offset + size) for offset, size in places.fixed.values()]
    return replace(places, spans=spans_between(taken, overlay.size)), headers


def _lock(sidecar: Path, path: Path) -> int:
    """Lock the file against appenders of this machine that lose their claim while frozen."""
    folder = sidecar / "journal"
    make_dir(folder)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(fd)
            raise BusyError(
                f"{path}: an appender that was frozen still has the file open; end its process, "
                "then run the command again"
            ) from None
        # A file system without locks: the claim alone must do.
    return fd
