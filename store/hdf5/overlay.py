"""A file as the HDF5 library is shown it: its changes to what is committed are held back.

What the library writes below the committed end is kept in memory as patches, until
:mod:`store.hdf5.journal` applies them; what it writes beyond goes straight to the file::

    0 ............ committed end ............ new end
    [file + patches            ][written in place    ]
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.io.files import write_failure

_PAGE = 4096
_GUARD_EVERY = 1.0  # seconds; a process that was frozen looks again before it writes on


class Overlay(io.RawIOBase):
    """A file object over the caller's descriptor; without ``end`` (committed bytes) read-only.

    ``guard`` is called before writes, at most once a second; it raises if the lock is lost.

    A write never raises: an exception inside the library's flush leaves it in a state in which it
    crashes later. The first error is kept in ``error``; from then on nothing more is written to
    the file. Call `raise_error` when the library has returned.
    """

    def __init__(
        self,
        fd: int,
        *,
        end: int | None = None,
        guard: Callable[[], None] | None = None,
        path: Path = Path(),
    ) -> None:
        super().__init__()
        self._fd = fd
        self._path = path  # as messages name it
        self._end = end
        self._guard = guard
        self._guarded = time.monotonic()
        self._position = 0
        self._pages: dict[int, tuple[bytearray, bytearray]] = {}  # content, which bytes are set
        self.size = os.fstat(fd).st_size if end is None else end  # as the library sees it
        self.error: Exception | None = None  # of a write: the library does not pass it on
        self.written = (0, 0)  # offset and length of the last write

    # -- what the library calls ---------------------------------------------------------------

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the end is that of the file as the library sees it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read at the position; what was never written reads as zeros."""
        view = memoryview(buffer).cast("B")
        if self._end is None and self._position + len(view) > self.size:
            raise OSError(f"bytes up to {self._position + len(view)} of {self.size} are read")
        view[:] = self.pread(self._position, len(view))
        self._position += len(view)
        return len(view)

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Write at the position."""
        view = memoryview(data).cast("B")
        self.pwrite(self._position, view)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size; the file itself gets it when the transaction is committed."""
        if self._end is not None:
            self.size = max(self._position if size is None else size, self._end)
        return self.size

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def writable(self) -> bool:
        """Whether it can be written."""
        return self._end is not None

    def seekable(self) -> bool:
        """Whether it can be moved about in: yes."""
        return True

    # -- what we call -------------------------------------------------------------------------

    def pread(self, offset: int, size: int) -> bytes:
        """Bytes as they will be once the patches are applied."""
        raw = os.pread(self._fd, size, offset)
        if not self._pages:
            return raw if len(raw) == size else raw.ljust(size, b"\0")
        out = bytearray(raw.ljust(size, b"\0"))
        for page in range(offset // _PAGE, (offset + size - 1) // _PAGE + 1):
            held = self._pages.get(page)
            if held is None:
                continue
            first, last = max(offset, page * _PAGE), min(offset + size, (page + 1) * _PAGE)
            here = slice(first - page * _PAGE, last - page * _PAGE)
            content = np.frombuffer(held[0], np.uint8)[here]
            is_set = np.frombuffer(held[1], np.bool_)[here]
            part = np.frombuffer(out, np.uint8)[first - offset : last - offset]
            part[is_set] = content[is_set]
        return bytes(out)

    def pwrite(self, offset: int, data: bytes | memoryview) -> None:
        """Write: a patch below the committed end, in place beyond it."""
        if self._end is None:
            raise io.UnsupportedOperation("the file is open for reading only")
        view = memoryview(data).cast("B")
        below = min(max(self._end - offset, 0), len(view))
        try:
            if self.error is None:
                if self._guard is not None and time.monotonic() - self._guarded > _GUARD_EVERY:
                    self._guard()
                    self._guarded = time.monotonic()
                write_all(self._fd, view[below:], offset + below)
        except Exception as error:  # noqa: BLE001 - see the class
            self.error = error
        # After an error the library still reads back what it wrote, from memory.
        self._patch(offset, view if self.error is not None else view[:below])
        self.size = max(self.size, offset + len(view))
        self.written = (offset, len(view))

    def patches(self) -> list[tuple[int, bytes]]:
        """What differs from the file below the committed end: offsets, ascending, and bytes."""
        runs: list[tuple[int, bytearray]] = []
        for page in sorted(self._pages):
            content, mask = self._pages[page]
            now = os.pread(self._fd, _PAGE, page * _PAGE).ljust(_PAGE, b"\0")
            is_set = np.frombuffer(mask, np.bool_)
            differs = is_set & (np.frombuffer(content, np.uint8) != np.frombuffer(now, np.uint8))
            for first, last in _spans(differs, is_set):
                start = page * _PAGE + first
                if runs and runs[-1][0] + len(runs[-1][1]) == start:
                    runs[-1][1].extend(content[first:last])
                else:
                    runs.append((start, content[first:last]))
        return [(start, bytes(run)) for start, run in runs]

    def raise_error(self) -> None:
        """Raise what a write inside the library failed with, if one did."""
        if isinstance(self.error, OSError):
            raise write_failure(self.error, self._path) from self.error
        if self.error is not None:
            raise self.error

    def _patch(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            page, at = divmod(offset + done, _PAGE)
            take = min(_PAGE - at, len(view) - done)
            held = self._pages.get(page)
            if held is None:
                held = self._pages[page] = bytearray(_PAGE), bytearray(_PAGE)
            held[0][at : at + take] = view[done : done + take]
            held[1][at : at + take] = b"\1" * take
            done += take


def _spans(differs: NDArray[np.bool_], is_set: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Stretches of a page to write: from change to change, over equal bytes that are set too."""
    held = np.concatenate([[0], np.cumsum(~is_set)])  # bytes before each that are not ours
    first = last = -1
    for at in np.flatnonzero(differs).tolist():
        if first >= 0 and held[at] == held[last]:
            last = at
            continue
        if first >= 0:
            yield first, last + 1
        first = last = at
    if first >= 0:
        yield first, last + 1


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write every byte, however short the single writes are."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], offset + done)
