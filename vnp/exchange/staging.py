"""Embeddings of a store's records as they come from files, collected until blocks are whole.

Memory is 8 bytes a row of the store; the numbers lie in a scratch file without a name beside the
store, which is gone with the process. What finds no place is written to a table at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from store.certificate import LARGEST
from store.geometry import block_bounds
from store.io.files import fsync_dir, naming, rename_over
from store.io.ragged import Ragged
from store.io.tables import safe_cell
from store.io.words import count
from store.schema import COLUMN_CHUNK_ROWS
from store.store import Store
from vnp.embed.progress import Progress
from vnp.exchange.embedding_rows import EmbeddingFile, EmbeddingFileError, Rows, shown
from vnp.exchange.record_index import RecordIndex

Ints = NDArray[np.int64]
F16 = NDArray[np.float16]


class Leftovers:
    """The table of what found no place; it appears whole, and only if there is something.

    Its columns: ``side`` (file or store), the name of the file or of the sample, the 1-based record
    of the file or the row of the store, the record id, and the reason.
    """

    def __init__(self, store: Store, model: str) -> None:
        sidecar = store.sidecar.make()
        self._path = sidecar.logs / f"import-{model}.leftovers.tsv"
        self._part = sidecar.draft(self._path)
        self._file: IO[str] | None = None

    def __enter__(self) -> Leftovers:
        return self

    def add(self, side: str, name: str, number: int, record: str, reason: str) -> None:
        """Name one record or row."""
        with naming(self._part):
            if self._file is None:
                self._file = self._part.open(
                    "w", encoding="utf-8", errors="backslashreplace", newline="\n"
                )
                self._file.write("side\tfile_or_sample\trecord_or_row\tid\treason\n")
            cells = safe_cell(name), str(number), safe_cell(record), reason
            self._file.write("\t".join((side, *cells)) + "\n")

    def finish(self) -> str:
        """Give the table its name and return it; empty if there is nothing to name."""
        if self._file is None:
            self._path.unlink(missing_ok=True)  # of an earlier import, which it would belie
            return ""
        with naming(self._part):
            self._file.close()
        rename_over(self._part, self._path)
        fsync_dir(self._path.parent)
        return str(self._path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._part.unlink(missing_ok=True)


class Staged:
    """Rows of a model that files gave.

    Parameters
    ----------
    store, index
        The store, and where its records lie: rows that are not in the index get nothing.
    dim
        Numbers a row.
    leftovers
        Takes what finds no place.
    """

    def __init__(self, store: Store, index: RecordIndex, dim: int, leftovers: Leftovers) -> None:
        self.records = self.matched = self.repeated = self.empty = self.unknown = 0
        self.faded = 0  # records half of whose numbers, or more, are zero only as float16
        self.coarse = 0  # records half of whose numbers, or more, become zero as float16
        self.first_unknown = ""  # the first id that the store does not have
        self._store = store
        self._index = index
        self._dim = dim
        self._leftovers = leftovers
        self._slot = np.full(index.stop - index.start, -1, np.int64)  # by row: its place, or -1
        self._used = 0  # places
        self._edges: list[int] = []  # first place of each file
        scratch = store.sidecar.make().temporary("import")
        with naming(scratch):
            self._file = scratch.open("w+b")
            scratch.unlink()
        self._scratch = scratch

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def take(self, file: EmbeddingFile) -> None:
        """Take all rows of a file; EmbeddingFileError if one is ambiguous or not an embedding."""
        self._edges.append(self._used)
        with Progress(f"import {file.path.name}", total=None, unit="records") as progress:
            done = 0
            for rows in file.batches():
                self._take(file, rows)
                done += len(rows)
                progress.update(done)

    def _take(self, file: EmbeddingFile, rows: Rows) -> None:
        self.records += len(rows)
        empty: NDArray[np.bool_] = np.logical_and.reduce(np.isnan(rows.values), axis=1)
        self.faded += _check_numbers(file, rows, empty)
        found = self._index.find(rows.ids, rows.samples)
        for at, samples in found.several.items():
            some = ", ".join(map(shown, samples[:3])) + (", ..." if len(samples) > 3 else "")
            raise EmbeddingFileError(
                f"{file.path}: record {rows.first + at} ({shown(rows.ids[at])}) is in "
                f"{count(len(samples), 'sample')} of the store ({some}): say which with --sample, "
                "or write <sample>:<id>"
            )
        name = file.path.name
        for at in np.flatnonzero((found.rows < 0) | empty).tolist():
            if found.rows[at] >= 0:
                self.empty += 1
                reason = "all its numbers are NaN"
            else:
                self.unknown += 1
                self.first_unknown = self.first_unknown or rows.ids[at]
                of = f" of sample {safe_cell(rows.samples[at])}" if rows.samples is not None else ""
                reason = f"no such record{of} in {self._index.where}"
            self._leftovers.add("file", name, rows.first + at, rows.ids[at], reason)
        given = np.flatnonzero((found.rows >= 0) & ~empty)
        self.matched += len(given)
        self._put(file, rows, given, found.rows[given] - self._index.start)

    def _put(self, file: EmbeddingFile, rows: Rows, given: Ints, at: Ints) -> None:
        """Write rows to the scratch file; those that were given before must be the same."""
        values = rows.values[given].astype(np.float16)
        first = np.zeros(len(at), dtype=bool)
        first[np.unique(at, return_index=True)[1]] = True
        new = first & (self._slot[at] < 0)
        size = 2 * self._dim
        with naming(self._scratch):
            self._file.seek(self._used * size)
            self._file.write(np.ascontiguousarray(values[new]).tobytes())
        n_new = int(np.count_nonzero(new))
        self._slot[at[new]] = np.arange(self._used, self._used + n_new)
        self._used += n_new
        for number in np.flatnonzero(~new).tolist():
            self._file.seek(int(self._slot[at[number]]) * size)
            if self._file.read(size) != values[number].tobytes():
                record = rows.first + given[number]
                name = shown(rows.ids[given[number]])
                raise EmbeddingFileError(
                    f"{file.path}: record {record} ({name}) was given before, with other numbers: "
                    "which are right cannot be told"
                )
            self.repeated += 1

    def blocks(self) -> list[int]:
        """Blocks with a row that the files have, ascending."""
        rows = np.flatnonzero(self._slot >= 0) + self._index.start
        found: list[int] = np.unique(rows // self._store.schema.block_rows).tolist()
        return found

    def is_whole(self, block: int) -> bool:
        """Whether the files have every row of a block."""
        slots = self._slots(*self._store.block_bounds(block))
        return bool((slots >= 0).all())

    def block(self, model: str, block: int) -> F16 | None:
        """Rows of a block from the store and, where it has none, the files; None if not all."""
        start, stop = self._store.block_bounds(block)
        values = self._store.read(model, start, stop)
        slots = self._slots(start, stop)
        lacking = np.isnan(values[:, 0])
        if (lacking & (slots < 0)).any():
            return None
        values[lacking] = self._given()[slots[lacking]]
        return values

    def check_certified(self, model: str, blocks: Iterable[int]) -> None:
        """Refuse files that have other numbers than the store for rows that are certified."""
        differing, first = 0, -1
        for block in blocks:
            start, stop = self._store.block_bounds(block)
            held = self._store.read(model, start, stop)
            slots = self._slots(start, stop)
            both = np.flatnonzero(~np.isnan(held[:, 0]) & (slots >= 0))
            wrong = both[(held[both] != self._given()[slots[both]]).any(axis=1)]
            differing += len(wrong)
            if len(wrong) and first < 0:
                first = start + int(wrong[0])
        if differing:
            record = self._store.column("id", first, first + 1)
            assert isinstance(record, Ragged)
            raise EmbeddingFileError(
                f"{self._store.path} has other numbers of {model} for "
                f"{count(differing, 'record')} of the files, the first is "
                f"{record[0].decode(errors='replace')} (row {first}): what is certified is not "
                "replaced; import them under another name"
            )

    def _given(self) -> F16:
        """All rows in the scratch file, in the order they came."""
        self._file.flush()
        return np.memmap(self._file, np.float16, mode="r", shape=(self._used, self._dim))

    def files_of(self, block: int) -> list[int]:
        """Numbers of the files that rows of a block came from, in the order they were taken."""
        slots = self._slots(*self._store.block_bounds(block))
        numbers = np.searchsorted(self._edges, slots[slots >= 0], side="right") - 1
        found: list[int] = np.unique(numbers).tolist()
        return found

    def _slots(self, start: int, stop: int) -> Ints:
        """Place of each row, -1 for those that the files do not have or that are not indexed."""
        slots = np.full(stop - start, -1, np.int64)
        low, high = max(start, self._index.start), min(stop, self._index.stop)
        if low < high:
            first = self._index.start
            slots[low - start : high - start] = self._slot[low - first : high - first]
        return slots

    def name_open_rows(
        self, filled: NDArray[np.bool_], *, busy: Collection[int]
    ) -> tuple[int, int]:
        """Name the rows that are still open.

        Returns
        -------
        tuple
            How many have no embedding in the files, and how many have one.
        """
        without = waiting = 0
        size = self._store.schema.block_rows
        for start in range(self._index.start, self._index.stop, COLUMN_CHUNK_ROWS):
            stop = min(start + COLUMN_CHUNK_ROWS, self._index.stop)
            open_ = np.flatnonzero(~filled[start:stop])
            if not len(open_):
                continue
            ids = self._store.column("id", start, stop)
            assert isinstance(ids, Ragged)
            slots = self._slots(start, stop)
            for at in open_.tolist():
                row = start + at
                block = row // size
                if slots[at] < 0:
                    without += 1
                    reason = "no embedding in the files"
                else:
                    waiting += 1
                    first, last = block_bounds(block, self._store.n_rows, size)
                    reason = (
                        f"block {block} is being filled by a worker"
                        if block in busy
                        else f"block {block} (rows {first} to {last - 1}) lacks other rows"
                    )
                record = ids[at].decode(errors="surrogateescape")
                self._leftovers.add("store", self._index.sample_of(row), row, record, reason)
        return without, waiting


def _check_numbers(file: EmbeddingFile, rows: Rows, empty: NDArray[np.bool_]) -> int:
    """Refuse rows that float16 cannot hold; those of nothing but NaN are another matter.

    Returns
    -------
    int
        How many of the others lose half of their numbers, or more, as these become zero.
    """
    given = rows.values != 0
    with np.errstate(over="ignore"):
        lost = (given & (rows.values.astype(np.float16) == 0)).sum(axis=1)
    given_of = given.sum(axis=1)
    no_embedding = "it is not an embedding"
    for wrong, what, remedy in (
        (~np.isfinite(rows.values).all(axis=1) & ~empty, "holds NaN or infinity", no_embedding),
        (
            (np.abs(rows.values) > LARGEST).any(axis=1),
            f"holds numbers beyond float16's {LARGEST:g}",
            no_embedding,
        ),
        (
            (given_of > 0) & (lost == given_of),
            "holds nothing but numbers too small for float16, which would become zero",
            "scale them all by one factor first",
        ),
    ):
        found = np.flatnonzero(wrong)
        if len(found):
            at = int(found[0])
            raise EmbeddingFileError(
                f"{file.path}: record {rows.first + at} ({shown(rows.ids[at])}) {what}, and so do "
                f"{len(found) - 1:,} of the next {count(len(rows) - 1 - at, 'record')}: {remedy}"
            )
    return int(np.count_nonzero((lost > 0) & (2 * lost >= given_of)))
