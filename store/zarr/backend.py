"""A store in a Zarr v3 directory: one file a cell, one file a chunk of a column.

A cell is created with ``link()``: the first writer wins, and name and content appear together.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from store.backend import Cell, Part, Rows, Values
from store.errors import DamageError, NotAStoreError, UsageError
from store.findings import Finding, Remedy
from store.geometry import chunks_of
from store.io.files import fsync_dir, names_in, publish_new, publish_replace, remove_durable
from store.io.json import LONGEST, parse_json
from store.io.ragged import Ragged, from_items
from store.io.regular import open_regular, read_regular
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
from store.samples import StoredSamples
from store.schema import Schema, from_attribute
from store.sidecar import sidecar_of
from store.zarr.codec import (
    CRC_BYTES,
    decode_numbers,
    decode_strings,
    encode_numbers,
    encode_strings,
    number_bytes,
    read_chunk,
    stored_crc,
)
from store.zarr.strays import remove_stray
from store.zarr.transaction import (
    ZarrTransaction,
    is_committing,
    read_scores_chunk,
    undo_interrupted,
    write_documents,
)
from store.zarr.verify import verify_tree

_NO_ROWS = Schema(block_rows=1, segment_length=0)
_PROBES = 64  # chunks looked for at opening
_ROWS_UNCHECKED = 1 << 24  # fewer rows cannot cost much memory


class ZarrBackend:
    """One commit of a store in a Zarr directory; see `store.backend.Backend`."""

    trouble = ""  # other programs leave traces that only `verify` looks for
    checks_itself = True  # every chunk ends in its CRC-32C
    makes_directories = True

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.schema = schema

    @classmethod
    def new(cls, path: Path, schema: Schema) -> Self:
        """Make an empty store, of format 3; it appears whole or not at all."""
        schema = replace(schema, samples=StoredSamples(read=_SampleChunks(path)))
        sidecar = sidecar_of(path).make()
        made = sidecar.temporary("create")
        made.mkdir()
        try:
            write_documents(made, before=None, after=schema, tmp_dir=sidecar.tmp)
            made.rename(path)
        except BaseException as error:
            shutil.rmtree(made, ignore_errors=True)
            if isinstance(error, OSError) and path.exists():
                raise UsageError(f"{path} was created by someone else just now") from None
            raise
        fsync_dir(path.parent)
        return cls(path, schema)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store at its last commit."""
        schema = _read_schema(path)
        _check_extent(path, schema)
        return cls(path, schema)

    # -- commits ------------------------------------------------------------------------------

    def newest(self, *, locked: bool = False) -> Self:
        """Return the last commit, under the lock without what a killed change left of another."""
        schema = _read_schema(self.path)
        if locked:
            undo_interrupted(self.path, schema=schema, sidecar=sidecar_of(self.path).make())
        if schema == self.schema:
            return self
        _check_extent(self.path, schema)
        return type(self)(self.path, schema)

    def begin(self, guard: Callable[[], None]) -> ZarrTransaction:
        """Begin a change."""
        sidecar = sidecar_of(self.path).make()
        return ZarrTransaction(self.path, schema=self.schema, sidecar=sidecar, guard=guard)

    def repair(self, finding: Finding) -> None:
        """Write every ``zarr.json`` again, or remove a file."""
        if finding.remedy is Remedy.REWRITE:
            write_documents(self.path, before=None, after=self.schema, tmp_dir=self._tmp)
        else:
            remove_stray(self.path, finding.path)

    # -- rows, read ---------------------------------------------------------------------------

    def column_rows(self, name: str) -> int:
        """Rows of a chunk of a row column."""
        return row_columns(self.schema)[name].chunk[0]

    def read_column(self, name: str, chunk: int, rows: int) -> Values:  # noqa: ARG002 - whole
        """Values of a chunk of a row column."""
        column = row_columns(self.schema)[name]
        key = column.chunk_key(chunk)
        decode = decode_strings if column.dtype == "string" else decode_numbers
        try:
            values: Values = decode(read_chunk(self.path / key, column=column), column=column)
        except FileNotFoundError:
            raise DamageError(f"{key} is missing; run 'vnp verify'") from None
        except DamageError as error:
            raise DamageError(f"{key}: {error}; run 'vnp verify' on the store") from None
        return values

    def read_scores(self, name: str) -> NDArray[np.float32]:
        """Scores by row: float32 (N, 2)."""
        [known] = [scores for scores in self.schema.scores if scores.name == name]
        out = np.full((self.schema.n_rows, 2), np.nan, dtype=np.float32)
        for at, column in enumerate(score_columns(self.schema, name)):
            size = column.chunk[0]
            for chunk in chunks_of(0, known.rows, size):
                part = out[chunk * size : (chunk + 1) * size, at]
                part[:] = read_scores_chunk(self.path, column, chunk)[: len(part)]
        return out

    # -- cells --------------------------------------------------------------------------------

    def encode(self, model: str, values: Rows) -> tuple[bytes, str]:
        """Encode a chunk, padded with NaN; the CRC-32C covers the padding too."""
        column = embedding_column(self.schema, self.schema.model(model))
        content = encode_numbers(values, column=column)
        return content, stored_crc(content)

    def create(self, cell: Cell, content: bytes) -> bool:
        """Create the cell's file with ``link()``."""
        path, column = self._locate(cell)
        return publish_new(self._tmp, path, [_encode(cell, content, column)])

    def replace(self, cell: Cell, content: bytes) -> None:
        """Replace the cell's file."""
        path, column = self._locate(cell)
        publish_replace(self._tmp, path, [_encode(cell, content, column)])

    def remove(self, cell: Cell) -> None:
        """Remove the cell's file."""
        remove_durable(self._locate(cell)[0])

    def read(self, cell: Cell) -> bytes | None:
        """Content of the cell's file, compared with its checksum."""
        path, column = self._locate(cell)
        try:
            raw = read_chunk(path, column=column)
        except FileNotFoundError:
            return None
        if cell.part is Part.FILLED:
            return decode_numbers(raw, column=column).tobytes()
        return decode_strings(raw, column=column)[0]

    def read_values(self, cell: Cell, rows: int) -> tuple[Rows, str] | None:  # noqa: ARG002
        """Read the whole chunk."""
        path, column = self._locate(cell)
        try:
            raw = read_chunk(path, column=column)
            return decode_numbers(raw, column=column), stored_crc(raw)
        except FileNotFoundError:
            return None
        except DamageError as error:
            raise DamageError(f"{self.name(cell)}: {error}") from None

    def checksum(self, cell: Cell, rows: int) -> str | None:  # noqa: ARG002 - of the chunk
        """Read the end of the chunk: its length and the checksum it carries."""
        path, column = self._locate(cell)
        try:
            fd = open_regular(path)
        except FileNotFoundError:
            return None
        try:
            found = os.fstat(fd).st_size
            trailer = os.pread(fd, CRC_BYTES, max(found - CRC_BYTES, 0))
        finally:
            os.close(fd)
        size = number_bytes(column) + CRC_BYTES
        if found != size:
            raise DamageError(f"length is {count(found, 'byte')} where {size} belong")
        return stored_crc(trailer)

    def flagged(self, model: str) -> NDArray[np.int64]:
        """Blocks whose ``filled`` chunk exists, from one directory listing."""
        column = filled_column(self.schema, self.schema.model(model))
        return chunks_named(names_in(self.path / column.path))

    # -- for people and for memory mapping ----------------------------------------------------

    def name(self, cell: Cell) -> str:
        """Path of the cell's file inside the store."""
        return self._locate(cell)[0].relative_to(self.path).as_posix()

    def values_file(self, cell: Cell) -> tuple[Path, int]:
        """Name the block's own file, whose checksum comes after the values."""
        return self._locate(cell)[0], 0

    def verify(self) -> Iterator[Finding]:
        """Re-read metadata and columns; see `store.zarr.verify.verify_tree`."""
        committing = is_committing(sidecar_of(self.path))
        return verify_tree(self.path, schema=self.schema, interrupted=committing)

    @property
    def _tmp(self) -> Path:
        return sidecar_of(self.path).make().tmp

    def _locate(self, cell: Cell) -> tuple[Path, Column]:
        model = self.schema.model(cell.model)
        if cell.part is Part.PROVENANCE:
            column = provenance_column(model)
            return self.path / column.chunk_key(), column
        if cell.part is Part.VALUES:
            column = embedding_column(self.schema, model)
            return self.path / column.chunk_key(cell.block, 0), column
        make = filled_column if cell.part is Part.FILLED else certificate_column
        column = make(self.schema, model)
        return self.path / column.chunk_key(cell.block), column


