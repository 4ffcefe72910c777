"""SHA-256 of many byte strings at once, its first 128 bits."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from store.io.loops import INITIAL, LANES, LOOPS, STATE, WORDS
from store.io.ragged import Ragged

Digests: TypeAlias = NDArray[np.uint64]  # (n, 2): first and second eight bytes, big-endian

_LONGEST = 1 << 20  # bytes of a string that is hashed beside others: each has so much room


def digests_of(first: Ragged, second: Ragged | None = None, *, separator: bytes = b"") -> Digests:
    """Digests (n, 2) of the items of a column, or of those of two with a byte between them."""
    n = len(first)
    lengths = first.lengths if second is None else first.lengths + second.lengths + 1
    room = (int(lengths.max(initial=0)) + 9 + 63) // 64 * 64  # what SHA-256 makes of the longest
    loops = LOOPS.get()
    if loops is None or room > _LONGEST:
        return _one_by_one(first, second, separator)
    out = np.empty((n, 2), dtype=np.uint64)
    other = first if second is None else second
    loops.sha256(
        first.data, first.offsets, other.data, other.offsets, n,
        -1 if second is None else separator[0],
        np.empty(LANES * room, np.uint8), room, np.empty(3 * LANES, np.int64),
        np.empty(STATE, np.uint32), np.empty(WORDS, np.uint32), np.array(INITIAL, np.uint32), out,
    )  # fmt: skip
    return out


def _one_by_one(first: Ragged, second: Ragged | None, separator: bytes) -> Digests:
    sha256 = hashlib.sha256
    a, start = memoryview(first.data.tobytes()), first.offsets.tolist()
    parts = bytearray()
    if second is None:
        for i in range(len(first)):
            parts += sha256(a[start[i] : start[i + 1]]).digest()[:16]
    else:
        b, begin = memoryview(second.data.tobytes()), second.offsets.tolist()
        for i in range(len(first)):
            digest = sha256(a[start[i] : start[i + 1]])
            digest.update(separator)
            digest.update(b[begin[i] : begin[i + 1]])
            parts += digest.digest()[:16]
    return np.frombuffer(bytes(parts), dtype=">u8").astype(np.uint64).reshape(-1, 2)
