"""One block's embeddings, memory-mapped in place: nothing is read before it is touched."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.io.regular import open_regular
from store.io.words import count
from store.read.indexing import Ints

_F16 = np.dtype("<f2")


def map_chunk(
    path: Path, *, offset: int, shape: tuple[int, int], rows: Ints | None
) -> NDArray[np.float16]:
    """Map the float16 numbers (rows, columns) of one chunk, which begin at byte ``offset``.

    ``rows`` are the few rows that will be touched: the kernel starts to read them, and nothing
    else. None if it is better to read ahead. A file that is missing or too short is a
    `DamageError`: touching such a mapping would kill the process.
    """
    size = shape[0] * shape[1] * _F16.itemsize
    try:
        fd = open_regular(path)
    except FileNotFoundError:
        raise DamageError("filled, but missing; run 'vnp verify'") from None
    except DamageError as error:
        raise DamageError(f"it {error}; run 'vnp verify'") from None
    try:
        found = os.fstat(fd).st_size
        if found < offset + size:
            raise DamageError(
                f"length is {count(found, 'byte')} where {offset + size} belong; run 'vnp verify'"
            )
        skip = offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(fd, skip + size, access=mmap.ACCESS_READ, offset=offset - skip)
        if rows is not None:
            _fetch(fd, mapped, offset + rows * shape[1] * _F16.itemsize, shape[1] * _F16.itemsize)
    finally:
        os.close(fd)
    return np.frombuffer(mapped, dtype=_F16, count=shape[0] * shape[1], offset=skip).reshape(shape)


def _fetch(fd: int, mapped: mmap.mmap, begins: Ints, size: int) -> None:
    """Ask the kernel to read the ranges of ``size`` bytes concurrently, unless it has them."""
    probes = {int(begins[0]), int(begins[len(begins) // 2]), int(begins[-1])}
    if all(_is_cached(fd, begin) for begin in probes):
        return  # most likely all are; the others are read when touched
    mapped.madvise(mmap.MADV_RANDOM)
    for begin in begins.tolist():
        os.posix_fadvise(fd, begin, size, os.POSIX_FADV_WILLNEED)


def _is_cached(fd: int, position: int) -> bool:
    """Whether a byte of a file can be read without waiting for the disk."""
    try:
        return os.preadv(fd, [bytearray(1)], position, os.RWF_NOWAIT) == 1
    except OSError:  # it is not in memory, or the file system cannot tell
        return False