def _encode(cell: Cell, content: bytes, column: Column) -> bytes:
    """Content of a cell's file."""
    if cell.part is Part.VALUES:
        return content  # as `ZarrBackend.encode` made it
    if cell.part is Part.FILLED:
        return encode_numbers(np.frombuffer(content, np.bool_), column=column)
    return encode_strings(from_items([content]), column=column)


def _check_extent(path: Path, schema: Schema) -> None:
    """Refuse very many rows of which most have no file: they would cost memory, and are not there.

    A store with a few lost files opens, so that `verify` can name them.
    """
    if schema.n_rows <= _ROWS_UNCHECKED:
        return
    column = row_columns(schema)["id"]
    probed = np.linspace(0, schema.n_rows - 1, _PROBES).astype(np.int64) // column.chunk[0]
    found = sum(os.path.lexists(path / column.chunk_key(chunk)) for chunk in probed.tolist())
    if 2 * found < len(probed):
        rows = len(chunks_named(names_in(path / column.path))) * column.chunk[0]
        raise NotAStoreError(
            f"{path} says that it holds {schema.n_rows:,} rows, but {column.path} has files for "
            f"{rows:,} at most: it is damaged; restore it from a copy"
        )


def _read_schema(path: Path) -> Schema:
    root = path / "zarr.json"
    try:
        node = parse_json(read_regular(root, most=LONGEST))
    except FileNotFoundError:
        if path.is_dir() and any(path.iterdir()):
            raise NotAStoreError(
                f"{path} is not a vnp store but a directory without {root.name}; name the path of "
                "a store"
            ) from None
        found = "an empty directory" if path.is_dir() else "the directory does not exist"
        raise NotAStoreError(
            f"{path} is not a vnp store ({found}); make one with 'vnp init {path}'"
        ) from None
    except DamageError as error:
        if not path.is_dir():
            raise NotAStoreError(f"{path} is not a directory, as a Zarr store is") from None
        raise NotAStoreError(f"{root} is damaged: it {error}") from None
    except ValueError as error:
        raise NotAStoreError(f"{root} is damaged: it is not JSON ({error})") from None
    attributes = node.get("attributes") if isinstance(node, dict) else None
    value = attributes.get("vnp") if isinstance(attributes, dict) else None
    return from_attribute(value, where=str(path), read_samples=_SampleChunks(path))


@dataclass(frozen=True, slots=True)
class _SampleChunks:
    """Reads chunks of the array of samples."""

    root: Path

    def __call__(self, chunk: int) -> Ragged:
        column = samples_column(_NO_ROWS)
        key = column.chunk_key(chunk)
        try:
            return decode_strings(read_chunk(self.root / key, column=column), column=column)
        except FileNotFoundError:
            raise DamageError(f"{key} is missing; run 'vnp verify'") from None
        except DamageError as error:
            raise DamageError(f"{key}: {error}; run 'vnp verify'") from None
