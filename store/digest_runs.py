"""Sorted runs of keys: files in which a few of very many keys are found with a few reads.

A run is a file of pages, each with 2,048 entries (key and row) in ascending order of keys, and of
one fence for each page, which is all that is read of the pages a look-up does not need::

    page 0: (k, row) ... | page 1: (k, row) ... | ... | page 0: (first key, CRC-32C) | ...

What a run holds follows from the rows of the store: one that is damaged is made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.io.files import fsync_dir, naming, rename_over, temporary_name
from store.io.regular import open_regular

Keys: TypeAlias = NDArray[np.uint64]
Entries: TypeAlias = NDArray[np.void]  # of `ENTRY`

ENTRY = np.dtype([("key", "<u8"), ("row", "<u8")])
PAGE = 2048  # entries of a page
_FENCE = np.dtype([("key", "<u8"), ("crc", "<u4")])
_PAGES_AT_ONCE = 64  # read or merged in one piece: 2 MB of a run


class RunDamageError(DamageError):
    """A run is not as it was written."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the index lists it."""

    file: str  # its name
    entries: int
    fences_crc32c: int


def entries_of(keys: Keys, rows: NDArray[np.int64]) -> Entries:
    """Sort keys, each with its row, into entries."""
    order = np.argsort(keys, kind="stable")
    entries = np.empty(len(keys), dtype=ENTRY)
    entries["key"], entries["row"] = keys[order], rows[order]
    return entries


def write_run(path: Path, parts: Iterable[Entries], *, tmp_dir: Path) -> Run:
    """Write parts of a run, in ascending order, to a file; durable when it returns."""
    fences: list[NDArray[np.void]] = []
    count = 0
    rest = np.empty(0, dtype=ENTRY)
    tmp = temporary_name(tmp_dir, path)
    try:
        with naming(path), tmp.open("xb") as file:
            for part in parts:
                rest = np.concatenate([rest, part])
                whole = len(rest) // PAGE * PAGE
                fences.append(_write_pages(file.fileno(), rest[:whole]))
                rest, count = rest[whole:], count + whole
            fences.append(_write_pages(file.fileno(), rest))
            raw = np.concatenate(fences).tobytes()
            _write(file.fileno(), raw)
            os.fsync(file.fileno())
        rename_over(tmp, path)
        fsync_dir(path.parent)
    except BaseException:
        with suppress(OSError):
            tmp.unlink()
        raise
    return Run(path.name, count + len(rest), google_crc32c.value(raw))


class RunReader:
    """One run, open for reading; `RunDamageError` from whatever is not as it was written."""

    def __init__(self, path: Path, run: Run) -> None:
        self._path = path
        self._run = run

    def __enter__(self) -> Self:
        pages = -(-self._run.entries // PAGE)
        begin = self._run.entries * ENTRY.itemsize
        try:
            self._fd = open_regular(self._path)
        except FileNotFoundError:
            raise RunDamageError(f"{self._path} is missing") from None
        except DamageError as error:
            raise RunDamageError(f"{self._path} {error}") from None
        try:
            raw = self._read(begin, pages * _FENCE.itemsize)
            self._compare(raw, self._run.fences_crc32c, "its fences are")
        except BaseException:
            os.close(self._fd)
            raise
        self._fences = np.frombuffer(raw, dtype=_FENCE)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def rows_of(self, keys: Keys) -> NDArray[np.int64]:
        """Rows of every entry that has one of the keys (ascending, each once), in no order."""
        first = self._fences["key"]
        last_page = np.searchsorted(first, keys, side="right") - 1
        first_page = np.maximum(np.searchsorted(first, keys, side="left") - 1, 0)
        # Pages first_page .. last_page of each key; of most keys that is one page.
        opened = np.zeros(len(first) + 1, dtype=np.int64)
        inside = last_page >= 0
        np.add.at(opened, first_page[inside], 1)
        np.add.at(opened, last_page[inside] + 1, -1)
        found = [np.empty(0, dtype=np.int64)]
        for entries in self._pages(np.flatnonzero(np.cumsum(opened[:-1]))):
            at = np.minimum(np.searchsorted(keys, entries["key"]), len(keys) - 1)
            found.append(entries["row"][keys[at] == entries["key"]].astype(np.int64))
        return np.concatenate(found)

    def parts(self) -> Iterator[Entries]:
        """Yield all entries in order, a few pages at a time."""
        yield from self._pages(np.arange(len(self._fences)))

    def _pages(self, numbers: NDArray[np.int64]) -> Iterator[Entries]:
        """Yield pages, those that lie side by side in one piece."""
        first = 0
        while first < len(numbers):
            stop = first + 1
            while (
                stop < len(numbers)
                and stop - first < _PAGES_AT_ONCE
                and numbers[stop] == numbers[stop - 1] + 1
            ):
                stop += 1
            yield self._checked(int(numbers[first]), stop - first)
            first = stop

    def _checked(self, page: int, pages: int) -> Entries:
        start = page * PAGE
        stop = min(start + pages * PAGE, self._run.entries)
        raw = self._read(start * ENTRY.itemsize, (stop - start) * ENTRY.itemsize)
        size = PAGE * ENTRY.itemsize
        for number in range(pages):
            found = raw[number * size : (number + 1) * size]
            self._compare(found, self._fences["crc"][page + number], f"page {page + number} is")
        return np.frombuffer(raw, dtype=ENTRY)

    def _compare(self, raw: bytes, crc: int, what: str) -> None:
        if google_crc32c.value(raw) != crc:
            raise RunDamageError(f"{self._path}: {what} damaged")

    def _read(self, offset: int, size: int) -> bytes:
        raw = os.pread(self._fd, size, offset)
        if len(raw) != size:
            raise RunDamageError(f"{self._path} is truncated")
        return raw


def merged(runs: Sequence[tuple[Path, Run]]) -> Iterator[Entries]:
    """Yield the entries of several runs in one order; memory is bounded."""
    with ExitStack() as stack:
        sources = [stack.enter_context(RunReader(path, run)).parts() for path, run in runs]
        held = [next(source, None) for source in sources]
        while any(part is not None for part in held):
            # Up to the least of their last keys, every run is in memory.
            bound = min(part["key"][-1] for part in held if part is not None)
            taken = []
            for number, part in enumerate(held):
                if part is None:
                    continue
                stop = int(np.searchsorted(part["key"], bound, side="right"))
                taken.append(part[:stop])
                held[number] = part[stop:] if stop < len(part) else next(sources[number], None)
            joined = np.concatenate(taken)
            # A stable sort merges what is sorted in parts.
            yield joined[np.argsort(joined["key"], kind="stable")]


def _write_pages(fd: int, entries: Entries) -> NDArray[np.void]:
    """Write entries as pages; return their fences."""
    raw = memoryview(entries.tobytes())
    size = PAGE * ENTRY.itemsize
    fences = np.empty(-(-len(entries) // PAGE), dtype=_FENCE)
    fences["key"] = entries["key"][::PAGE]
    for number in range(len(fences)):
        page = bytes(raw[number * size : (number + 1) * size])
        fences["crc"][number] = google_crc32c.value(page)
    _write(fd, raw)
    return fences


def _write(fd: int, raw: bytes | memoryview) -> None:
    view = memoryview(raw)
    while view:
        view = view[os.write(fd, view) :]
