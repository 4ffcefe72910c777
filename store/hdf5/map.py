"""The map of a commit: its schema, and the byte at which everything of it lies.

It is the raw content of a dataset of the file's own (`layout.MAP`), with a checksum in the commit
record. Rows and blocks are found through it alone, so what another program does to the HDF5
structures neither hides nor moves them::

    [8 bytes: length of the header][header: JSON, zlib][offsets: int64 differences, zlib][zeros]
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.schema import Schema, from_attribute, to_attribute

_SIZE = 8
_MOST_BYTES = 1 << 31  # of either part, unpacked
_OFFSET = np.dtype("<i8")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the bytes of a commit lie."""

    schema: Schema
    chunks: dict[str, NDArray[np.int64]]  # by dataset: first byte of each chunk along the rows
    fixed: dict[str, tuple[int, int]]  # by dataset: first byte and length of the field
    collection: int  # bytes of a heap collection
    spans: NDArray[np.int64] = field(  # (k, 2): structures, first and past last byte
        default_factory=lambda: np.empty((0, 2), dtype=np.int64)
    )

    def same(self, other: Places) -> bool:
        """Whether both say the same of the store; the structures' spans may differ."""
        return (
            self.schema == other.schema
            and self.fixed == other.fixed
            and self.collection == other.collection
            and self.chunks.keys() == other.chunks.keys()
            and all(np.array_equal(at, other.chunks[name]) for name, at in self.chunks.items())
        )


def pack(places: Places) -> bytes:
    """Return a map as it is in the file."""
    header: dict[str, Any] = {
        "schema": to_attribute(places.schema),
        "chunks": {name: len(offsets) for name, offsets in places.chunks.items()},
        "fixed": places.fixed,
        "collection": places.collection,
        "spans": len(places.spans),
    }
    text = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 1)
    parts = [*places.chunks.values(), places.spans.reshape(-1)]
    differences = [np.diff(part, prepend=0).astype(_OFFSET) for part in parts]
    offsets = zlib.compress(np.concatenate(differences).tobytes(), 1)
    return len(text).to_bytes(_SIZE, "little") + text + offsets


def unpack(raw: bytes, *, where: str) -> Places:
    """Read a map back: DamageError if it makes no sense, NotAStoreError as for a schema."""
    start = _SIZE + int.from_bytes(raw[:_SIZE], "little")
    try:
        header = json.loads(_inflate(raw[_SIZE:start]))
        numbers = np.frombuffer(_inflate(raw[start:]), dtype=_OFFSET).astype(np.int64)
        lengths = [*header["chunks"].values(), 2 * header["spans"]]
        parts = [np.cumsum(part) for part in np.split(numbers, np.cumsum(lengths, dtype=np.int64))]
        chunks = dict(zip(header["chunks"], parts[:-2], strict=True))
        fixed = {name: (int(at), int(size)) for name, (at, size) in header["fixed"].items()}
        spans, collection = parts[-2].reshape(-1, 2), int(header["collection"])
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise DamageError(f"{where}: the map of the file is damaged: {error}") from None
    return Places(from_attribute(header["schema"], where=where), chunks, fixed, collection, spans)


def _inflate(raw: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(raw, _MOST_BYTES)
    if not stream.eof:
        raise ValueError("it is cut short, or too long")
    return data
