"""The commit record of an HDF5 store, and the check of everything that the library will trust.

A flipped bit can send the HDF5 library into an endless loop, so its structures are compared with
their checksum before it opens the file. The map says which bytes these are; everything that is
committed lies inside what the library has allocated, so that it never cuts any of it off::

    [structures, chunks, structures, map, chunks ...]
         ^ commit record: end, place and checksum of the map, checksum of the structures

The superblock's consistency flags are left out: the library sets them while the file is open.

Files made before there was a map have an index instead, the spans alone, beyond the end of the
library's allocation. The library cuts it off when it closes a file that it may write to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.io.checksummed_json import pack_record, unpack_record

COMMIT_BYTES = 4096  # size of the record; it begins at a multiple of it
_BEGINS = b'{"generation":'
_SEARCHED = 1 << 20  # the record lies in the first megabyte
_PIECE = 1 << 24  # bytes read at a time
FLAGS = (20, 24)  # consistency flags of a superblock of version 0 or 1
_SPAN = np.dtype("<i8")

PRead = Callable[[int, int], bytes]  # offset, size


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit record."""

    generation: int  # commits so far
    rows: int  # committed rows, N
    end: int  # bytes of the file that are committed
    map_at: int  # first byte of the map
    map_bytes: int  # its length
    map_crc32c: str  # of the map, eight hex digits
    metadata_crc32c: str  # of all spans in the map
    has_map: bool = True  # or else, in earlier files, an index that reaches to ``end``

    def to_bytes(self) -> bytes:
        """Return the record as it is in the file."""
        record = asdict(self)
        del record["has_map"]
        return pack_record(record, size=COMMIT_BYTES)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Commit:
        """Read it back: DamageError if it is damaged."""
        record = unpack_record(raw, what="the commit record")
        if record is None:
            raise DamageError("the commit record is empty")
        try:
            end = int(record["end"])
            if "index_at" in record:
                at = int(record["index_at"])
                size, crc = end - at, str(record["index_crc32c"])
            else:
                at, size = int(record["map_at"]), int(record["map_bytes"])
                crc = str(record["map_crc32c"])
            return cls(
                generation=int(record["generation"]),
                rows=int(record["rows"]),
                end=end,
                map_at=at,
                map_bytes=size,
                map_crc32c=crc,
                metadata_crc32c=str(record["metadata_crc32c"]),
                has_map="index_at" not in record,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"the commit record is unreadable: {error}") from None


def find_commit(fd: int) -> tuple[int, bytes] | None:
    """Find the commit record without the library: its place and its bytes, or None."""
    for at in range(COMMIT_BYTES, _SEARCHED, COMMIT_BYTES):
        raw = os.pread(fd, COMMIT_BYTES, at)
        if is_record(raw):
            return at, raw
        if len(raw) < COMMIT_BYTES:
            break
    return None


def is_record(raw: bytes) -> bool:
    """Whether bytes begin as a commit record does."""
    return raw.startswith(_BEGINS)


def spans_between(taken: list[tuple[int, int]], end: int) -> NDArray[np.int64]:
    """Spans outside of the taken ones and before ``end``: (k, 2), first and past last byte."""
    spans, at = [], 0
    for start, stop in [*sorted(taken), (end, end)]:
        if start < 0 or stop > end:
            raise DamageError("a chunk lies outside the file")
        if start > at:
            spans.append((at, start))
        at = max(at, stop)
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def crc_of_spans(pread: PRead, spans: NDArray[np.int64]) -> str:
    """CRC-32C over all bytes of the spans, in order, as eight hex digits."""
    crc = 0
    for start, stop in spans.tolist():
        for first in range(start, stop, _PIECE):
            crc = google_crc32c.extend(crc, pread(first, min(_PIECE, stop - first)))
    return f"{crc:08x}"


def crc_of(data: bytes) -> str:
    """CRC-32C as eight hex digits."""
    return f"{google_crc32c.value(data):08x}"


def read_map_bytes(fd: int, commit: Commit) -> bytes:
    """Read the map, or the index of an earlier file; DamageError if it is damaged."""
    raw = os.pread(fd, commit.map_bytes, commit.map_at) if commit.map_bytes > 0 else b""
    if crc_of(raw) != commit.map_crc32c:
        raise DamageError("the map of its HDF5 structures is damaged")
    return raw


def spans_of(index: bytes) -> NDArray[np.int64]:
    """Spans of an earlier file's index."""
    if len(index) % (2 * _SPAN.itemsize):
        raise DamageError("the index of its HDF5 structures is damaged")
    return np.frombuffer(index, dtype=_SPAN).astype(np.int64).reshape(-1, 2)


def check_structures(fd: int, commit: Commit, spans: NDArray[np.int64]) -> None:
    """Compare all structures of the file with their checksum; DamageError if they differ."""
    found = crc_of_spans(lambda offset, length: os.pread(fd, length, offset), spans)
    if found != commit.metadata_crc32c:
        raise DamageError(
            "its HDF5 structures do not match their checksum (bits flipped, zeroed, or changed by "
            "another program)"
        )
