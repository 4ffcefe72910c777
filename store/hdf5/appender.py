"""Appending rows to an HDF5 store: block by block through the overlay of one growth."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.duplicates import NO_TWIN, Digests, TwinSearch
from store.errors import DamageError
from store.hdf5.heap import REFERENCE, collections_of, encode, pack, references, strings_crc
from store.hdf5.layout import CHECKSUMS, HEAP, grow
from store.hdf5.transaction import Growth
from store.io.ragged import Ragged, concatenate
from store.layout import row_columns
from store.rows import RowBatch
from store.schema import Sample, Schema


class Hdf5RowWriter:
    """Writes the rows of one sample; nothing is visible until :meth:`commit`.

    Parameters
    ----------
    growth
        The store's tree, open for this change.
    schema
        The committed schema the rows are appended to.
    tmp_dir
        Directory for what must be kept until the commit.
    old_digests
        Gives the digests of the committed rows; see `store.duplicates.find_twins`.
    """

    def __init__(
        self,
        growth: Growth,
        *,
        schema: Schema,
        tmp_dir: Path,
        old_digests: Callable[[], Iterable[tuple[int, Digests]]],
    ) -> None:
        self._growth = growth
        self._schema = schema
        self._size = schema.block_rows
        self._old_digests = old_digests
        for leftover in tmp_dir.glob("append-*"):  # of a killed append: the lock is ours now
            shutil.rmtree(leftover, ignore_errors=True)
        self._staging = tmp_dir / f"append-{uuid4().hex}"
        self._staging.mkdir(parents=True)
        self._search = TwinSearch(self._staging / "digests", first_row=schema.n_rows)
        self.rows = 0  # rows taken so far
        self._columns = row_columns(schema)
        self._block, self._fill = divmod(schema.n_rows, self._size)
        self._number = {name: number for number, name in enumerate(self._columns)}
        # Twins are known when all rows are; every other column is written as it comes.
        self._pending: dict[str, list[Any]] = {name: [] for name in self._columns if name != "twin"}
        self._pending_rows = 0
        self._checksums: dict[int, NDArray[np.uint32]] = {}
        # Of the block that has rows already: what they must be before more are put beside them.
        self._old_checksums = growth.tree[CHECKSUMS][self._block] if self._fill else None

    def write(self, batch: RowBatch) -> None:
        """Take the next rows."""
        digests = self._search.add(batch.nucleotide, batch.protein)
        made = {
            "sample": np.full(len(batch), len(self._schema.samples), dtype=np.int32),
            "digest": digests[:, 0],
            "digest_low": digests[:, 1],
        }
        for name, parts in self._pending.items():
            parts.append(made[name] if name in made else getattr(batch, name))
        self._pending_rows += len(batch)
        self.rows += len(batch)
        while self._fill + self._pending_rows >= self._size:
            self._write_block(self._size - self._fill)

    def commit(self, sample: Sample, *, still_mine: Callable[[], None]) -> Schema:
        """Make the rows visible as ``sample`` and return the new schema."""
        twins = self._search.twins(self._old_digests)
        repeats = int(np.count_nonzero(twins != NO_TWIN))
        schema = self._schema.with_sample(replace(sample, repeats=repeats))
        if sample.stop - sample.start != self.rows:
            raise AssertionError(f"{sample.stop - sample.start} rows promised, {self.rows} written")
        if self._pending_rows:
            self._write_block(self._pending_rows)
        self._write_twins(twins)
        grow(self._growth.tree, schema, self._checksums)
        self._growth.commit(schema, still_mine=still_mine)
        shutil.rmtree(self._staging, ignore_errors=True)
        return schema

    def abort(self) -> None:
        """Drop the rows and leave the store as it was."""
        self._growth.abort()
        shutil.rmtree(self._staging, ignore_errors=True)

    def _write_block(self, rows: int) -> None:
        """Write the next ``rows`` pending rows, which end at or before the end of their block."""
        stop = self._block * self._size + self._fill + rows
        crcs = np.zeros(len(self._columns), dtype=np.uint32)
        for name in self._pending:
            values, number = self._take(name, rows), self._number[name]
            dataset = self._growth.tree[self._columns[name].path]
            dataset.resize((stop,))
            if isinstance(values, Ragged):
                crcs[number] = self._write_strings(dataset, values, number)
            else:
                crcs[number] = self._write_numbers(dataset, values, number)
        self._growth.overlay.raise_error()
        self._checksums[self._block] = crcs
        self._pending_rows -= rows
        self._fill += rows
        if self._fill == self._size:
            self._block, self._fill = self._block + 1, 0

    def _write_twins(self, twins: NDArray[np.int64]) -> None:
        """Write the column of twins: block by block, as the others were."""
        dataset, number = self._growth.tree[self._columns["twin"].path], self._number["twin"]
        done = 0
        self._block, self._fill = divmod(self._schema.n_rows, self._size)
        while done < len(twins):
            rows = min(self._size - self._fill, len(twins) - done)
            dataset.resize((self._block * self._size + self._fill + rows,))
            crc = self._write_numbers(dataset, twins[done : done + rows], number)
            self._checksums[self._block][number] = crc
            self._block, self._fill, done = self._block + 1, 0, done + rows
        self._growth.overlay.raise_error()

    def _take(self, name: str, rows: int) -> NDArray[Any] | Ragged:
        """Take the next rows of a column out of what is pending."""
        parts = self._pending[name]
        joined: NDArray[Any] | Ragged
        if isinstance(parts[0], Ragged):
            joined = concatenate(parts)
            taken, rest = joined.slice(0, rows), joined.slice(rows, len(joined))
            self._pending[name] = [rest]
            return taken
        joined = np.concatenate(parts) if len(parts) > 1 else parts[0]
        self._pending[name] = [joined[rows:]]
        return joined[:rows]

    def _write_numbers(self, dataset: Any, values: NDArray[Any], number: int) -> int:
        chunk = self._old_chunk(dataset, dataset.dtype)
        self._check_old(dataset, number, google_crc32c.value(chunk[: self._fill].tobytes()))
        chunk[self._fill : self._fill + len(values)] = values
        self._write_chunk(dataset, chunk)
        crc: int = google_crc32c.value(chunk[: self._fill + len(values)].tobytes())
        return crc

    def _write_strings(self, dataset: Any, values: Ragged, number: int) -> int:
        heap, overlay = self._growth.tree[HEAP], self._growth.overlay
        size = heap.chunks[0]
        refs = self._old_chunk(dataset, REFERENCE)
        old = refs[: self._fill]
        addresses = collections_of(old)
        self._check_old(dataset, number, strings_crc(old, size, overlay.pread))
        start = b""
        if len(addresses):  # go on in the block's last collection
            last = old[(old["address"] == addresses[-1]) & (old["length"] > 0)]
            used = 16 + int((16 + (last["length"].astype(np.int64) + 7) // 8 * 8).sum())
            start = overlay.pread(int(addresses[-1]), size)
            packing = pack(values.lengths, size=size, end=used, index=len(last) + 1)
        else:
            packing = pack(values.lengths, size=size)
        if not len(addresses) and not int(values.lengths.sum()):
            content, places = np.empty((0, size), np.uint8), np.empty(0, np.int64)
        else:
            content = encode(values, packing, size=size, start=start)
            places = np.empty(len(content), np.int64)
        for place, collection in enumerate(content):
            if place == 0 and start:
                places[0] = addresses[-1]
                overlay.pwrite(int(addresses[-1]), collection.tobytes())
            else:
                places[place] = self._new_collection(heap, collection)
        refs[self._fill : self._fill + len(values)] = references(values, packing, places)
        if content.size:
            # Rows that are not there yet repeat a reference: some readers follow those too.
            refs[self._fill + len(values) :] = refs[np.flatnonzero(refs["index"])[0]]
        self._write_chunk(dataset, refs)
        return strings_crc(refs[: self._fill + len(values)], size, overlay.pread)

    def _check_old(self, dataset: Any, number: int, crc: int) -> None:
        """Compare rows that were there with their checksum, lest damage be sealed anew."""
        if (
            self._fill
            and self._old_checksums is not None
            and int(self._old_checksums[number]) != crc
        ):
            raise DamageError(
                f"{dataset.name}: the rows of block {self._block} do not match their checksum; "
                "run 'vnp verify' on the store"
            )

    def _new_collection(self, heap: Any, content: NDArray[np.uint8]) -> int:
        """Add a chunk to the heap and return its address: where the library writes it."""
        at = heap.shape[0]
        heap.resize((at + len(content),))
        heap.id.write_direct_chunk((at,), content.tobytes())
        self._growth.overlay.raise_error()
        address, length = self._growth.overlay.written
        if length != len(content):
            raise AssertionError(f"the library wrote {length} bytes, not a chunk")
        return address

    def _old_chunk(self, dataset: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Rows of the block that are there, in a chunk whose rest is zeros."""
        chunk = np.zeros(self._size, dtype=dtype)
        if self._fill:
            _, raw = dataset.id.read_direct_chunk((self._block * self._size,))
            if len(raw) != chunk.nbytes:
                raise DamageError(f"{dataset.name}: chunk has {len(raw)} bytes, not {chunk.nbytes}")
            chunk[: self._fill] = np.frombuffer(raw, dtype=dtype)[: self._fill]
        return chunk

    def _write_chunk(self, dataset: Any, chunk: NDArray[Any]) -> None:
        dataset.id.write_direct_chunk((self._block * self._size,), chunk.tobytes())
