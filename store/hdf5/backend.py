"""An open store in one HDF5 file.

What this class adds to :class:`store.store.Store` is where rows and blocks lie: at places in
the file that :mod:`store.hdf5.file` knows.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from store.certificate import Certificate, Certification
from store.claims.claims import Claim
from store.duplicates import Digests
from store.errors import DamageError, UsageError
from store.findings import Finding
from store.geometry import chunks_of
from store.hdf5.appender import Hdf5RowWriter
from store.hdf5.blocks import (
    block_place,
    certify,
    filled_of_block,
    publish_block,
    read_certificate,
    read_values,
    reopen_block,
    rows_filled,
)
from store.hdf5.columns import pread, read_block_column, read_block_strings
from store.hdf5.file import (
    Places,
    current_places,
    read_places,
    reading,
    settle,
    with_tree,
    writing,
)
from store.hdf5.journal import recover
from store.hdf5.layout import PROVENANCE_BYTES, add_model, check_models
from store.hdf5.overlay import write_all
from store.hdf5.scores import read_scores, save_scores
from store.hdf5.transaction import Growth, create_file, growing
from store.hdf5.verify import verify_block, verify_file
from store.io.checksummed_json import seal, unseal
from store.io.clock import utc_now
from store.io.files import make_dir, publish_new
from store.io.ragged import Ragged, concatenate
from store.layout import embedding_column, provenance_column, row_columns
from store.schema import DEFAULT_BLOCK_ROWS, Model, Schema
from store.sidecar import sidecar_of
from store.store import Store


class Hdf5Store(Store):
    """A vnp store in one HDF5 file."""

    def __init__(self, path: Path, places: Places) -> None:
        super().__init__(path, places.schema)
        self._places = places

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        models: Iterable[Model],
        segment_length: int,
        block_rows: int = DEFAULT_BLOCK_ROWS,
    ) -> Self:
        """Make an empty store; it appears whole or not at all."""
        path = path.resolve()
        if path.exists():
            raise UsageError(f"{path} exists already; choose another path, or append to it")
        schema = Schema(block_rows=block_rows, segment_length=segment_length, models=tuple(models))
        check_models(schema)
        return cls(path, create_file(path, schema=schema, sidecar=sidecar_of(path).make()))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store at its last commit, finishing what a killed appender left half done."""
        path = path.resolve()
        return cls(path, read_places(path))

    def refresh(self) -> bool:
        """Take the newest commit; return whether it differs from the one held."""
        places = current_places(self.path, self._places)
        changed = places.schema != self.schema
        self._places, self.schema = places, places.schema
        return changed

    def snapshot(self) -> Self:
        """Return an object of its own on the newest commit, which no refresh of this one moves."""
        settle(self.path)
        other = copy.copy(self)
        other.refresh()
        return other

    # -- changing the schema: under the appender's lock --------------------------------------

    def _writer(self, lock: Claim) -> Hdf5RowWriter:
        growth = Growth(
            self.path, places=self._places, sidecar=self.sidecar.make(), guard=lock.require
        )
        try:
            return Hdf5RowWriter(
                growth,
                schema=self.schema,
                tmp_dir=self.sidecar.tmp,
                old_digests=self._old_digests,
            )
        except BaseException:
            growth.abort()
            raise

    def add_model(self, model: Model) -> None:
        """Add an (unfilled) array for one more model."""
        with self._locked() as lock:
            after = self.schema.with_model(model)
            check_models(after)
            with growing(
                self.path, places=self._places, sidecar=self.sidecar.make(), guard=lock.require
            ) as growth:
                add_model(growth.tree, after, model)
                growth.commit(after, still_mine=lock.require)
            self.refresh()

    def save_scores(
        self,
        name: str,
        *,
        digest: str,
        values: NDArray[np.float32],
        rows: Iterable[tuple[int, int]],
        replace: bool = False,
    ) -> None:
        """Keep scores of rows as obs columns; see :func:`store.hdf5.scores.save_scores`."""
        with (
            self._locked() as lock,
            growing(
                self.path, places=self._places, sidecar=self.sidecar.make(), guard=lock.require
            ) as growth,
        ):
            after = save_scores(
                growth.tree,
                schema=self.schema,
                name=name,
                digest=digest,
                values=values,
                rows=rows,
                replace=replace,
            )
            growth.commit(after, still_mine=lock.require)
        self.refresh()

    def scores(self, name: str) -> NDArray[np.float32]:
        """Scores kept under a name: score1 and score2 by row, float32 (N, 2), NaN for none."""
        if all(scores.name != name for scores in self.schema.scores):
            names = ", ".join(scores.name for scores in self.schema.scores) or "none"
            raise UsageError(f"the store has no scores {name!r} (it has: {names})")
        return with_tree(self.path, lambda tree: read_scores(tree, schema=self.schema, name=name))

    def rewrite_documents(self) -> None:
        """Metadata of an HDF5 file cannot be made again from the schema: always an error."""
        raise DamageError(
            f"{self.path}: damaged HDF5 structures cannot be made again; restore the file from "
            "a copy"
        )

    @contextmanager
    def _locked(self) -> Iterator[Claim]:
        with super()._locked() as lock:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                recover(fd, self.sidecar.path)
            finally:
                os.close(fd)
            self.refresh()
            yield lock

    # -- embedding --------------------------------------------------------------------------

    def sequences(self, block: int) -> tuple[Ragged, Ragged]:
        """Nucleotide and protein sequences of a block's rows, one column each."""
        start, stop = self.block_bounds(block)
        nucleotide, protein = (
            read_block_strings(self.path, self._places, name, block=block, rows=stop - start)
            for name in ("nucleotide", "protein")
        )
        return nucleotide, protein

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
        """Publish a block's embeddings; see :func:`store.hdf5.blocks.publish_block`."""
        with writing(self.path) as fd:
            return publish_block(
                fd,
                self._places,
                model=model,
                block=block,
                values=values,
                worker=worker,
                epoch=epoch,
                published=published or utc_now(),
                details=details or {},
                is_current=is_current,
            )

    def provenance(self, model: str) -> dict[str, Any] | None:
        """Return what the first worker recorded about a model, or None before any has run."""
        path = provenance_column(self.schema.model(model)).path
        with reading(self.path) as fd:
            raw = pread(fd, *self._places.fixed[path], path)
        try:
            return unseal(raw, what=path)
        except DamageError as error:
            raise DamageError(f"{error}; run 'vnp verify'") from None

    def pin_provenance(self, model: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Record a model's provenance unless it is recorded; return what stands.

        A link beside the store decides: of many workers starting at once one makes it, and all
        write what it says, the same bytes, into the store.
        """
        standing = self.provenance(model)
        if standing is not None:
            return standing
        offset, size = self._places.fixed[provenance_column(self.schema.model(model)).path]
        vote = self._vote(model)
        make_dir(vote.parent)
        publish_new(self.sidecar.make().tmp, vote, [seal(provenance, size=size)])
        chosen = vote.read_bytes()
        if unseal(chosen, what=str(vote)) is None:
            raise DamageError(f"{vote} is empty; remove it and run the command again")
        with writing(self.path) as fd:
            write_all(fd, chosen, offset)
        standing = self.provenance(model)
        if standing is None:
            raise DamageError(f"{self.path}: {model}'s provenance vanished right after its writing")
        return standing

    def drop_provenance(self, model: str) -> None:
        """Forget a provenance that is damaged."""
        offset, _ = self._places.fixed[provenance_column(self.schema.model(model)).path]
        self._vote(model).unlink(missing_ok=True)
        with writing(self.path) as fd:
            write_all(fd, bytes(PROVENANCE_BYTES), offset)

    def filled_of_block(self, model: str, block: int) -> int:
        """Filled rows of one block."""
        with reading(self.path) as fd:
            return filled_of_block(fd, self._places, model=model, block=block)

    def rows_filled(self, model: str) -> NDArray[np.int64]:
        """Filled rows of every block, shape (n_blocks,)."""
        with reading(self.path) as fd:
            return rows_filled(fd, self._places, model=model)

    def certify(self, model: str) -> Certification:
        """Check what certifies each block; see :func:`store.hdf5.blocks.certify`."""
        with reading(self.path) as fd:
            return certify(fd, self._places, model=model)

    def certificate(self, model: str, block: int) -> Certificate | None:
        """Return the certificate of a block, or None."""
        with reading(self.path) as fd:
            return read_certificate(fd, block_place(self._places, model=model, block=block))

    def reopen(self, model: str, block: int) -> None:
        """Make a block open again; the caller holds its claim."""
        with writing(self.path) as fd:
            reopen_block(fd, block_place(self._places, model=model, block=block))

    # -- reading ----------------------------------------------------------------------------

    def _block_values(self, model: str, block: int) -> NDArray[np.float16]:
        with reading(self.path) as fd:
            try:
                return read_values(fd, block_place(self._places, model=model, block=block))
            except DamageError as error:
                raise DamageError(f"{error}; run 'vnp verify'") from None

    def chunk_file(self, model: str, block: int) -> tuple[Path, int]:
        """File and offset of a block's values: this file."""
        column = embedding_column(self.schema, self.schema.model(model))
        return self.path, int(self._places.chunks[column.path][block])

    def column(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | Ragged:
        """Values of one of the appender's columns."""
        columns = row_columns(self.schema)
        if name not in columns:
            raise UsageError(f"no column {name!r} (there are: {', '.join(columns)})")
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        rows = self.schema.block_rows
        strings: list[Ragged] = []
        numbers: list[NDArray[Any]] = []
        for block in chunks_of(start, stop, rows):
            first, last = max(start - block * rows, 0), min(stop - block * rows, rows)
            values = read_block_column(self.path, self._places, name, block=block, rows=last)
            if isinstance(values, Ragged):
                strings.append(values.slice(first, last))
            else:
                numbers.append(values[first:])
        if columns[name].dtype == "string":
            return concatenate(strings)
        return np.concatenate(numbers) if numbers else np.empty(0, dtype=columns[name].dtype)

    # -- checking ---------------------------------------------------------------------------

    def verify(self) -> Iterator[Finding]:
        """Re-read everything; see :func:`store.hdf5.verify.verify_file`."""
        return verify_file(self.path, self._places)

    def verify_block(self, model: str, block: int) -> list[Finding]:
        """Re-read one block; see :func:`store.hdf5.verify.verify_block`."""
        return verify_block(self.path, self._places, model=model, block=block)

    # -- inner ------------------------------------------------------------------------------

    def _old_digests(self) -> Iterator[tuple[int, Digests]]:
        """Yield the digests of the committed rows, a block at a time."""
        for block in range(self.n_blocks):
            start, stop = self.block_bounds(block)
            parts = [self.column(name, start, stop) for name in ("digest", "digest_low")]
            yield start, np.stack([np.asarray(part) for part in parts], axis=1)

    def _vote(self, model: str) -> Path:
        return self.sidecar.path / "provenance" / model
