"""Open a plain or compressed input file as a stream of plain bytes.

The first bytes tell the compression, not the file name: names can be wrong, and standard input has
none. Everything is read once, front to back, so pipes work like files.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import zstandard

from store.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN = "-"
_BUFFER = 1 << 18  # bytes read at a time
# Bytes handed to zstd at a time. A zstd block of a few bytes can stand for 128 KiB, so this also
# bounds what comes out at once (about 130 MB for the most extreme input that can be made).
_ZSTD_FEED = 4096

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
_TAR_AT = 257
_ALIGNMENT = (b"BAM\x01", b"CRAM")
_FOREIGN = {
    b"\xfd7zXZ\x00": "an xz file (unpack it: xz -dk FILE)",
    b"PK\x03\x04": "a zip archive (unpack it: unzip FILE)",
    b"7z\xbc\xaf": "a 7z archive (unpack it: 7z x FILE)",
    b"\x1f\x8b": "gzip within a compressed file (unpack it once: gunzip FILE)",
    b"\x28\xb5\x2f\xfd": "zstd within a compressed file (unpack it once: unzstd FILE)",
    b"BZh": "bzip2 within a compressed file (unpack it once: bunzip2 FILE)",
    b"\xff\xfe": "UTF-16 text (convert it: iconv -f UTF-16 -t ASCII FILE)",
    b"\xfe\xff": "UTF-16 text (convert it: iconv -f UTF-16 -t ASCII FILE)",
    b"BAM\x01": "a BAM file (vnp reads it from a file, not a pipe; or: samtools fasta)",
    b"CRAM": "a CRAM file (vnp reads it from a file, not a pipe; or: samtools fasta)",
    b"\x89HDF": "an HDF5 file",
    b".sra": "an SRA file",
    b"NCBI.sra": "an SRA file",
    b"%PDF": "a PDF file",
}


class InputError(DataError):
    """An input file is not what it must be.

    ``name`` is the file and ``message`` what is wrong; ``record`` is the 1-based number of the
    record at fault, ``line`` the 1-based line of the decompressed text, where they are known.
    """

    def __init__(
        self, name: str, message: str, *, record: int | None = None, line: int | None = None
    ) -> None:
        self.name = name
        self.message = message
        self.record = record
        self.line = line
        at_record = "" if record is None else f", record {record}"
        at_line = "" if line is None else f", line {line}"
        super().__init__(f"{name}{at_record}{at_line}: {message}")


class BrokenStreamError(DataError):
    """The bytes end or break inside the compressed data; the reader adds where."""


def is_alignment(path: str | Path) -> bool:
    """Whether a file, and not a pipe, is BAM or CRAM."""
    if str(path) == STDIN or not Path(path).is_file():
        return False
    try:
        with Path(path).open("rb") as file:
            head = file.read(4)
            if head[:2] == b"\x1f\x8b":  # BAM is in the blocked form of gzip
                file.seek(0)
                head = gzip.GzipFile(fileobj=file).read(4)
    except (OSError, EOFError, zlib.error):
        return False  # opening it says what is wrong
    return head in _ALIGNMENT


def display_name(path: str | Path) -> str:
    """Name of an input as messages show it."""
    return "standard input" if str(path) == STDIN else str(path)


def file_sha256(path: str | Path, *, stop: Event | None = None) -> str:
    """Hex sha-256 of a regular file's bytes as they are on disk; `InputError` if unreadable.

    Once ``stop`` is set the rest of the file is left out.
    """
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_BUFFER))
    try:
        with Path(path).open("rb", buffering=0) as file:
            while (size := file.readinto(buffer)) and not (stop is not None and stop.is_set()):
                digest.update(buffer[:size])
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def open_bytes(path: str | Path) -> io.BufferedReader:
    """Open a plain, gzip, zstd or bzip2 file, or ``-`` for standard input, as plain bytes.

    Closing the result closes the file, but leaves standard input open. Raises `InputError` if the
    file cannot be opened or is of a kind that holds no FASTA or FASTQ text, and `BrokenStreamError`
    later, from a read, if the compressed data are damaged or cut short.
    """
    name = display_name(path)
    with ExitStack() as files:
        raw: io.BufferedIOBase | BinaryIO = sys.stdin.buffer
        if str(path) != STDIN:
            try:
                raw = files.enter_context(io.BufferedReader(io.FileIO(path), _BUFFER))
            except OSError as error:
                raise InputError(name, f"cannot be read: {error.strerror}") from error
        head = raw.read(8)
        kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        if kind is None and (foreign := foreign_kind(head)) is not None:
            raise InputError(name, f"is {foreign}, not FASTA or FASTQ")
        source = io.BufferedReader(Rewound(head, raw), _BUFFER)
        text: io.BufferedIOBase | BinaryIO = source
        if kind == "gzip":
            # A thread of its own decompresses ahead, outside the GIL.
            text = files.enter_context(_xopen(source, format="gz", threads=1))
        elif kind == "bzip2":
            text = files.enter_context(_xopen(source, format="bz2", threads=0))
        elif kind == "zstd":
            text = io.BufferedReader(Blocks(_decompressed(source)), _BUFFER)
        return io.BufferedReader(_Guarded(text, kind, files.pop_all()), _BUFFER)


def _xopen(source: BinaryIO, **options: Any) -> BinaryIO:
    from xopen import xopen  # takes as long as a small append

    opened: BinaryIO = xopen(source, "rb", **options)
    return opened


def foreign_kind(head: bytes) -> str | None:
    """Name the kind of a file that begins with ``head`` and is known to hold something else."""
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "a tar archive (unpack it: tar -xf FILE)"
    return next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)


class Blocks(io.RawIOBase):
    """Blocks of bytes as a file, made when they are read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._left = memoryview(b"")  # of the current block

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to as many bytes as ``buffer`` takes."""
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = memoryview(block)
        view = memoryview(buffer)
        size = min(len(view), len(self._left))
        view[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


class Rewound(io.RawIOBase):
    """A file with bytes that were read already back in front of it."""

    def __init__(self, head: bytes, rest: io.BufferedIOBase | BinaryIO) -> None:
        self._head = memoryview(head)
        self._rest = cast("io.BufferedReader", rest)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what is there, up to as many bytes as ``buffer`` takes."""
        if not self._head:
            return self._rest.readinto1(buffer)  # what a pipe has: it waits for no more
        view = memoryview(buffer)
        size = min(len(view), len(self._head))
        view[:size] = self._head[:size]
        self._head = self._head[size:]
        return size


def _decompressed(source: io.BufferedReader[Any]) -> Iterator[bytes]:
    """Decompress zstd, any number of frames, and notice a frame that is cut short.

    ``zstandard``'s own stream reader reports the end of a truncated file as a normal end.
    """
    # Files made with `zstd --long=31` need a window of 2 GiB; others take what they state.
    context = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    frame = context.decompressobj()
    inside = False  # whether a frame has begun and not ended
    while data := source.read(_ZSTD_FEED):
        while data:
            yield frame.decompress(data)
            inside, data = not frame.eof, frame.unused_data
            if frame.eof:
                frame = context.decompressobj()
    if inside:
        raise EOFError("the last frame is incomplete")


class _Guarded(io.RawIOBase):
    """Turn any error of a decompressor into one kind, and close the files."""

    def __init__(
        self, text: io.BufferedIOBase | BinaryIO, kind: str | None, files: ExitStack
    ) -> None:
        self._text = text
        self._kind = kind
        self._files = files

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            return cast("io.BufferedReader", self._text).readinto(buffer)
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
        self._files.close()
        super().close()
