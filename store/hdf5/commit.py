"""The commit record of an HDF5 store, and the check of everything that the library will trust.

A flipped bit can send the HDF5 library into an endless loop, so its structures are compared with
their checksum before it opens the file. An index behind them says which bytes these are::

    [structures, chunks, structures, chunks ...][index: first and last byte of each structure]
         ^ commit record: end, place and checksum of the index, checksum of the structures
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError, NotAStoreError
from store.io.checksummed_json import pack_record, unpack_record

COMMIT_BYTES = 4096  # size of the record; it begins at a multiple of it
_BEGINS = b'{"generation":'
_SEARCHED = 1 << 20  # the record lies in the first megabyte
_PIECE = 1 << 24  # bytes read at a time
_SPAN = np.dtype("<i8")

PRead = Callable[[int, int], bytes]  # offset, size


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit record."""

    generation: int  # commits so far
    rows: int  # committed rows, N
    end: int  # bytes of the file that are committed
    index_at: int  # first byte of the index, which reaches to ``end``
    index_crc32c: str  # of the index, eight hex digits
    metadata_crc32c: str  # of all spans in the index

    def to_bytes(self) -> bytes:
        """Return the record as it is in the file."""
        return pack_record(asdict(self), size=COMMIT_BYTES)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Commit:
        """Read it back: DamageError if it is damaged."""
        record = unpack_record(raw, what="the commit record")
        if record is None:
            raise DamageError("the commit record is empty")
        try:
            return cls(
                generation=int(record["generation"]),
                rows=int(record["rows"]),
                end=int(record["end"]),
                index_at=int(record["index_at"]),
                index_crc32c=str(record["index_crc32c"]),
                metadata_crc32c=str(record["metadata_crc32c"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"the commit record is unreadable: {error}") from None


def find_commit(fd: int, path: Path) -> bytes:
    """Find the commit record without the library."""
    for at in range(COMMIT_BYTES, _SEARCHED, COMMIT_BYTES):
        raw = os.pread(fd, COMMIT_BYTES, at)
        if raw.startswith(_BEGINS):
            return raw
        if len(raw) < COMMIT_BYTES:
            break
    raise NotAStoreError(
        f"{path} is not a vnp store, or its commit record is damaged; make a store with "
        f"'vnp init {path}'"
    )


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


def index_bytes(spans: NDArray[np.int64]) -> bytes:
    """Return the index as it is in the file."""
    return spans.astype(_SPAN).tobytes()


def crc_of(data: bytes) -> str:
    """CRC-32C as eight hex digits."""
    return f"{google_crc32c.value(data):08x}"


def check_metadata(fd: int, commit: Commit) -> None:
    """Compare all structures of the file with their checksum; DamageError if they differ."""
    size = os.fstat(fd).st_size
    if size < commit.end:
        raise DamageError(f"it has {size:,} bytes of {commit.end:,} (truncated)")
    index = os.pread(fd, max(commit.end - commit.index_at, 0), commit.index_at)
    if crc_of(index) != commit.index_crc32c or len(index) % (2 * _SPAN.itemsize):
        raise DamageError("the index of its HDF5 structures is damaged")
    spans = np.frombuffer(index, dtype=_SPAN).astype(np.int64).reshape(-1, 2)
    found = crc_of_spans(lambda offset, length: os.pread(fd, length, offset), spans)
    if found != commit.metadata_crc32c:
        raise DamageError(
            "its HDF5 structures do not match their checksum (bits flipped, zeroed, or changed by "
            "another program)"
        )
