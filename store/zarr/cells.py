"""Rows and cells of a Zarr tree, wherever its files are: one file a cell, one a chunk of a column.

What is written here once holds for a directory and for a bucket; these differ in the six ways to
reach a file that `ZarrTree` leaves open.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from store.backend import Cell, Part, Rows, Values
from store.errors import DamageError
from store.geometry import chunks_of
from store.io.ragged import Ragged, from_items
from store.io.words import count
from store.layout import (
    Column,
    certificate_column,
    chunks_named,
    embedding_column,
    filled_column,
    provenance_column,
    row_columns,
    samples_column,
    score_columns,
)
from store.schema import Model, Schema
from store.zarr.codec import (
    CRC_BYTES,
    decode_numbers,
    decode_string,
    decode_strings,
    encode_numbers,
    encode_strings,
    number_bytes,
    stored_crc,
)

_NO_ROWS = Schema(block_rows=1, segment_length=0)


class ZarrTree(abc.ABC):
    """Files of a tree by key, such as ``obs/start/c.0``, and what they hold at one commit."""

    checks_itself = True  # every chunk ends in its CRC-32C
    schema: Schema

    # -- files ----------------------------------------------------------------------------------

    @abc.abstractmethod
    def read_file(self, key: str, *, column: Column) -> bytes:
        """Read a chunk's file; FileNotFoundError, or `DamageError` if it cannot be a chunk."""

    @abc.abstractmethod
    def read_document(self, key: str) -> bytes:
        """Read a ``zarr.json``; errors as of `read_file`."""

    @abc.abstractmethod
    def read_end(self, key: str, size: int) -> tuple[int, bytes]:
        """Size of a file and its last ``size`` bytes; errors as of `read_file`."""

    @abc.abstractmethod
    def make_file(self, key: str, content: bytes) -> bool:
        """Write a new file; False if there is one."""

    @abc.abstractmethod
    def write_file(self, key: str, content: bytes) -> None:
        """Write a file, whether or not there is one."""

    @abc.abstractmethod
    def remove_file(self, key: str) -> None:
        """Remove a file; fine if there is none."""

    @abc.abstractmethod
    def chunk_names(self, column: Column, chunks: int) -> Iterable[str]:
        """Names in the folder of a column that has so many chunks."""

    # -- rows, read -----------------------------------------------------------------------------

    def column_rows(self, name: str) -> int:
        """Rows of a chunk of a row column."""
        return row_columns(self.schema)[name].chunk[0]

    def read_column(self, name: str, chunk: int, rows: int) -> Values:  # noqa: ARG002 - whole
        """Values of a chunk of a row column."""
        column = row_columns(self.schema)[name]
        key = column.chunk_key(chunk)
        decode = decode_strings if column.dtype == "string" else decode_numbers
        try:
            values: Values = decode(self.read_file(key, column=column), column=column)
        except FileNotFoundError:
            raise DamageError(f"{key} is missing; run 'vnp verify'") from None
        except DamageError as error:
            raise DamageError(f"{key}: {error}; run 'vnp verify' on the store") from None
        return values

    def read_scores(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Scores of rows: float32 (stop - start, 2)."""
        [known] = [scores for scores in self.schema.scores if scores.name == name]
        out = np.full((stop - start, 2), np.nan, dtype=np.float32)
        for at, column in enumerate(score_columns(self.schema, name)):
            size = column.chunk[0]
            for chunk in chunks_of(start, min(stop, known.rows), size):
                first, last = max(chunk * size, start), min((chunk + 1) * size, stop)
                part = slice(first - chunk * size, last - chunk * size)
                out[first - start : last - start, at] = self.read_scores_chunk(column, chunk)[part]
        return out

    def read_scores_chunk(self, column: Column, chunk: int) -> NDArray[np.float32]:
        """Read a chunk of scores; DamageError if it is missing or damaged."""
        key = column.chunk_key(chunk)
        try:
            return decode_numbers(self.read_file(key, column=column), column=column)
        except FileNotFoundError:
            raise DamageError(f"{key} is missing; save all scores again") from None
        except DamageError as error:
            raise DamageError(f"{key}: {error}; save all scores again") from None

    # -- cells ----------------------------------------------------------------------------------

    def encode(self, model: str, values: Rows) -> tuple[bytes, str]:
        """Encode a chunk, padded with NaN; the CRC-32C covers the padding too."""
        column = embedding_column(self.schema, self.schema.model(model))
        content = encode_numbers(values, column=column)
        return content, stored_crc(content)

    def create(self, cell: Cell, content: bytes) -> bool:
        """Create the cell's file; the first writer wins."""
        key, column = self._locate(cell)
        return self.make_file(key, _encode(cell, content, column))

    def replace(self, cell: Cell, content: bytes) -> None:
        """Replace the cell's file."""
        key, column = self._locate(cell)
        self.write_file(key, _encode(cell, content, column))

    def remove(self, cell: Cell) -> None:
        """Remove the cell's file."""
        self.remove_file(self._locate(cell)[0])

    def read(self, cell: Cell) -> bytes | None:
        """Content of the cell's file, compared with its checksum."""
        key, column = self._locate(cell)
        try:
            raw = self.read_file(key, column=column)
        except FileNotFoundError:
            return None
        if cell.part is Part.FILLED:
            return decode_numbers(raw, column=column).tobytes()
        return decode_string(raw, column=column)

    def read_values(self, cell: Cell, rows: int) -> tuple[Rows, str] | None:  # noqa: ARG002
        """Read the whole chunk."""
        key, column = self._locate(cell)
        try:
            raw = self.read_file(key, column=column)
            return decode_numbers(raw, column=column), stored_crc(raw)
        except FileNotFoundError:
            return None
        except DamageError as error:
            raise DamageError(f"{key}: {error}") from None

    def checksum(self, cell: Cell, rows: int) -> str | None:  # noqa: ARG002 - of the chunk
        """Read the end of the chunk: its length and the checksum it carries."""
        key, column = self._locate(cell)
        try:
            found, trailer = self.read_end(key, CRC_BYTES)
        except FileNotFoundError:
            return None
        size = number_bytes(column) + CRC_BYTES
        if found != size:
            raise DamageError(f"length is {count(found, 'byte')} where {size} belong")
        return stored_crc(trailer)

    def flagged(self, model: str) -> NDArray[np.int64]:
        """Blocks whose ``filled`` chunk exists, from a listing."""
        column = filled_column(self.schema, self.schema.model(model))
        chunks = len(chunks_of(0, column.shape[0], column.chunk[0]))
        return chunks_named(self.chunk_names(column, chunks))

    # -- for people -----------------------------------------------------------------------------

    def name(self, cell: Cell) -> str:
        """Path of the cell's file inside the store."""
        return self._locate(cell)[0]

    def _locate(self, cell: Cell) -> tuple[str, Column]:
        column = self._columns.get((cell.part, cell.model))
        if column is None:
            column = self._column(cell.part, self.schema.model(cell.model))
            self._columns[cell.part, cell.model] = column
        if cell.part is Part.PROVENANCE:
            return column.chunk_key(), column
        rest = (0,) if cell.part is Part.VALUES else ()
        return column.chunk_key(cell.block, *rest), column

    @cached_property
    def _columns(self) -> dict[tuple[Part, str], Column]:
        """Columns of cells that were reached, by part and model; the schema never changes."""
        return {}

    def _column(self, part: Part, model: Model) -> Column:
        if part is Part.PROVENANCE:
            return provenance_column(model)
        columns = {
            Part.VALUES: embedding_column,
            Part.FILLED: filled_column,
            Part.CERTIFICATE: certificate_column,
        }
        return columns[part](self.schema, model)


def samples_of(read: Callable[[str, Column], bytes], chunk: int) -> Ragged:
    """Texts of a chunk of the array of samples; DamageError if it is missing or damaged."""
    column = samples_column(_NO_ROWS)
    key = column.chunk_key(chunk)
    try:
        return decode_strings(read(key, column), column=column)
    except FileNotFoundError:
        raise DamageError(f"{key} is missing; run 'vnp verify'") from None
    except DamageError as error:
        raise DamageError(f"{key}: {error}; run 'vnp verify'") from None


def _encode(cell: Cell, content: bytes, column: Column) -> bytes:
    """Content of a cell's file."""
    if cell.part is Part.VALUES:
        return content  # as `ZarrTree.encode` made it
    if cell.part is Part.FILLED:
        return encode_numbers(np.frombuffer(content, np.bool_), column=column)
    return encode_strings(from_items([content]), column=column)
