"""One change of an HDF5 store's tree: opened over an overlay, committed through a journal."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import h5py

from store.errors import BusyError, DamageError, UsageError
from store.hdf5.commit import (
    Commit,
    check_metadata,
    crc_of,
    crc_of_spans,
    index_bytes,
    spans_between,
)
from store.hdf5.file import Places, load
from store.hdf5.journal import Journal, apply_journal, write_journal
from store.hdf5.layout import (
    checksummed_paths,
    chunk_bytes,
    chunk_offsets,
    create_tree,
    fixed_places,
    open_library,
    worker_paths,
)
from store.hdf5.overlay import Overlay
from store.io.files import fsync_dir, make_dir
from store.schema import Schema
from store.sidecar import Sidecar


class Growth:
    """The tree of a store, open for one change; nothing is visible until `commit`.

    Parameters
    ----------
    path
        The store's file.
    places
        Its last commit.
    sidecar
        The directory beside it.
    guard
        Raises if the appender's lock is lost.

    Raises
    ------
    BusyError
        If an appender of this machine that lost its lock while frozen still has the file open.
    """

    def __init__(
        self, path: Path, *, places: Places, sidecar: Sidecar, guard: Callable[[], None]
    ) -> None:
        self._places = places
        self._sidecar = sidecar
        self._begun = False  # the journal may be in place: the file must not be touched otherwise
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._lock = _lock(sidecar.path, path)
            # What a killed appender wrote beyond the end must not show through as unfilled rows.
            os.ftruncate(self._fd, places.commit.end)
            self.overlay = Overlay(self._fd, end=places.commit.end, guard=guard)
            _check(self._fd, places, path)
            self.tree: h5py.File = open_library(self.overlay, "r+")
        except BaseException:
            self._close()
            raise

    def commit(self, schema: Schema, *, still_mine: Callable[[], None]) -> None:
        """Make the change the committed state.

        Parameters
        ----------
        schema
            The schema that the tree has now.
        still_mine
            Called right before the commit; raises if the appender's lock was lost.
        """
        self._zero_recycled(schema)
        fixed = fixed_places(self.tree, schema)
        self.tree.close()
        self.overlay.raise_error()
        record_at = self._places.record_at
        commit = seal_commit(
            self.overlay,
            schema,
            record_at=record_at,
            generation=self._places.commit.generation + 1,
        )
        journal = Journal(
            record_at=record_at,
            before=self._places.record,
            after=commit.to_bytes(),
            end=commit.end,
            patches=tuple(self.overlay.patches()),
        )
        if fixed != {**fixed, **self._places.fixed}:
            raise AssertionError("a field that never moves was moved")
        os.ftruncate(self._fd, commit.end)
        os.fsync(self._fd)
        still_mine()
        self._begun = True
        write_journal(self._sidecar.path, journal)
        apply_journal(self._fd, self._sidecar.path, journal)
        self._close()

    def abort(self) -> None:
        """Leave the file as it was; safe to call again."""
        if self._fd < 0:
            return
        try:
            if not self._begun:
                with suppress(Exception):  # it only closes what is dropped anyway
                    self.tree.close()
                os.ftruncate(self._fd, self._places.commit.end)
        finally:
            self._close()

    def _zero_recycled(self, schema: Schema) -> None:
        """Zero chunks of workers that lie where the library had freed metadata."""
        end = self._places.commit.end
        for name in worker_paths(schema):
            dataset = self.tree[name]
            had = len(self._places.chunks.get(name, ()))
            offsets = chunk_offsets(dataset)[had:]
            for offset in offsets[offsets < end].tolist():
                self.overlay.pwrite(offset, bytes(chunk_bytes(dataset)))

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        lock = getattr(self, "_lock", -1)
        if lock >= 0:
            os.close(lock)
            self._lock = -1


@contextmanager
def growing(
    path: Path, *, places: Places, sidecar: Sidecar, guard: Callable[[], None]
) -> Iterator[Growth]:
    """Open the tree for one change, and leave the file as it was unless it is committed."""
    growth = Growth(path, places=places, sidecar=sidecar, guard=guard)
    try:
        yield growth
    finally:
        growth.abort()


def create_file(path: Path, *, schema: Schema, sidecar: Sidecar) -> Places:
    """Make an empty store's file; it appears whole or not at all.

    Raises
    ------
    UsageError
        If the name is taken.
    """
    made = sidecar.tmp / f"create-{uuid4().hex}"
    fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        overlay = Overlay(fd, end=0)
        with open_library(overlay, "w") as tree:
            create_tree(tree, schema)
            record_at = fixed_places(tree, schema)["obs/vnp/commit"][0]
        overlay.raise_error()
        seal_commit(overlay, schema, record_at=record_at, generation=1)
        os.ftruncate(fd, overlay.size)
        os.fsync(fd)
        places = load(fd, Overlay(fd), path)
        try:
            os.link(made, path)
        except FileExistsError:
            raise UsageError(f"{path} was created by someone else just now") from None
        fsync_dir(path.parent)
        return places
    finally:
        os.close(fd)
        made.unlink(missing_ok=True)


def seal_commit(overlay: Overlay, schema: Schema, *, record_at: int, generation: int) -> Commit:
    """Write index and commit record of a tree that the library has closed.

    The checksum is over every byte that no other checksum covers. That is all but the chunks of
    row columns, heap and checksums, the fields workers write, and the commit record: the
    library's own structures, sample names, schema and unused gaps.
    """
    end = overlay.size
    taken: list[tuple[int, int]] = []
    with open_library(overlay, "r") as tree:
        for name in checksummed_paths(schema):
            size = chunk_bytes(tree[name])
            offsets = chunk_offsets(tree[name])
            taken += [(offset, offset + size) for offset in offsets[offsets >= 0].tolist()]
        for offset, size in fixed_places(tree, schema).values():
            taken.append((offset, offset + size))
    spans = spans_between(taken, end)
    index = index_bytes(spans)
    overlay.pwrite(end, index)
    commit = Commit(
        generation=generation,
        rows=schema.n_rows,
        end=overlay.size,
        index_at=end,
        index_crc32c=crc_of(index),
        metadata_crc32c=crc_of_spans(overlay.pread, spans),
    )
    overlay.pwrite(record_at, commit.to_bytes())
    return commit


def _check(fd: int, places: Places, path: Path) -> None:
    """Compare the metadata with their checksum: a change computes it anew, damage and all."""
    try:
        check_metadata(fd, places.commit)
    except DamageError as error:
        raise DamageError(f"{path}: {error}; run 'vnp verify'") from None


def _lock(sidecar: Path, path: Path) -> int:
    """Lock the store's file against other appenders of this machine, the frozen ones too.

    The claim on the appender's lock can be lost by standing still; this lock ends only with the
    process, so one that wakes up cannot write into what its successor writes.
    """
    folder = sidecar / "journal"
    make_dir(folder)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(fd)
            raise BusyError(
                f"{path}: an appender that stood still still has the file open; end its process, "
                "then run the command again"
            ) from None
        # A file system without locks: the claim alone must do.
    return fd
