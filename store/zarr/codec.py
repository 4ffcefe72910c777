"""Bytes of one chunk: from array to file content and back, exactly as Zarr v3 codecs do it.

A chunk file is ``[values | vlen-utf8] (zstd)? crc32c``: the values little-endian, the optional
compression, then four bytes of CRC-32C over everything before. A chunk always holds as many
rows as the grid says, padded with the fill value.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from zstandard import ZstdCompressor, ZstdError, frame_content_size

from store.errors import DamageError, DataError
from store.io.checked_read import read_checked
from store.io.json import LONGEST
from store.io.ragged import Ragged, decode_vlen, encode_vlen
from store.io.regular import open_sized, read_regular
from store.io.words import count
from store.layout import Column

if TYPE_CHECKING:
    from numcodecs.zstd import Zstd

CRC_BYTES = 4
_ZSTD_LEVEL = 1
_ONE = (1).to_bytes(4, "little")  # how many strings
_SKIPPED = (0x184D2A50).to_bytes(4, "little")  # begins a skippable frame of zstd
_LARGEST = 1 << 30  # bytes of a chunk; what claims more is damaged or hostile


@cache
def _decoder() -> Zstd:
    """The decoder of zarr-python; its import takes 50 ms, and many a command decodes nothing."""
    from numcodecs.zstd import Zstd

    return Zstd()


def numpy_dtype(column: Column) -> np.dtype[Any]:
    """Return the NumPy dtype of a column of numbers (little-endian)."""
    return _little_endian(column.dtype)


@cache
def _little_endian(name: str) -> np.dtype[Any]:
    return np.dtype(name).newbyteorder("<")


def encode_numbers(values: NDArray[Any], *, column: Column) -> bytes:
    """Encode up to one chunk of rows, shape (rows, ...), padding it with the fill value."""
    dtype = numpy_dtype(column)
    if values.shape[1:] != column.chunk[1:] or len(values) > column.chunk[0]:
        raise AssertionError(f"{values.shape} is not a chunk {column.chunk} of {column.path}")
    _check_size(number_bytes(column), column)
    if len(values) < column.chunk[0]:
        padded = np.full(column.chunk, column.fill, dtype=dtype)
        padded[: len(values)] = values
        values = padded
    return _with_crc(np.ascontiguousarray(values, dtype=dtype).tobytes(), column)


def encode_strings(*parts: Ragged, column: Column) -> bytes:
    """Encode up to one chunk of strings, in parts; a scalar column takes exactly one string."""
    count = column.chunk[0] if column.chunk else 1
    return _with_crc(encode_vlen(parts, count=count).data, column)


def decode_numbers(raw: bytes, *, column: Column) -> NDArray[Any]:
    """Decode a chunk of numbers to its full grid shape; DamageError if it is damaged."""
    expected = number_bytes(column)
    body = _without_crc(raw, column, most=expected)
    if len(body) != expected:
        raise DamageError(f"length is {count(len(body), 'byte')} of values where {expected} belong")
    return np.frombuffer(body, dtype=numpy_dtype(column)).reshape(column.chunk)


def decode_strings(raw: bytes, *, column: Column) -> Ragged:
    """Decode a chunk of strings to as many items as the grid says; DamageError if damaged."""
    values = decode_vlen(_without_crc(raw, column))
    expected = column.chunk[0] if column.chunk else 1
    if len(values) != expected:
        raise DamageError(f"length is {len(values)} strings where {expected} belong")
    return values


def decode_string(raw: bytes, *, column: Column) -> bytes:
    """Decode a chunk of one string; DamageError if it is damaged, or of more."""
    body = _without_crc(raw, column)
    if body[:4] == _ONE and int.from_bytes(body[4:8], "little") == len(body) - 8:
        return body[8:]  # without an array: half a million certificates are read one by one
    return decode_strings(raw, column=column)[0]


def read_chunk(path: Path | str, *, column: Column) -> bytes:
    """Read a chunk's file; `DamageError` if it is not a file, or longer than such a chunk can be.

    FileNotFoundError is left to the caller, to whom it may mean something.
    """
    return read_regular(path, most=longest_chunk(column))


def read_rows(path: str, *, column: Column, first: int, out: NDArray[np.float16]) -> str | None:
    """Read rows of a chunk that is not compressed, from ``first`` on, into ``out`` (n, dim).

    Returns the checksum of the whole chunk as `stored_crc` does; None, and anything in ``out``,
    unless the file is of the chunk's length and matches it.
    """
    if out.dtype != numpy_dtype(column) or not out.flags.c_contiguous:
        return None
    size = number_bytes(column)
    with suppress(OSError, DamageError):
        fd, found = open_sized(path)
        try:
            if found != size + CRC_BYTES:
                return None
            values = out.reshape(-1).view(np.uint8)
            skip = first * (size // column.chunk[0])
            crc = read_checked(fd, offset=0, size=size, out=values, skip=skip)
            stored = stored_crc(os.pread(fd, CRC_BYTES, size))
        finally:
            os.close(fd)
        if crc is not None and f"{crc:08x}" == stored:
            return stored
    return None


def longest_chunk(column: Column) -> int:
    """Bytes that a chunk of a column can have at most."""
    if column.compressed:
        return _LARGEST + CRC_BYTES
    return LONGEST if column.dtype == "string" else number_bytes(column) + CRC_BYTES


def number_bytes(column: Column) -> int:
    """Bytes of a chunk of numbers, neither compressed nor with its checksum."""
    return prod(column.chunk) * numpy_dtype(column).itemsize


def stored_crc(raw: bytes) -> str:
    """Return the checksum a chunk carries in its last four bytes, as eight hex digits."""
    return f"{int.from_bytes(raw[-CRC_BYTES:], 'little'):08x}"


def with_nonce(content: bytes) -> bytes:
    """Return other bytes of the same compressed chunk: a frame that decoders skip is added."""
    frame = _SKIPPED + (16).to_bytes(4, "little") + uuid4().bytes
    body = content[:-CRC_BYTES] + frame
    crc: int = google_crc32c.value(body)
    return body + crc.to_bytes(CRC_BYTES, "little")


def _with_crc(content: bytes | memoryview, column: Column) -> bytes:
    _check_size(len(content), column)
    # A compressor each time: threads cannot share one, and making it takes two microseconds.
    body = ZstdCompressor(_ZSTD_LEVEL).compress(content) if column.compressed else bytes(content)
    crc: int = google_crc32c.value(body)
    return body + crc.to_bytes(CRC_BYTES, "little")


def _check_size(size: int, column: Column) -> None:
    if size > _LARGEST:
        raise DataError(
            f"a chunk of {column.path} would take {size:,} bytes, more than {_LARGEST:,}; "
            "make the store with fewer rows a block"
        )


def _without_crc(raw: bytes, column: Column, *, most: int = _LARGEST) -> bytes:
    if len(raw) == 0:
        raise DamageError("file is empty (truncated to nothing)")
    if not any(raw[:64]) and not any(raw):
        raise DamageError(f"file is {count(len(raw), 'byte')} of zeros")
    if len(raw) <= CRC_BYTES:
        raise DamageError(f"file is truncated to {count(len(raw), 'byte')}")
    body = raw[:-CRC_BYTES]
    if google_crc32c.value(body) != int.from_bytes(raw[-CRC_BYTES:], "little"):
        raise DamageError(
            f"checksum does not match the {len(body)} bytes it covers (truncated or bits flipped)"
        )
    if column.compressed:
        try:
            size = frame_content_size(body)
            if not 0 <= size <= most:
                raise DamageError(f"zstd frame claims {size:,} bytes, which no such chunk has")
            body = bytes(_decoder().decode(body))
        except (RuntimeError, ZstdError) as error:
            raise DamageError(f"zstd frame is unreadable: {error}") from None
    return body
