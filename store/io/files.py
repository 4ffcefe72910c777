"""Files that appear whole, or not at all, and survive a power cut.

Everything the store publishes goes through one of two functions. Both write a temporary file
first::

    publish_new      tmp --write, fsync--> link(tmp, target)    --unlink tmp, fsync directory-->
    publish_replace  tmp --write, fsync--> replace(tmp, target) --fsync directory-->

``link`` refuses an existing name, so of many writers exactly one wins and a published file never
changes. ``replace`` is for the few files that must change. Temporary names are never shared, and
a write that fails takes its temporary file with it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import numpy as np
from numpy.typing import DTypeLike, NDArray

from store.errors import StoreError
from store.io.words import count
from store.location import S3Location

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Buffers: TypeAlias = Sequence[Buffer]  # bytes, memoryviews, NumPy arrays, ...

_IOV_MAX = 1024  # buffers that one writev takes on Linux
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.part", re.DOTALL)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_HINTS = {
    errno.ENOSPC: " Free some space, then run the command again.",
    errno.EDQUOT: " Raise the quota or free some space, then run the command again.",
    errno.EACCES: " Make it accessible and writable for you, or work on a copy elsewhere.",
    errno.EROFS: " Make it writable for you, or work on a copy elsewhere.",
    errno.EIO: " The disk or its connection has a fault: look at the system's log.",
}
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
# Some network and FUSE file systems keep directories safe by themselves and refuse to sync them.
_NO_DIR_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})


class WriteError(StoreError):
    """A file could not be written; nothing was published under its name.

    ``errno`` is the operating system's error number, if there was one.
    """

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    def add(self, sentence: str) -> None:
        """Say more: what became of the whole that the file belongs to."""
        self.args = (f"{self.args[0]} {sentence}",)


class DiskFullError(WriteError):
    """The disk is full or the quota used up."""


def publish_new(
    tmp_dir: Path,
    target: Path,
    data: Buffers,
    *,
    durable: bool = True,
    link: Callable[[Path, Path], None] = os.link,
) -> bool:
    """Publish a file of these C-contiguous buffers under a name that must be free.

    ``tmp_dir`` and the directory of ``target`` exist on one file system. Files that need not
    outlive a crash of the machine are not ``durable``. Tests put a failing ``link`` here.

    False means that the name was taken: another writer has won, and its file is whole and (when
    ``durable``) safe on disk. `DiskFullError` and `WriteError` are what can go wrong.
    """
    tmp = _write_tmp(tmp_dir, target, data, durable=durable)
    try:
        made = _link(tmp, target, link)
    finally:
        _discard(tmp)
    if durable:
        # Also when we lost: the winner may not have synced yet, and our caller relies on the file.
        fsync_dir(target.parent)
    return made


def publish_replace(
    tmp_dir: Path, target: Path, data: Buffers, *, durable: bool = True, mode: int = 0o666
) -> None:
    """Publish a file under a name, whether or not the name is taken.

    Readers see the old content or the new, never a mixture. The umask takes from ``mode``. All
    else is as in `publish_new`.
    """
    tmp = _write_tmp(tmp_dir, target, data, durable=durable, mode=mode)
    try:
        rename_over(tmp, target)
    except BaseException:
        _discard(tmp)
        raise
    if durable:
        fsync_dir(target.parent)


def write_staged(path: Path, data: Buffers) -> None:
    """Write a new file in a folder that no one else looks into; its content is durable.

    Its name is when the caller has synced the folder. Errors are those of `publish_new`.
    """
    _create(path, data, target=path, durable=True)


def rename_over(tmp: Path, target: Path) -> None:
    """Give a finished file its name, whether or not the name is taken."""
    written = tmp.stat()
    try:
        tmp.replace(target)
    except OSError as error:
        # As with link: a reply lost on the way makes NFS repeat a rename that was done.
        with suppress(OSError):
            if os.path.samestat(target.stat(), written):
                return
        raise write_failure(error, target) from error


def temporary_name(directory: Path, target: Path) -> Path:
    """Return a free, hidden path, whose name explains the file if a crash leaves it behind."""
    return directory / f".{target.name[:64]}.{uuid4().hex}.part"


def names_in(directory: Path) -> list[str]:
    """Names in a directory; none when it is not there."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_temporary(name: str) -> bool:
    """Whether `temporary_name` made such a name."""
    return _TEMPORARY.fullmatch(name) is not None


