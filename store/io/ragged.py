"""Columns of byte strings without Python objects, and their chunk encoding.

A store of 100 million records cannot be built from 100 million ``str`` objects, so string
columns travel as one byte buffer plus offsets and are laid out on disk with array operations::

    data     A C G T T A C | G G A
    offsets  0       4     7     10        items: ACGT, TAC, GGA

On disk (Zarr v3 ``vlen-utf8``) a chunk is the item count and then, for each item, its length and
its bytes; every number is a little-endian uint32::

    3 | 4 ACGT | 3 TAC | 3 GGA
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.io.loops import LOOPS

_WORD = 4  # bytes of a length in the vlen-utf8 layout
_MANY = 1000  # items for which a library is loaded


@dataclass(frozen=True, slots=True)
class Ragged:
    """A column of n byte strings: item ``i`` is ``data[offsets[i]:offsets[i + 1]]``."""

    data: NDArray[np.uint8]  # all items end to end
    offsets: NDArray[np.int64]  # shape (n + 1,), the first is 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of every item in bytes, shape (n,)."""
        return self.offsets[1:] - self.offsets[:-1]  # a fifth of `numpy.diff`

    def slice(self, start: int, stop: int) -> Ragged:
        """Items ``start`` to ``stop`` (clipped to the column), sharing the byte buffer."""
        offsets = self.offsets[start : stop + 1]
        return Ragged(self.data[offsets[0] : offsets[-1]], offsets - offsets[0])

    def tolist(self) -> list[bytes]:
        """Return every item as ``bytes``."""
        raw = self.data.tobytes()
        return [raw[a:b] for a, b in pairwise(self.offsets.tolist())]

    def decode(self) -> list[str]:
        """Return every item as ``str`` (UTF-8)."""
        raw = self.data.tobytes()
        text = raw.decode()
        if len(text) < len(raw):  # offsets count bytes
            return [item.decode() for item in self.tolist()]
        return [text[a:b] for a, b in pairwise(self.offsets.tolist())]


def from_items(items: Iterable[bytes]) -> Ragged:
    """Build a column from byte strings."""
    parts = list(items)
    lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    return Ragged(np.frombuffer(b"".join(parts), dtype=np.uint8), offsets_of(lengths))


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets (n + 1,) of items of the given lengths (n,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def concatenate(columns: list[Ragged]) -> Ragged:
    """Join columns end to end."""
    if not columns:
        return from_items(())
    if len(columns) == 1:
        return columns[0]
    lengths = np.concatenate([column.lengths for column in columns])
    return Ragged(np.concatenate([column.data for column in columns]), offsets_of(lengths))


def encode_vlen(parts: Sequence[Ragged], *, count: int) -> NDArray[np.uint8]:
    """Lay parts of a column out as a ``vlen-utf8`` chunk of ``count`` items.

    It is padded with empty strings. ValueError if there are more items.
    """
    n = sum(map(len, parts))
    if n > count:
        raise ValueError(f"{n} items do not fit a chunk of {count}")
    loops = LOOPS.get()
    if loops is not None:
        size = sum(len(part.data) for part in parts)
        chunk = np.empty(_WORD * (1 + count) + size, dtype=np.uint8)
        chunk[:_WORD] = np.frombuffer(np.uint32(count).tobytes(), np.uint8)
        at = _WORD
        for part in parts:
            at += loops.vlen(part.data, part.offsets, len(part), chunk[at:])
        chunk[at:] = 0
        return chunk
    column = concatenate(list(parts))
    lengths = column.lengths
    # Where the length of each item goes: after the count, the items before and their lengths.
    heads = _WORD + column.offsets[:-1] + _WORD * np.arange(n, dtype=np.int64)
    out = np.zeros(_WORD * (1 + count) + len(column.data), dtype=np.uint8)
    out[:_WORD] = np.frombuffer(np.uint32(count).tobytes(), np.uint8)
    words = lengths.astype("<u4").view(np.uint8).reshape(n, _WORD)
    is_data = np.ones(_WORD * n + len(column.data), dtype=bool)
    for byte in range(_WORD):
        out[heads + byte] = words[:, byte]
        is_data[heads + byte - _WORD] = False
    out[_WORD : _WORD + len(is_data)][is_data] = column.data
    return out


def decode_vlen(raw: bytes) -> Ragged:
    """Read a ``vlen-utf8`` chunk back; `DamageError` if its lengths do not add up to its size."""
    if len(raw) < _WORD:
        raise DamageError(f"a string chunk of {len(raw)} bytes holds no item count")
    count = int.from_bytes(raw[:_WORD], "little")
    size = len(raw)
    if count > size // _WORD:
        raise DamageError(f"a string chunk of {size} bytes claims {count} items")
    heads = _heads_of_text(raw, count)
    if heads is None:
        heads = _heads(raw, count)
    lengths = np.diff(heads, append=size) - _WORD
    is_data = np.ones(size, dtype=bool)
    is_data[:_WORD] = False
    for byte in range(_WORD):
        is_data[heads + byte] = False
    return Ragged(np.frombuffer(raw, np.uint8)[is_data], offsets_of(lengths))


def _heads(raw: bytes, count: int) -> NDArray[np.int64]:
    """Where the length of each item is; DamageError if they do not add up."""
    size = len(raw)
    heads = np.empty(count, dtype=np.int64)
    position = _WORD
    for item in range(count):
        if position + _WORD > size:
            raise DamageError(f"a string chunk of {count} items ends before item {item}")
        length = int.from_bytes(raw[position : position + _WORD], "little")
        heads[item] = position
        position += _WORD + length
    if position != size:
        raise DamageError(f"a string chunk of {size} bytes has items up to byte {position}")
    return heads


def _heads_of_text(raw: bytes, count: int) -> NDArray[np.int64] | None:
    """The same without a loop; None unless every item is text of 1 to 65,535 bytes, less padding.

    Text has no zero byte, and such a length ends in two: a head is where two zeros or more end.
    That is a guess, which the lengths confirm.
    """
    size = len(raw)
    end = len(raw.rstrip(b"\0"))
    padding, rest = divmod(size - end, _WORD)  # empty strings
    count -= padding
    if rest or count < 1 or end <= 2 * _WORD:
        return None
    data = np.frombuffer(raw, np.uint8, end)
    zero = data[_WORD:] == 0
    heads = np.flatnonzero(zero[:-2] & zero[1:-1] & ~zero[2:]) + 2  # of the first of four bytes
    if len(heads) != count or heads[0] != _WORD:
        return None
    ends = heads + (_WORD + data[heads].astype(np.int64) + (data[heads + 1].astype(np.int64) << 8))
    if data[heads + 2].any() or ends[-1] != end or (ends[:-1] != heads[1:]).any():
        return None
    return np.concatenate([heads, np.arange(end, size, _WORD)])
