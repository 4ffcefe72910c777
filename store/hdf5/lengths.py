"""The column of contigs' lengths in an HDF5 file: long runs of equal numbers, so it is compressed.

A compressed chunk moves when it grows. So this column is in neither the map nor the table of
checksums: the library reads and writes it, and compares a checksum of its own. To code that knows
no lengths it is a column that others added.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from store.backend import Values
from store.errors import DamageError
from store.hdf5.home import Home
from store.hdf5.overlay import Overlay
from store.layout import CONTIG_LENGTH, Column, row_columns
from store.schema import COLUMN_CHUNK_ROWS, Schema


def mapped_columns(schema: Schema) -> dict[str, Column]:
    """Row columns that the map lists and the table of checksums covers: all others."""
    columns = row_columns(schema)
    columns.pop(CONTIG_LENGTH, None)
    return columns


def make_lengths(tree: h5py.File, schema: Schema) -> h5py.Dataset:
    """Make the column, without rows."""
    return tree.create_dataset(
        row_columns(schema)[CONTIG_LENGTH].path,
        (0,),
        "<i8",
        maxshape=(None,),
        chunks=(schema.block_rows,),
        compression="gzip",
        compression_opts=1,
        fletcher32=True,
    )


def check_lengths(tree: Home, schema: Schema, *, where: str) -> None:
    """Raise a DamageError, or KeyError, if the store has the column and it lacks rows."""
    if schema.contig_lengths:
        lengths = tree[row_columns(schema)[CONTIG_LENGTH].path]
        if lengths.shape != (schema.n_rows,):
            raise DamageError(f"{where}: {lengths.name} is not of {schema.n_rows} rows")


class LengthAppender:
    """Writes the lengths of new rows' contigs through the library, which compresses them."""

    def __init__(self, tree: h5py.File, overlay: Overlay, *, schema: Schema) -> None:
        self._overlay = overlay
        self._dataset = tree[row_columns(schema)[CONTIG_LENGTH].path]
        self._size = schema.block_rows
        self._row = schema.n_rows  # that is written next
        self._pending: list[Any] = []
        self._rows = 0  # pending

    def add(self, values: Values) -> None:
        """Take the next rows, and write the blocks that are full when there are many."""
        self._pending.append(values)
        self._rows += len(values)
        full = (self._row + self._rows) // self._size * self._size - self._row
        if full > 0 and self._rows >= COLUMN_CHUNK_ROWS:
            self._write(full)

    def finish(self) -> None:
        """Write the rows that are left."""
        self._write(self._rows)

    def _write(self, rows: int) -> None:
        joined = np.concatenate([np.empty(0, np.int64), *self._pending])
        stop = self._row + rows
        self._dataset.resize((stop,))
        try:
            self._dataset[self._row : stop] = joined[:rows]
        except OSError as error:  # of a chunk that has some rows: it is read first
            self._overlay.raise_error()
            raise DamageError(f"{self._dataset.name}: {error}; run 'vnp verify'") from None
        self._overlay.raise_error()
        self._pending = [joined[rows:]]
        self._row, self._rows = stop, self._rows - rows
