"""String columns of an HDF5 store: variable-length strings that we lay out ourselves.

To the HDF5 library a string column is an ordinary dataset of variable-length strings: for each
row a reference of 16 bytes (length, address, index) to an object in a *global heap collection*
(HDF5 file format specification, III.E). The collections lie in chunks of one more dataset of bytes
(``obs/vnp/heap``), one collection a chunk, so that a block's strings are read and written with a
few large reads, without the library and without a Python object for each::

    obs/protein (references)     5,A,1 | 7,A,2 | 3,A,3 | 9,B,1 ...
    chunk at A of the heap       GCOL size | 1,5 MKVLA | 2,7 MIVLLAA | 3,3 MKV | 0,free
    chunk at B                   GCOL size | 1,9 ...

Every block begins a new collection in each column, so its references and collections are all it
takes. An empty string is a reference of zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError, DataError
from store.io.ragged import Ragged, offsets_of

REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
_HEAD = 16  # bytes of a collection's head, and of an object's
_MAX_OBJECTS = 65_535  # an object's index has 16 bits


@dataclass(frozen=True, slots=True)
class Packing:
    """Where strings go: collection, place in it and index of each; arrays of length n."""

    collection: NDArray[np.int64]  # 0, 1, ...; of an empty string meaningless
    place: NDArray[np.int64]  # byte of the object's head in its collection
    index: NDArray[np.int64]  # 1, 2, ... in each collection; 0: an empty string
    collections: int  # how many there are
    end: int  # first free byte of the last collection


def collection_bytes(block_rows: int, segment_length: int) -> int:
    """Bytes of a collection: a power of two, about a sixteenth of a block's nucleotides.

    Of a store of whole contigs (``segment_length`` 0) it is the largest: 128 KiB.
    """
    if segment_length == 0:
        return 1 << 17
    wanted = max(block_rows * (segment_length + 24) // 16, 2 * segment_length + 4 * _HEAD)
    return int(min(max(1 << (wanted - 1).bit_length(), 1 << 13), 1 << 17))


def pack(lengths: NDArray[np.int64], *, size: int, end: int = _HEAD, index: int = 1) -> Packing:
    """Plan where strings of the given lengths go, in collections of ``size`` bytes.

    ``end`` and ``index`` are first free byte and next index of collection 0. DataError if a string
    does not fit a collection.
    """
    room = _object_bytes(lengths)
    if len(room) and int(room.max()) > size - _HEAD:
        raise DataError(
            f"a text of {int(lengths.max()):,} bytes does not fit an HDF5 store with these blocks: "
            f"at most {size - 2 * _HEAD:,}; shorten the sequence ids or use a .zarr store"
        )
    ends = np.cumsum(room)
    collection = np.zeros(len(room), np.int64)
    place = np.zeros(len(room), np.int64)
    number = np.zeros(len(room), np.int64)
    count = np.cumsum(room > 0)
    first, current = 0, 0
    while first < len(room):
        before = int(ends[first - 1]) if first else 0
        before_count = int(count[first - 1]) if first else 0
        stop = int(np.searchsorted(ends, before + size - end, side="right"))
        most = before_count + _MAX_OBJECTS - index + 1
        stop = min(stop, int(np.searchsorted(count, most, side="right")))
        here = slice(first, stop)
        collection[here] = current
        place[here] = end + ends[here] - room[here] - before
        number[here] = index + count[here] - before_count - 1
        if stop < len(room):
            current, end, index = current + 1, _HEAD, 1
        elif stop > first:
            end += int(ends[stop - 1]) - before
        first = stop
    number[room == 0] = 0
    return Packing(collection, place, number, current + 1, end)


def encode(values: Ragged, packing: Packing, *, size: int, start: bytes = b"") -> NDArray[np.uint8]:
    """Lay strings out as collections, shape (k, size); ``start`` is what collection 0 has."""
    out = np.zeros((packing.collections, size), dtype=np.uint8)
    if start:
        out[0] = np.frombuffer(start, np.uint8)
    out[:, :_HEAD] = np.frombuffer(b"GCOL\1\0\0\0" + size.to_bytes(8, "little"), np.uint8)
    flat, words = out.reshape(-1), out.reshape(-1).view("<u8")
    kept = packing.index > 0
    at = (packing.collection * size + packing.place)[kept]
    lengths = values.lengths
    words[at // 8] = packing.index[kept].astype(np.uint64) | np.uint64(1 << 16)  # used once
    words[at // 8 + 1] = lengths[kept]
    flat[_letters(at + _HEAD, lengths[kept])] = values.data
    # What is left of a collection is one free object, numbered 0, if its head fits.
    for number in range(packing.collections):
        own = np.flatnonzero((packing.collection == number) & kept)
        if number == 0 and start and not len(own):
            continue  # nothing was added to it
        end = packing.end
        if number < packing.collections - 1:
            last = int(own[-1])
            end = int(packing.place[last] + _object_bytes(lengths[last : last + 1])[0])
        if size - end >= _HEAD:
            base = number * size + end
            flat[base : (number + 1) * size] = 0
            words[base // 8 + 1] = size - end
    return out


def references(values: Ragged, packing: Packing, addresses: NDArray[np.int64]) -> NDArray[np.void]:
    """References to packed strings, given the address of each collection."""
    refs = np.zeros(len(values), dtype=REFERENCE)
    kept = packing.index > 0
    refs["length"] = values.lengths
    refs["address"][kept] = addresses[packing.collection[kept]]
    refs["index"] = packing.index
    return refs


def collections_of(refs: NDArray[np.void]) -> NDArray[np.int64]:
    """Addresses of the collections that a block's references lie in, in order."""
    address: NDArray[np.int64] = refs["address"][refs["length"] > 0].astype(np.int64)
    if not len(address):
        return address
    fresh: NDArray[np.int64] = address[np.concatenate([[True], address[1:] != address[:-1]])]
    return fresh


