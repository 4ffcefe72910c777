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


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = True) -> int:
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
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except IsADirectoryError:
        raise DamageError("is a directory, not a file") from None
    except OSError as error:
        if error.errno in _ODD:
            raise DamageError(_ODD[error.errno]) from None
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise DamageError(f"is {kind_of(mode)}, not a file")
    return fd


def read_regular(path: Path, *, most: int, follow: bool = True) -> bytes:
    """Read a whole file of at most ``most`` bytes; all else is as in `open_regular`."""
    fd = open_regular(path, follow=follow)
    try:
        size = os.fstat(fd).st_size
        if size > most:
            raise DamageError(f"length is {count(size, 'byte')} where at most {most:,} belong")
        # Without a file object: opening hundreds of thousands of files costs half the time.
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
