"""An open store in a Zarr directory: what the rest of the world calls.

What this class adds to :class:`store.store.Store` is where rows and blocks lie.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from store.certificate import Certificate, Certification
from store.claims.claims import Claim
from store.errors import DamageError, NotAStoreError, UsageError
from store.findings import Finding
from store.geometry import chunks_of
from store.io.clock import utc_now
from store.io.files import fsync_dir, publish_new, remove_durable
from store.io.json import parse_json
from store.io.ragged import Ragged, concatenate, from_items
from store.layout import Column, embedding_column, provenance_column, row_columns
from store.schema import DEFAULT_BLOCK_ROWS, Model, Schema, from_attribute
from store.sidecar import sidecar_of
from store.store import Store
from store.zarr.appender import RowWriter, write_documents
from store.zarr.blocks import (
    BlockFiles,
    block_files,
    publish_block,
    read_certificate,
    reopen_block,
)
from store.zarr.certify import certify
from store.zarr.codec import decode_numbers, decode_strings, encode_strings
from store.zarr.progress import filled_of_block, rows_filled
from store.zarr.scores import read_scores, save_scores
from store.zarr.verify import verify_block, verify_tree


class ZarrStore(Store):
    """A vnp store in a Zarr v3 directory."""

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        models: Iterable[Model],
        segment_length: int,
        block_rows: int = DEFAULT_BLOCK_ROWS,
    ) -> Self:
        """Make an empty store; it appears whole or not at all.

        Raises
        ------
        UsageError
            If something stands at ``path`` already, or the arguments are out of range.
        """
        path = path.resolve()
        if path.exists():
            raise UsageError(f"{path} exists already; choose another path, or append to it")
        schema = Schema(block_rows=block_rows, segment_length=segment_length, models=tuple(models))
        sidecar = sidecar_of(path).make()
        made = sidecar.tmp / f"create-{uuid4().hex}"
        made.mkdir()
        try:
            write_documents(made, before=None, after=schema, tmp_dir=sidecar.tmp)
            made.rename(path)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            if path.exists():
                raise UsageError(f"{path} was created by someone else just now") from None
            raise error from None
        fsync_dir(path.parent)
        return cls(path, schema)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store at its last commit.

        Raises
        ------
        NotAStoreError
            If there is none, or it was made by a newer vnp.
        """
        path = path.resolve()
        return cls(path, _read_schema(path))

    def refresh(self) -> bool:
        """Take the newest commit; return whether it differs from the one held."""
        schema = _read_schema(self.path)
        changed = schema != self.schema
        self.schema = schema
        return changed

    # -- changing the schema: under the appender's lock --------------------------------------

    def _writer(self, lock: Claim) -> RowWriter:  # noqa: ARG002 - asked once, at the commit
        return RowWriter(self.path, schema=self.schema, tmp_dir=self.sidecar.make().tmp)

    def add_model(self, model: Model) -> None:
        """Add an (unfilled) array for one more model.

        Raises
        ------
        BusyError
            If an appender is at work.
        """
        with self._locked():
            after = self.schema.with_model(model)
            tmp_dir = self.sidecar.make().tmp
            write_documents(self.path, before=self.schema, after=after, tmp_dir=tmp_dir)
            self.schema = after

    def save_scores(
        self,
        name: str,
        *,
        digest: str,
        values: NDArray[np.float32],
        rows: Iterable[tuple[int, int]],
        replace: bool = False,
    ) -> None:
        """Keep scores of rows as obs columns; see :func:`store.zarr.scores.save_scores`."""
        with self._locked():
            self.schema = save_scores(
                self.path,
                schema=self.schema,
                name=name,
                digest=digest,
                values=values,
                rows=rows,
                replace=replace,
                tmp_dir=self.sidecar.make().tmp,
            )

    def scores(self, name: str) -> NDArray[np.float32]:
        """Scores kept under a name: score1 and score2 by row, float32 (N, 2), NaN for none."""
        return read_scores(self.path, schema=self.schema, name=name)

    def rewrite_documents(self) -> None:
        """Write all metadata again from the schema (repair)."""
        with self._locked():
            tmp_dir = self.sidecar.make().tmp
            write_documents(self.path, before=None, after=self.schema, tmp_dir=tmp_dir)

    # -- embedding --------------------------------------------------------------------------

    def sequences(self, block: int) -> tuple[Ragged, Ragged]:
        """Nucleotide and protein sequences of a block's rows, one column each.

        Raises
        ------
        DamageError
            If they are not what was appended.
        """
        start, stop = self.block_bounds(block)
        columns = row_columns(self.schema)
        return (
            self._strings(columns["nucleotide"], start, stop),
            self._strings(columns["protein"], start, stop),
        )

    def _publish(
        self,
        model: str,
        *,
        block: int,
        values: NDArray[np.float16],
        worker: str,
        epoch: int,
        is_current: Callable[[], bool],
        details: Mapping[str, Any] | None = None,
        published: str = "",
    ) -> Certificate:
        """Publish a block's embeddings; see :func:`store.zarr.blocks.publish_block`."""
        return publish_block(
            self.path,
            schema=self.schema,
            model=model,
            block=block,
            values=values,
            worker=worker,
            epoch=epoch,
            published=published or utc_now(),
            details=details or {},
            is_current=is_current,
            tmp_dir=self.sidecar.tmp,
        )

    def provenance(self, model: str) -> dict[str, Any] | None:
        """Return what the first worker recorded about a model, or None before any has run."""
        column = provenance_column(self.schema.model(model))
        try:
            raw = (self.path / column.chunk_key()).read_bytes()
        except FileNotFoundError:
            return None
        try:
            value = parse_json(decode_strings(raw, column=column)[0])
        except (DamageError, ValueError) as error:
            raise DamageError(f"{column.chunk_key()}: {error}; run 'vnp verify'") from None
        if not isinstance(value, dict):
            raise DamageError(f"{column.chunk_key()}: provenance is no JSON object")
        return value

    def pin_provenance(self, model: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Record a model's provenance unless it is recorded; return what stands.

        Created with ``link()``: of many workers starting at once one wins, and the others see
        what it wrote.
        """
        column = provenance_column(self.schema.model(model))
        text = json.dumps(dict(provenance), sort_keys=True).encode()
        content = encode_strings(from_items([text]), column=column)
        publish_new(self.sidecar.make().tmp, self.path / column.chunk_key(), [content])
        standing = self.provenance(model)
        if standing is None:
            raise DamageError(f"{column.chunk_key()} vanished right after it was written")
        return standing

    def drop_provenance(self, model: str) -> None:
        """Forget a provenance that is damaged."""
        column = provenance_column(self.schema.model(model))
        remove_durable(self.path / column.chunk_key())

    def filled_of_block(self, model: str, block: int) -> int:
        """Filled rows of one block."""
        return filled_of_block(self.path, schema=self.schema, model=model, block=block)

    def rows_filled(self, model: str) -> NDArray[np.int64]:
        """Filled rows of every block, shape (n_blocks,)."""
        return rows_filled(self.path, schema=self.schema, model=model)

    def certify(self, model: str) -> Certification:
        """Re-read what certifies each block; see :mod:`store.zarr.certify`."""
        return certify(self.path, schema=self.schema, model=model)

    def certificate(self, model: str, block: int) -> Certificate | None:
        """Return the certificate of a block, or None."""
        return read_certificate(self._block_files(model, block))

    def reopen(self, model: str, block: int) -> None:
        """Make a block open again; the caller holds its claim."""
        reopen_block(self._block_files(model, block))

    # -- reading ----------------------------------------------------------------------------

    def _block_values(self, model: str, block: int) -> NDArray[np.float16]:
        column = embedding_column(self.schema, self.schema.model(model))
        name = column.chunk_key(block, 0)
        try:
            return decode_numbers((self.path / name).read_bytes(), column=column)
        except FileNotFoundError:
            raise DamageError(f"{name}: filled, but missing; run 'vnp verify'") from None
        except DamageError as error:
            raise DamageError(f"{name}: {error}; run 'vnp verify'") from None

    def chunk_file(self, model: str, block: int) -> tuple[Path, int]:
        """File and offset of a block's values: a file of its own, checksum after the values."""
        column = embedding_column(self.schema, self.schema.model(model))
        return self.path / column.chunk_key(block, 0), 0

    def column(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | Ragged:
        """Values of one of the appender's columns, e.g. ``id``, ``start`` or ``protein``.

        Strings come as `Ragged`, ``sample`` as codes into ``schema.samples``.
        """
        columns = row_columns(self.schema)
        if name not in columns:
            raise UsageError(f"no column {name!r} (there are: {', '.join(columns)})")
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        column = columns[name]
        if column.dtype == "string":
            return self._strings(column, start, stop)
        parts = [
            decode_numbers(raw, column=column)[first:last]
            for raw, first, last in self._chunks(column, start, stop)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=column.dtype)

    # -- checking ---------------------------------------------------------------------------

    def verify(self) -> Iterator[Finding]:
        """Re-read everything; see :func:`store.zarr.verify.verify_tree`."""
        return verify_tree(self.path, schema=self.schema)

    def verify_block(self, model: str, block: int) -> list[Finding]:
        """Re-read one block; see :func:`store.zarr.verify.verify_block`."""
        return list(verify_block(self.path, schema=self.schema, model=model, block=block))

    # -- inner ------------------------------------------------------------------------------

    def _block_files(self, model: str, block: int) -> BlockFiles:
        return block_files(self.path, schema=self.schema, model=model, block=block)

    def _strings(self, column: Column, start: int, stop: int) -> Ragged:
        parts = []
        for raw, first, last in self._chunks(column, start, stop):
            parts.append(decode_strings(raw, column=column).slice(first, last))
        return concatenate(parts)

    def _chunks(self, column: Column, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield the content of each chunk and the rows of it that are asked for."""
        rows = column.chunk[0]
        for chunk in chunks_of(start, stop, rows):
            name = column.chunk_key(chunk)
            try:
                raw = (self.path / name).read_bytes()
            except FileNotFoundError:
                raise DamageError(f"{name} is missing; run 'vnp verify'") from None
            yield raw, max(start - chunk * rows, 0), min(stop - chunk * rows, rows)


def _read_schema(path: Path) -> Schema:
    root = path / "zarr.json"
    try:
        node = parse_json(root.read_bytes())
    except FileNotFoundError:
        found = f"there is no {root.name} in it" if path.is_dir() else "there is no such directory"
        raise NotAStoreError(
            f"{path} is no vnp store ({found}); make one with 'vnp init {path}'"
        ) from None
    except NotADirectoryError:
        raise NotAStoreError(f"{path} is a file, not a Zarr store's directory") from None
    except ValueError as error:
        raise NotAStoreError(f"{root} is damaged: it is no JSON ({error})") from None
    attributes = node.get("attributes") if isinstance(node, dict) else None
    value = attributes.get("vnp") if isinstance(attributes, dict) else None
    return from_attribute(value, where=str(path))
