"""Appending to the row columns of an HDF5 store: block by block through a transaction's overlay."""

from __future__ import annotations

from typing import Any

import google_crc32c
import h5py
import numpy as np
from numpy.typing import NDArray

from store.backend import Values
from store.errors import DamageError
from store.hdf5.heap import REFERENCE, collections_of, encode, pack, references, strings_crc
from store.hdf5.layout import CHECKSUMS, HEAP
from store.hdf5.overlay import Overlay
from store.io.ragged import Ragged, concatenate
from store.layout import row_columns
from store.schema import Schema


class ColumnAppender:
    """Writes new rows of one column, and notes each written block's CRC-32C in ``checksums``."""

    def __init__(
        self,
        tree: h5py.File,
        overlay: Overlay,
        name: str,
        *,
        schema: Schema,
        checksums: dict[int, NDArray[np.uint32]],
    ) -> None:
        columns = row_columns(schema)
        self._tree = tree
        self._overlay = overlay
        self._dataset = tree[columns[name].path]
        self._number = list(columns).index(name)
        self._columns = len(columns)
        self._checksums = checksums
        self._size = schema.block_rows
        self._block, self._fill = divmod(schema.n_rows, self._size)
        self._pending: list[Any] = []
        self._rows = 0  # pending

    def add(self, values: Values) -> None:
        """Take the next rows, and write the blocks that are full."""
        self._pending.append(values)
        self._rows += len(values)
        while self._fill + self._rows >= self._size:
            self._write_block(self._size - self._fill)

    def finish(self) -> None:
        """Write the rows that are left."""
        if self._rows:
            self._write_block(self._rows)

    def _write_block(self, rows: int) -> None:
        """Write the next pending rows, which lie in one block."""
        values = self._take(rows)
        self._dataset.resize((self._block * self._size + self._fill + rows,))
        write = self._write_strings if isinstance(values, Ragged) else self._write_numbers
        crc = write(values)  # type: ignore[arg-type]
        self._overlay.raise_error()
        row = self._checksums.setdefault(self._block, np.zeros(self._columns, dtype=np.uint32))
        row[self._number] = crc
        self._rows -= rows
        self._fill += rows
        if self._fill == self._size:
            self._block, self._fill = self._block + 1, 0

    def _take(self, rows: int) -> Values:
        joined: Values
        if isinstance(self._pending[0], Ragged):
            joined = concatenate(self._pending)
            self._pending = [joined.slice(rows, len(joined))]
            return joined.slice(0, rows)
        joined = np.concatenate(self._pending) if len(self._pending) > 1 else self._pending[0]
        self._pending = [joined[rows:]]
        return joined[:rows]

    def _write_numbers(self, values: NDArray[Any]) -> int:
        chunk = self._old_chunk(self._dataset.dtype)
        self._check_old(google_crc32c.value(chunk[: self._fill].tobytes()))
        chunk[self._fill : self._fill + len(values)] = values
        self._write_chunk(chunk)
        crc: int = google_crc32c.value(chunk[: self._fill + len(values)].tobytes())
        return crc

    def _write_strings(self, values: Ragged) -> int:
        heap, overlay = self._tree[HEAP], self._overlay
        size = heap.chunks[0]
        refs = self._old_chunk(REFERENCE)
        old = refs[: self._fill]
        addresses = collections_of(old)
        self._check_old(strings_crc(old, size, overlay.pread))
        start = b""
        if len(addresses):  # go on in the block's last collection
            last = old[(old["address"] == addresses[-1]) & (old["length"] > 0)]
            used = 16 + int((16 + (last["length"].astype(np.int64) + 7) // 8 * 8).sum())
            start = overlay.pread(int(addresses[-1]), size)
            packing = pack(values.lengths, size=size, end=used, index=len(last) + 1)
        else:
            packing = pack(values.lengths, size=size)
        if not len(addresses) and not int(values.lengths.sum()):
            content, written = np.empty((0, size), np.uint8), np.empty(0, np.int64)
        else:
            content = encode(values, packing, size=size, start=start)
            written = np.empty(len(content), np.int64)
        for number, collection in enumerate(content):
            if number == 0 and start:
                written[0] = addresses[-1]
                overlay.pwrite(int(addresses[-1]), collection.tobytes())
            else:
                written[number] = self._new_collection(heap, collection)
        refs[self._fill : self._fill + len(values)] = references(values, packing, written)
        if content.size:
            # Rows that are not there yet repeat a reference: some readers follow those too.
            refs[self._fill + len(values) :] = refs[np.flatnonzero(refs["index"])[0]]
        self._write_chunk(refs)
        return strings_crc(refs[: self._fill + len(values)], size, overlay.pread)

    def _check_old(self, crc: int) -> None:
        """Compare rows that were there with their checksum: the new one covers them too."""
        if self._fill and int(self._tree[CHECKSUMS][self._block][self._number]) != crc:
            raise DamageError(
                f"{self._dataset.name}: the rows of block {self._block} do not match their "
                "checksum; run 'vnp verify' on the store"
            )

    def _new_collection(self, heap: Any, content: NDArray[np.uint8]) -> int:
        """Add a chunk to the heap and return its address: where the library writes it."""
        at = heap.shape[0]
        heap.resize((at + len(content),))
        heap.id.write_direct_chunk((at,), content.tobytes())
        self._overlay.raise_error()
        address, length = self._overlay.written
        if length != len(content):
            raise AssertionError(f"the library wrote {length} bytes, not a chunk")
        return address

    def _old_chunk(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Rows of the block that are there, in a chunk whose rest is zeros."""
        chunk = np.zeros(self._size, dtype=dtype)
        if self._fill:
            _, raw = self._dataset.id.read_direct_chunk((self._block * self._size,))
            if len(raw) != chunk.nbytes:
                raise DamageError(
                    f"{self._dataset.name}: chunk has {len(raw)} bytes, not {chunk.nbytes}"
                )
            chunk[: self._fill] = np.frombuffer(raw, dtype=dtype)[: self._fill]
        return chunk

    def _write_chunk(self, chunk: NDArray[Any]) -> None:
        self._dataset.id.write_direct_chunk((self._block * self._size,), chunk.tobytes())
