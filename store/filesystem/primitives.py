"""What a store does with a file system, each primitive tried once by one process.

`System` is the seam to the operating system: a test puts one in that refuses.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from store.filesystem.trial import Trial, tried

_PAGE = b"0123456789abcdef" * 256  # 4,096 bytes
_RENAMES = 200
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_NO_DIR_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})


@dataclass(frozen=True, slots=True)
class System:
    """The calls of the operating system that are tried."""

    link: Callable[[Path, Path], None] = os.link
    open: Callable[..., int] = os.open
    replace: Callable[[Path, Path], None] = os.replace
    fsync: Callable[[int], None] = os.fsync
    map: Callable[..., mmap.mmap] = mmap.mmap
    flock: Callable[[int, int], None] = fcntl.flock
    allocate: Callable[[int, int, int], None] = os.posix_fallocate
    pwrite: Callable[[int, bytes, int], int] = os.pwrite


def try_primitives(folder: Path, *, system: System | None = None) -> Iterator[Trial]:
    """Try each primitive in an empty folder that exists; what is made stays in it.

    Raises
    ------
    OSError
        If not even a file can be written there.
    """
    system = system if system is not None else System()
    for name in ("tmp", "names"):
        (folder / name).mkdir()
    first = folder / "tmp" / "first"
    first.write_bytes(_PAGE)
    for what, look, why in (
        ("link", _link, "Claims are made by link(): put the store elsewhere."),
        ("O_EXCL", _exclusive, "Releases are made with it: put the store elsewhere."),
        ("rename", _rename, "Commits and heartbeats are renamed: put the store elsewhere."),
        ("fsync of files", _sync, "What is published would not survive a power cut."),
        ("fsync of folders", _sync_folder, "What is published would not survive a power cut."),
        ("mmap", _map, "Readers map blocks: put the store elsewhere."),
        ("allocation", _allocate, "Appends map files whose space is allocated before."),
        ("writes in place", _in_place, "HDF5 stores are written so: use a Zarr store."),
        ("flock", _lock, "An append to an HDF5 store locks a file: use a Zarr store."),
    ):
        yield tried(what, folder, partial(look, folder, first, system), why=why)


def _link(folder: Path, first: Path, system: System) -> Trial:
    target = folder / "names" / "taken"
    try:
        system.link(first, target)
    except OSError as error:
        beside = first.with_name("beside")
        with suppress(OSError):
            system.link(first, beside)
        if not beside.exists():
            raise
        found = (
            f"hard links are made within a folder only, not into another one "
            f"({os.strerror(error.errno or 0)}); claims need them. BeeGFS has them from 7.4 on."
        )
        return Trial("link", "problem", found, {"errno": error.errno})
    names = first.stat().st_nlink
    second = first.with_name("second")
    second.write_bytes(b"second")
    try:
        system.link(second, target)
    except FileExistsError:
        pass
    else:
        found = "a hard link replaced a name that was taken: two workers would own one block"
        return Trial("link", "problem", found)
    if target.read_bytes() != _PAGE or names != 2:
        found = f"a file with two names says it has {names}, or another content: put it elsewhere"
        return Trial("link", "problem", found, {"names": names})
    return Trial("link", "ok", "hard links are made, and refuse a name that is taken")


def _exclusive(folder: Path, _first: Path, system: System) -> Trial:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    target = folder / "names" / "exclusive"
    os.close(system.open(target, flags, 0o666))
    try:
        os.close(system.open(target, flags, 0o666))
    except FileExistsError:
        return Trial("O_EXCL", "ok", "a name that is taken is refused")
    return Trial("O_EXCL", "problem", "a file was made under a name that was taken")


def _rename(folder: Path, _first: Path, system: System) -> Trial:
    """Replace a file again and again while a thread reads it."""
    target, contents = folder / "names" / "renamed", (_PAGE, _PAGE[::-1])
    target.write_bytes(contents[0])
    over, wrong = threading.Event(), list[str]()

    def read() -> None:
        last = False
        while not last and not wrong:
            last = over.is_set()  # so that it is read once more at the end
            try:
                content = target.read_bytes()
            except OSError as error:
                wrong.append(os.strerror(error.errno or 0))
            else:
                wrong.extend([] if content in contents else ["a mixture"])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        for number in range(_RENAMES):
            part = folder / "tmp" / f"renamed.{number}"
            part.write_bytes(contents[number % 2])
            system.replace(part, target)
    finally:
        over.set()
        reader.join()
    if wrong:
        found = (
            f"a reader found {wrong[0]} in the place of a file that was being replaced: who reads "
            "a store while a sample is appended may fail, and a power cut then may cost the commit"
        )
        return Trial("rename", "problem", found)
    return Trial("rename", "ok", "readers see the old file or the new one")


def _sync(folder: Path, _first: Path, system: System) -> Trial:
    seconds = []
    for number in range(5):
        fd = os.open(folder / "tmp" / f"synced.{number}", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.write(fd, _PAGE)
            began = time.monotonic()
            system.fsync(fd)
            seconds.append(time.monotonic() - began)
        finally:
            os.close(fd)
    took = sorted(seconds)[2] * 1000
    return Trial("fsync of files", "ok", f"{took:.1f} ms, the median of 5", {"milliseconds": took})


def _sync_folder(folder: Path, _first: Path, system: System) -> Trial:
    fd = os.open(folder / "names", os.O_RDONLY | os.O_DIRECTORY)
    try:
        system.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIR_SYNC:
            raise
        found = "refused: the file system keeps names safe by itself, or not at all"
        return Trial("fsync of folders", "note", found, {"errno": error.errno})
    finally:
        os.close(fd)
    return Trial("fsync of folders", "ok", "names are made safe on disk")


def _map(folder: Path, first: Path, system: System) -> Trial:
    with first.open("rb") as file, system.map(file.fileno(), 0, access=mmap.ACCESS_READ) as read:
        same = bytes(read) == _PAGE
    target = folder / "tmp" / "mapped"
    target.write_bytes(bytes(len(_PAGE)))
    with target.open("r+b") as both, system.map(both.fileno(), 0) as written:
        written[:] = _PAGE
        written.flush()
    if not same or target.read_bytes() != _PAGE:
        return Trial("mmap", "problem", "a mapped file has another content than the file")
    return Trial("mmap", "ok", "files are mapped for reading and for writing")


def _allocate(folder: Path, _first: Path, system: System) -> Trial:
    with (folder / "tmp" / "allocated").open("wb") as file:
        system.allocate(file.fileno(), 0, 1 << 20)
        size = os.fstat(file.fileno()).st_size
    if size != 1 << 20:
        return Trial("allocation", "problem", f"a file of 1,048,576 bytes has {size:,}")
    return Trial("allocation", "ok", "the space of a file is allocated before it is written")


def _in_place(folder: Path, _first: Path, system: System) -> Trial:
    target = folder / "tmp" / "placed"
    target.write_bytes(_PAGE)
    fd = system.open(target, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
    try:
        system.pwrite(fd, b"!", 1001)
    finally:
        os.close(fd)
    if target.read_bytes() != _PAGE[:1001] + b"!" + _PAGE[1002:]:
        return Trial("writes in place", "problem", "a byte written in place changed others")
    return Trial("writes in place", "ok", "bytes are written in place, and nothing beside them")


def _lock(folder: Path, _first: Path, system: System) -> Trial:
    target = folder / "tmp" / "locked"
    target.touch()
    without = (
        "vnp does without: an append to an HDF5 store is kept single by its claim alone. Other "
        "programs open .h5 files with HDF5_USE_FILE_LOCKING=FALSE"
    )
    fds = [os.open(target, os.O_RDWR | os.O_CLOEXEC) for _ in range(2)]
    try:
        system.flock(fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            system.flock(fds[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Trial("flock", "ok", "a lock keeps a second one out")
        return Trial("flock", "note", f"locks keep nobody out. {without}")
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        values: dict[str, Any] = {"errno": error.errno}
        return Trial("flock", "note", f"there are no locks. {without}", values)
    finally:
        for fd in fds:
            os.close(fd)
