"""Columns that grow: arrays in files without a name, which are mapped to be read.

A table of millions of contigs is appended to by one thread and read by others. Its pages are the
file system's, which writes them out when memory is short; the files vanish with the process,
however it ends.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingColumn:
    """Numbers of one type, appended by one thread.

    OSError if the disk for temporary files (``TMPDIR``) is full.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `close` closes it
        self._bytes = 0

    def append(self, values: NDArray[Any]) -> None:
        """Add values at the end; arrays made before do not show them."""
        left = memoryview(np.ascontiguousarray(values, dtype=self.dtype).view(np.uint8).data)
        while left:
            written = self._file.write(left)
            left = left[written:]
            self._bytes += written

    def array(self) -> NDArray[Any]:
        """All values so far, read-only; valid also after the column is closed."""
        if not self._bytes:
            return np.empty(0, self.dtype)
        mapped = mmap.mmap(self._file.fileno(), self._bytes, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self.dtype)

    def close(self) -> None:
        """Give the file back once no array shows it."""
        self._file.close()