def decode(refs: NDArray[np.void], collections: NDArray[np.uint8]) -> Ragged:
    """Read a block's strings back from its references and their collections, shape (k, size).

    DamageError if they do not fit together.
    """
    lengths = refs["length"].astype(np.int64)
    kept = lengths > 0
    size = collections.shape[1]
    address = refs["address"][kept].astype(np.int64)
    number = np.cumsum(np.concatenate([[False], address[1:] != address[:-1]])[: len(address)])
    room = _object_bytes(lengths[kept])
    ends = np.cumsum(room)
    first = np.searchsorted(number, np.arange(len(collections)))
    before = np.where(first > 0, ends[first - 1], 0) if len(first) else first
    place = _HEAD + ends - room - (before[number] if len(number) else 0)
    if len(place) and int((place + room).max()) > size:
        raise DamageError("a reference points beyond its heap collection")
    at = number * size + place
    flat, words = collections.reshape(-1), collections.reshape(-1).view("<u8")
    heads = words[at // 8] & np.uint64(0xFFFF)
    fits = (heads == refs["index"][kept]) & (words[at // 8 + 1] == lengths[kept].astype(np.uint64))
    if not bool(fits.all()):
        raise DamageError("a reference does not fit the heap object it points to")
    return Ragged(flat[_letters(at + _HEAD, lengths[kept])], offsets_of(lengths))


def strings_crc(refs: NDArray[np.void], size: int, pread: Callable[[int, int], bytes]) -> int:
    """CRC-32C of a block's references and then of its collections, whole and in order."""
    crc: int = google_crc32c.value(refs.tobytes())
    for address in collections_of(refs).tolist():
        crc = google_crc32c.extend(crc, pread(address, size))
    return crc


def _object_bytes(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes of objects: head and text, padded to eight; nothing for an empty string."""
    room: NDArray[np.int64] = np.where(lengths > 0, _HEAD + (lengths + 7) // 8 * 8, 0)
    return room


def _letters(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of every letter of texts that begin at ``starts``."""
    offsets = offsets_of(lengths)
    places: NDArray[np.int64] = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return places
