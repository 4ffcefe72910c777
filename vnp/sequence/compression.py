"""Open an input file as a stream of plain bytes, whatever it is compressed with.

The kind of compression is read off the first bytes, never off the file name: names lie, and
standard input has none. Everything is read once, front to back, so pipes work like files.
"""

from __future__ import annotations

import hashlib
import io
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import zstandard
from xopen import xopen

from store.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    class _Source(Protocol):
        """What is read here of a file."""

        def read(self, size: int, /) -> bytes | None: ...
        def readinto(self, buffer: WriteableBuffer, /) -> int | None: ...
        def close(self) -> None: ...


STDIN = "-"
_BUFFER = 1 << 18  # bytes read from disk at a time
# Bytes handed to zstd at a time. A zstd block of a few bytes can stand for 128 KiB, so this also
# bounds what comes out at once (about 130 MB for the most extreme input that can be made).
_ZSTD_FEED = 4096

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
_FOREIGN = {
    b"\xfd7zXZ\x00": "an xz archive",
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"BAM\x01": "a BAM file",
    b"CRAM": "a CRAM file",
    b"\x89HDF": "an HDF5 file",
    b".sra": "an SRA file",
    b"NCBI.sra": "an SRA file",
    b"%PDF": "a PDF file",
}


class InputError(DataError):
    """An input file is not what it must be.

    Attributes
    ----------
    name : str
        The file as the user named it, or ``standard input``.
    record : int or None
        1-based number of the record at fault, where there is one.
    line : int or None
        1-based line of the decompressed text, where it is known.
    """

    def __init__(
        self, name: str, message: str, *, record: int | None = None, line: int | None = None
    ) -> None:
        self.name = name
        self.record = record
        self.line = line
        where = name
        if record is not None:
            where += f", record {record}"
        if line is not None:
            where += f", line {line}"
        super().__init__(f"{where}: {message}")


class BrokenStreamError(DataError):
    """The bytes end or break inside the compressed data; the reader adds where."""


def display_name(path: str | Path) -> str:
    """Name of an input as messages show it."""
    return "standard input" if str(path) == STDIN else str(path)


def file_sha256(path: str | Path) -> str:
    """Hex sha-256 of a regular file's bytes as they lie on disk.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from error


def open_bytes(path: str | Path) -> io.BufferedReader:
    """Open a plain, gzip, zstd or bzip2 file, or ``-`` for standard input, as plain bytes.

    Closing the result closes the file, but leaves standard input open.

    Raises
    ------
    InputError
        If the file cannot be opened, or is of a kind that holds no FASTA or FASTQ text.
    BrokenStreamError
        Later, from a read, if the compressed data are damaged or cut short.
    """
    name = display_name(path)
    is_stdin = str(path) == STDIN
    try:
        raw = cast("_Source", sys.stdin.buffer if is_stdin else io.FileIO(path))
    except OSError as error:
        raise InputError(name, f"cannot be read: {error.strerror}") from error
    owned = None if is_stdin else raw
    with ExitStack() as on_error:
        if owned is not None:
            on_error.callback(owned.close)
        head = _read_exactly(raw, 8)
        if (foreign := foreign_kind(head)) is not None:
            raise InputError(name, f"is {foreign}, not FASTA or FASTQ; convert it first")
        on_error.pop_all()
    source = io.BufferedReader(Rewound(head, raw), _BUFFER)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    inner: _Source = source
    if kind == "gzip":
        # A thread of its own decompresses ahead, outside the GIL.
        inner = cast("_Source", xopen(source, "rb", format="gz", threads=1))
    elif kind == "bzip2":
        inner = cast("_Source", xopen(source, "rb", format="bz2", threads=0))
    elif kind == "zstd":
        inner = io.BufferedReader(_Zstd(source), _BUFFER)
    return io.BufferedReader(_Guarded(inner, kind, owned), _BUFFER)


def foreign_kind(head: bytes) -> str | None:
    """Name the kind of a file that begins with ``head`` and is known to hold something else."""
    return next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)


def _read_exactly(file: _Source, size: int) -> bytes:
    """Read ``size`` bytes unless the file ends first; a pipe may deliver them one by one."""
    parts: list[bytes] = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Rewound(io.RawIOBase):
    """A file whose first bytes were read already and are put back in front."""

    def __init__(self, head: bytes, rest: _Source) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to as many bytes as ``buffer`` takes."""
        if not self._head:
            return self._rest.readinto(buffer) or 0
        view = memoryview(buffer)
        part = self._head[: len(view)]
        self._head = self._head[len(part) :]
        view[: len(part)] = part
        return len(part)


class _Zstd(io.RawIOBase):
    """Decompress zstd, any number of frames, and notice a frame that is cut short.

    ``zstandard``'s own stream reader reports the end of a truncated file as a normal end.
    """

    def __init__(self, source: _Source) -> None:
        self._source = source
        # Files made with `zstd --long=31` need a window of 2 GiB; others take what they state.
        self._context = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self._frame = self._context.decompressobj()
        self._inside = False  # whether a frame has begun and not ended
        self._pending = b""  # compressed bytes not yet handed over
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._output:
            data = self._pending or self._source.read(_ZSTD_FEED)
            self._pending = b""
            if not data:
                if self._inside:
                    raise EOFError("the last frame is incomplete")
                return 0
            self._output = memoryview(self._frame.decompress(data))
            self._inside = not self._frame.eof
            if self._frame.eof:
                self._pending = self._frame.unused_data
                self._frame = self._context.decompressobj()
        view = memoryview(buffer)
        size = min(len(view), len(self._output))
        view[:size] = self._output[:size]
        self._output = self._output[size:]
        return size


class _Guarded(io.RawIOBase):
    """Turn whatever a decompressor raises into one kind of error, and own the file."""

    def __init__(self, inner: _Source, kind: str | None, owned: _Source | None) -> None:
        self._inner = inner
        self._kind = kind
        self._owned = owned

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            return self._inner.readinto(buffer) or 0
        except EOFError as error:
            raise BrokenStreamError(
                f"the {self._kind} data end too early: the file is truncated"
            ) from error
        except MemoryError:
            raise
        except Exception as error:  # each library raises a class of its own
            what = f"the {self._kind} data are damaged" if self._kind else "reading failed"
            raise BrokenStreamError(f"{what} ({error})") from error

    def close(self) -> None:
        if not self.closed:
            if self._kind is not None:
                self._inner.close()
            if self._owned is not None:
                self._owned.close()
        super().close()
