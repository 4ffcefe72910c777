"""Reading the appender's columns of an HDF5 store, a block at a time and checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.geometry import block_bounds
from store.hdf5.file import FileMap, State, current_map, reading
from store.hdf5.heap import REFERENCE, collections_of, decode
from store.hdf5.home import Home
from store.hdf5.layout import CHECKSUMS, CHECKSUMS_PER_CHUNK, open_library
from store.hdf5.overlay import Overlay
from store.io.ragged import Ragged, from_items
from store.layout import Column, row_columns

Read = TypeVar("Read")

_CRC_BYTES = 4


def read_block_column(
    path: Path, file_map: FileMap, name: str, *, block: int, rows: int
) -> NDArray[Any] | Ragged:
    """Values of a column in the first rows of a block, compared with their checksum."""

    def read(fd: int, at: FileMap) -> NDArray[Any] | Ragged:
        if row_columns(at.schema)[name].dtype == "string":
            if at.state is State.MOVED:
                return _moved_strings(fd, at, name, block)
            return _strings(fd, at, name, block).slice(0, rows)
        return _numbers(fd, at, name, block)[:rows]

    return _at_some_commit(path, file_map, read)


def _at_some_commit(path: Path, file_map: FileMap, read: Callable[[int, FileMap], Read]) -> Read:
    """Read at the given commit, or where its checksums have been overtaken, at the newest.

    A later append into the same block leaves its older rows as they are, but their checksum then
    covers the new rows too.
    """
    while True:
        try:
            with reading(path) as fd:
                return read(fd, file_map)
        except DamageError:
            newest = current_map(path, file_map)
            if newest is file_map:
                raise
            file_map = newest


def _numbers(fd: int, file_map: FileMap, name: str, block: int) -> NDArray[Any]:
    column = row_columns(file_map.schema)[name]
    dtype = np.dtype(column.dtype).newbyteorder("<")
    raw = _read_chunk(fd, file_map, column, block, dtype)
    _compare(fd, file_map, name, block, google_crc32c.value(raw))
    return np.frombuffer(raw, dtype=dtype)


def _strings(fd: int, file_map: FileMap, name: str, block: int) -> Ragged:
    column = row_columns(file_map.schema)[name]
    where = f"{column.path} block {block}"
    raw = _read_chunk(fd, file_map, column, block, REFERENCE)
    values = np.frombuffer(raw, dtype=REFERENCE)
    crc = google_crc32c.value(raw)
    size = file_map.places.collection
    addresses = collections_of(values)
    inside = (addresses >= 0) & (addresses + size <= file_map.end)
    if not bool(inside.all()):
        raise DamageError(f"{where}: a reference points outside the file; run 'vnp verify'")
    content = _read_runs(fd, addresses, size, where)
    for collection in content:
        crc = google_crc32c.extend(crc, collection.tobytes())
    _compare(fd, file_map, name, block, crc)
    try:
        return decode(values, content)
    except DamageError as error:
        raise DamageError(f"{where}: {error}") from None


def _moved_strings(fd: int, file_map: FileMap, name: str, block: int) -> Ragged:
    """Read strings of a file that another program rewrote: its heap is the library's own."""
    column, schema = row_columns(file_map.schema)[name], file_map.schema
    start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
    try:
        with open_library(Overlay(fd), "r") as tree:
            return from_items(Home(tree)[column.path][start:stop].tolist())
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DamageError(f"{column.path} block {block}: {error}; run 'vnp verify'") from None


def pread(fd: int, offset: int, size: int, where: str) -> bytes:
    """Read bytes that must be there: DamageError if the file ends before."""
    raw = os.pread(fd, size, offset) if offset >= 0 else b""
    while 0 < len(raw) < size and (more := os.pread(fd, size - len(raw), offset + len(raw))):
        raw += more  # one call reads at most 2 GiB
    if len(raw) != size:
        raise DamageError(f"{where}: the file ends in it (truncated); run 'vnp verify'")
    return raw


def _read_chunk(
    fd: int, file_map: FileMap, column: Column, block: int, dtype: np.dtype[Any]
) -> bytes:
    """Rows of a block that were committed: the checksum covers these."""
    schema = file_map.schema
    start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
    offset = int(file_map.chunks[column.path][block])
    return pread(fd, offset, (stop - start) * dtype.itemsize, f"{column.path} block {block}")


def _read_runs(fd: int, addresses: NDArray[np.int64], size: int, where: str) -> NDArray[np.uint8]:
    """Read collections, those that lie end to end in one call: uint8 (k, size)."""
    out = np.empty((len(addresses), size), dtype=np.uint8)
    breaks = np.flatnonzero(np.diff(addresses) != size) + 1
    for first, last in zip([0, *breaks], [*breaks, len(addresses)], strict=True):
        if last > first:
            raw = pread(fd, int(addresses[first]), int(last - first) * size, where)
            out[first:last] = np.frombuffer(raw, np.uint8).reshape(-1, size)
    return out


def _compare(fd: int, file_map: FileMap, name: str, block: int, crc: int) -> None:
    names = list(row_columns(file_map.schema))
    where = f"{row_columns(file_map.schema)[name].path} block {block}"
    chunk, row = divmod(block, CHECKSUMS_PER_CHUNK)
    at = (
        int(file_map.chunks[CHECKSUMS][chunk]) + (row * len(names) + names.index(name)) * _CRC_BYTES
    )
    wanted = int.from_bytes(pread(fd, at, _CRC_BYTES, where), "little")
    if crc != wanted:
        raise DamageError(f"{where} does not match its checksum; run 'vnp verify'")
