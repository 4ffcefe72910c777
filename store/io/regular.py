"""Files under names that others can reach, opened as what they must be: regular, of bounded size.

A name in a store, or beside it, may be a pipe (opening it would wait for ever), a device that never
ends, a directory, or a file of any size. Everything that is read there is opened here.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from store.errors import DamageError
from store.io.words import count

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# What `open` says of sockets, of links that lead in a circle, of devices without a driver, of names
# below a file, and of a disk that cannot be read.
_ODD = {
    errno.ENXIO: "is a socket or a device, not a file",
    errno.ENODEV: "is a device, not a file",
    errno.ELOOP: "is a symbolic link, which does not belong there",
    errno.ENOTDIR: "cannot be there: a name above it is not a directory",
    errno.EIO: "cannot be read: the disk or network reports an input/output error",
}


def open_regular(path: Path | str, flags: int = os.O_RDONLY, *, follow: bool = True) -> int:
    """Open a regular file and return its descriptor; it never waits.

    With ``follow`` a symbolic link to a file is taken for it: data may lie elsewhere.

    Raises
    ------
    FileNotFoundError
        If there is nothing under the name, or a link to nothing.
    DamageError
        If it is anything but a file.
    OSError
        If it may not be opened.
    """
    return open_sized(path, flags, follow=follow)[0]


def open_sized(
    path: Path | str, flags: int = os.O_RDONLY, *, follow: bool = True
) -> tuple[int, int]:
    """Open a regular file and return its descriptor and size; else as `open_regular`."""
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except IsADirectoryError:
        raise DamageError("is a directory, not a file") from None
    except OSError as error:
        if error.errno in _ODD:
            raise DamageError(_ODD[error.errno]) from None
        raise
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise DamageError(f"is {kind_of(found.st_mode)}, not a file")
    return fd, found.st_size


# Hundreds of thousands of files are read by many threads: no path objects, no file objects, and as
# few calls as can be. Each gives the interpreter away, and has to wait for it again.


def read_end(path: Path | str, size: int) -> tuple[int, bytes]:
    """Size of a file, and its last ``size`` bytes; all else is as in `open_regular`."""
    fd, found = open_sized(path)
    try:
        return found, os.pread(fd, size, max(found - size, 0))
    except OSError as error:
        if error.errno in _ODD:
            raise DamageError(_ODD[error.errno]) from None
        raise
    finally:
        os.close(fd)


def read_regular(path: Path | str, *, most: int, follow: bool = True) -> bytes:
    """Read a whole file of at most ``most`` bytes; all else is as in `open_regular`."""
    fd, size = open_sized(path, follow=follow)
    try:
        if size > most:
            raise DamageError(f"length is {count(size, 'byte')} where at most {most:,} belong")
        parts: list[bytes] = []
        while size and (part := os.read(fd, size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    except OSError as error:
        if error.errno in _ODD:
            raise DamageError(_ODD[error.errno]) from None
        raise
    finally:
        os.close(fd)


def kind_of(mode: int) -> str:
    """Say what a file mode is the mode of."""
    return next((name for test, name in _KINDS if test(mode)), "a file")
