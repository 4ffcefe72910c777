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

from store.backend import Cell, Rows
from store.errors import DamageError, NotAStoreError, UsageError
from store.findings import Finding, Remedy
from store.io.files import fsync_dir, names_in, publish_new, publish_replace, remove_durable
from store.io.json import LONGEST, parse_json
from store.io.ragged import Ragged
from store.io.regular import read_end, read_regular
from store.layout import (
    Column,
    chunks_named,
    row_columns,
)
from store.samples import StoredSamples
from store.schema import Schema, from_attribute
from store.sidecar import OnDisk, making, sidecar_of
from store.zarr.cells import ZarrTree, samples_of
from store.zarr.codec import read_chunk, read_rows
from store.zarr.metadata import attributes_of
from store.zarr.strays import remove_stray, stray_files
from store.zarr.transaction import (
    ZarrTransaction,
    is_committing,
    undo_interrupted,
    write_documents,
)
from store.zarr.verify import verify_tree

_PROBES = 64  # chunks looked for at opening
_ROWS_UNCHECKED = 1 << 24  # fewer rows cannot cost much memory


class ZarrBackend(ZarrTree, OnDisk):
    """One commit of a store in a Zarr directory; see `store.backend.Backend`."""

    trouble = ""  # other programs leave traces that only `verify` looks for

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._root = str(path)
        self.sidecar = sidecar_of(path)
        self.schema = schema

    @staticmethod
    def taken(path: Path) -> str | None:
        """What is in the way of a new store; an empty directory is not."""
        if path.is_dir() and not any(path.iterdir()):
            return None
        return OnDisk.taken(path)

    @classmethod
    def new(cls, path: Path, schema: Schema) -> Self:
        """Make an empty store; it appears whole or not at all."""
        schema = replace(schema, samples=StoredSamples(read=SampleChunks(path)))
        with making(path) as sidecar:
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
            undo_interrupted(self.path, schema=schema, sidecar=self.sidecar.make())
        if schema == self.schema:
            return self
        _check_extent(self.path, schema)
        return type(self)(self.path, schema)

    def begin(self, guard: Callable[[], None]) -> ZarrTransaction:
        """Begin a change."""
        sidecar = self.sidecar.make()
        return ZarrTransaction(self, root=self.path, sidecar=sidecar, guard=guard)

    def repair(self, finding: Finding) -> None:
        """Write every ``zarr.json`` again, or remove a file."""
        if finding.remedy is Remedy.REWRITE:
            write_documents(self.path, before=None, after=self.schema, tmp_dir=self._tmp)
        else:
            remove_stray(self.path, finding.path)

    # -- files ----------------------------------------------------------------------------------

    def read_file(self, key: str, *, column: Column) -> bytes:
        """Read a regular file."""
        return read_chunk(f"{self._root}/{key}", column=column)

    def read_document(self, key: str) -> bytes:
        """Read a regular file of metadata."""
        return read_regular(self.path / key, most=LONGEST)

    def read_end(self, key: str, size: int) -> tuple[int, bytes]:
        """Read the end of a regular file."""
        return read_end(f"{self._root}/{key}", size)

    def make_file(self, key: str, content: bytes) -> bool:
        """Create a file with ``link()``."""
        return publish_new(self._tmp, self.path / key, [content])

    def write_file(self, key: str, content: bytes) -> None:
        """Replace a file."""
        publish_replace(self._tmp, self.path / key, [content])

    def remove_file(self, key: str) -> None:
        """Remove a file for good."""
        remove_durable(self.path / key)

    def chunk_names(self, column: Column, chunks: int) -> list[str]:  # noqa: ARG002 - all
        """Names in a folder, from one listing."""
        return names_in(self.path / column.path)

    def read_rows(self, cell: Cell, rows: int, first: int, out: Rows) -> str | None:  # noqa: ARG002
        """Read the whole file, whose checksum is that of the chunk."""
        key, column = self._locate(cell)
        return read_rows(f"{self._root}/{key}", column=column, first=first, out=out)

    # -- for people and for memory mapping ----------------------------------------------------

    def values_file(self, cell: Cell) -> tuple[Path, int]:
        """Name the block's own file, whose checksum comes after the values."""
        return self.path / self._locate(cell)[0], 0

    def verify(self) -> Iterator[Finding]:
        """Re-read metadata and columns; see `store.zarr.verify.verify_tree`."""
        committing = is_committing(self.sidecar)
        yield from verify_tree(self, interrupted=committing)
        yield from stray_files(self.path, schema=self.schema)

    @property
    def _tmp(self) -> Path:
        return self.sidecar.make().tmp


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
    value = attributes_of(node).get("vnp")
    return from_attribute(value, where=str(path), read_samples=SampleChunks(path))


@dataclass(frozen=True, slots=True)
class SampleChunks:
    """Reads chunks of the array of samples."""

    root: Path

    def __call__(self, chunk: int) -> Ragged:
        """Texts of a chunk; DamageError if it is missing or damaged."""
        return samples_of(lambda key, column: read_chunk(self.root / key, column=column), chunk)