def mapped_file(path: Path, *, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Create a file of zeros and map it as an array.

    Its space is allocated at once: writing into a sparse file on a full disk would kill the
    process.

    Raises
    ------
    DiskFullError
        If the disk has not enough free space.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    with naming(path), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def fsync_dir(path: Path) -> None:
    """Make the names in a directory safe on disk."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NO_DIR_SYNC:
            raise write_failure(error, path) from error


def make_dir(path: Path, *, durable: bool = True) -> None:
    """Make a directory and those above it, each safe on disk; fine when it exists."""
    if path.is_dir():
        return
    if path.parent != path:
        make_dir(path.parent, durable=durable)
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise write_failure(error, path) from error
    if durable:
        fsync_dir(path.parent)


def remove_durable(path: Path) -> bool:
    """Remove a file for good; return whether it existed. A directory must be empty."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        try:
            path.rmdir()
        except OSError:
            what = "is a directory, where a file of vnp's belongs; move it away, and run this again"
            raise WriteError(f"{path} {what}", errno=errno.EISDIR) from None
    except OSError as error:
        raise write_failure(error, path) from error
    fsync_dir(path.parent)
    return True


def _write_tmp(
    tmp_dir: Path, target: Path, data: Buffers, *, durable: bool, mode: int = 0o666
) -> Path:
    """Write a new temporary file and return its path; on any failure leave nothing behind."""
    tmp = temporary_name(tmp_dir, target)
    _create(tmp, data, target=target, durable=durable, mode=mode)
    return tmp


def _create(path: Path, data: Buffers, *, target: Path, durable: bool, mode: int = 0o666) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)  # NFS reports a full disk here at the latest
    except BaseException as error:
        _discard(path)
        if isinstance(error, OSError):
            raise write_failure(error, target, data) from error
        raise


def _write_all(fd: int, data: Buffers) -> None:
    """Write every byte of every buffer, however short the single writes are."""
    views = [view.cast("B") for buffer in data if (view := memoryview(buffer)).nbytes]
    first = 0
    while first < len(views):
        written = os.writev(fd, views[first : first + _IOV_MAX])
        while first < len(views) and written >= len(views[first]):
            written -= len(views[first])
            first += 1
        if written:
            views[first] = views[first][written:]


def _link(tmp: Path, target: Path, link: Callable[[Path, Path], None]) -> bool:
    """Give ``tmp`` the name ``target``; False when the name is taken by another file."""
    try:
        link(tmp, target)
    except OSError as error:
        # On NFS the reply to a link that was made can get lost, and the repeated request then
        # fails. Only we ever link the temporary file, so two names mean success; opening it makes
        # the client ask the server.
        with suppress(OSError), tmp.open("rb") as file:
            if os.fstat(file.fileno()).st_nlink == 2:
                return True
        if isinstance(error, FileExistsError):
            return False
        raise write_failure(error, target) from error
    return True


def _discard(tmp: Path) -> None:
    """Remove a temporary file; one that cannot be removed is an orphan, not an error."""
    with suppress(OSError):
        tmp.unlink()


@contextmanager
def naming(path: Path | S3Location) -> Iterator[None]:
    """Raise a `WriteError` that names the file in place of an error of the operating system."""
    try:
        yield
    except OSError as error:
        raise write_failure(error, path) from error


def write_failure(error: OSError, path: Path | S3Location, data: Buffers = ()) -> WriteError:
    """Say in one sentence what failed, where, and the remedy."""
    if error.errno in _FULL:
        size = sum(memoryview(buffer).nbytes for buffer in data)
        what = f" ({count(size, 'byte')})" if size else ""
        return DiskFullError(
            f"{path}{what} could not be written: {os.strerror(error.errno)}. Free some space or "
            "raise the quota, then run the command again; nothing of it was published.",
            errno=error.errno,
        )
    hint = ""
    if error.errno == errno.EXDEV:
        hint = " The store and its side directory (.vnp) must be on one file system."
    elif error.errno in _NO_LINKS:
        hint = (
            " If this file system has no hard links, which claims need, or is not writable for "
            "you, put the store elsewhere."
        )
    return WriteError(f"{explained(error, path)}{hint}", errno=error.errno)


def explained(error: OSError, path: Path | S3Location | None = None) -> str:
    """Say in words what the operating system refused, of which file, and the remedy."""
    named = path if path is not None else error.filename
    shown = named if isinstance(named, S3Location | None) else os.fsdecode(named)
    where = "" if shown is None else f"{shown}: "
    if error.errno is None:
        return f"{where}{error}."
    hint = _HINTS.get(error.errno, "")
    if named is None and not hint:
        hint = " No file is named; run it again with --verbose, and look at the system's log."
    return f"{where}{os.strerror(error.errno)}.{hint}"
