"""A store: geometry, locks and rules over a `store.backend.Backend`, whichever it is.

An object holds one commit, the snapshot it was opened with; `Store.refresh` takes the newest.
Objects hold no file open between calls: they can be copied and pickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import blocks, counts
from store.append import Append
from store.backend import Backend, Cell, Part, Transaction
from store.certificate import BlockClaim, Certificate, Certification
from store.claims.claims import APPEND, Claim
from store.claims.participant import Participant
from store.digest_index import DigestIndex
from store.errors import AfterCommitError, DamageError, StoreError
from store.findings import Finding
from store.geometry import block_bounds, n_blocks, rows_wanted
from store.io.files import WriteError, naming
from store.io.ragged import Ragged
from store.io.words import count
from store.location import Location
from store.ranges import column_range, embedding_range
from store.read.reader import Reading
from store.schema import Model, Schema
from store.scores import read_scores, save_scores
from store.sidecar import Sidecar
from store.verify import read_provenance, verify


class Store(Reading):
    """One store at one commit; made by ``store.open`` and ``store.create``.

    Parameters
    ----------
    backend
        Keeps the bytes.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __repr__(self) -> str:
        models = ", ".join(model.name for model in self.schema.models)
        return f"<vnp store {self.path}: {count(self.n_rows, 'row')}; models: {models or 'none'}>"

    @property
    def path(self) -> Location:
        """The store's directory or file, resolved, or its location in S3."""
        return self._backend.path

    @property
    def schema(self) -> Schema:
        """Models, samples and geometry of the commit this object reads."""
        return self._backend.schema

    def refresh(self) -> bool:
        """Take the newest commit; return whether it differs from the one held."""
        before = self.schema
        self._backend = self._backend.newest()
        return self.schema != before

    def snapshot(self) -> Store:
        """Return an object of its own on the newest commit, which no refresh of this one moves."""
        return Store(self._backend.newest())

    @property
    def trouble(self) -> str:
        """What another program did to the store, as far as opening it shows; empty if nothing."""
        return self._backend.trouble

    # -- geometry -----------------------------------------------------------------------------

    @property
    def sidecar(self) -> Sidecar:
        """Claims and heartbeats beside the store, and where temporary files go."""
        return self._backend.sidecar

    @property
    def n_rows(self) -> int:
        """Committed rows, N."""
        return self.schema.n_rows

    @property
    def n_blocks(self) -> int:
        """Blocks of each model."""
        return n_blocks(self.n_rows, self.schema.block_rows)

    def block_bounds(self, block: int) -> tuple[int, int]:
        """First row and one past the last row of a block."""
        return block_bounds(block, self.n_rows, self.schema.block_rows)

    # -- changing the schema: under the appender's lock ----------------------------------------

    @contextmanager
    def appending(self) -> Iterator[Append]:
        """Hold the appender's lock and write one sample.

        The rows count once :meth:`Append.commit` has returned; leaving the block without it, by
        an error or a kill, leaves the store as it was.

        Raises
        ------
        BusyError
            If another appender is at work.
        """
        with self._locked() as lock, self._change(lock) as transaction:
            tmp_dir = self.sidecar.make().tmp
            index = DigestIndex(
                self.sidecar.digests, tmp_dir=self.sidecar.digests_tmp, guard=lock.require
            )
            append = Append(self._backend, transaction, index=index, tmp_dir=tmp_dir)
            try:
                yield append
            finally:
                append.abort()

    def add_model(self, model: Model) -> None:
        """Add an (unfilled) array for one more model.

        Raises
        ------
        BusyError
            If an appender is at work.
        """
        with self._changing() as transaction, naming(self.path):
            transaction.commit(self.schema.with_model(model))

    def save_scores(
        self,
        name: str,
        *,
        digest: str,
        values: NDArray[np.float32],
        rows: Iterable[tuple[int, int]],
        replace: bool = False,
    ) -> None:
        """Keep scores of rows as obs columns.

        Parameters
        ----------
        name, digest
            Name of the columns, and what says which classifier made them.
        values
            Scores by row (n, 2); may be memory-mapped.
        rows
            Ranges of rows to write, NaN included; others keep the score they have.
        replace
            Whether scores that another classifier made under the name may be dropped.

        Raises
        ------
        BusyError
            If an appender is at work.
        UsageError
            If the name is another classifier's, or that of a column.
        DamageError
            If rows to keep are damaged.
        """
        with self._changing() as transaction, naming(self.path):
            save_scores(
                transaction,
                self.schema,
                name=name,
                digest=digest,
                values=values,
                rows=rows,
                replace=replace,
            )

    def scores(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Scores kept under a name: score1 and score2 of rows ``start .. stop``.

        float32 (rows, 2), NaN for none.

        Raises
        ------
        UsageError
            If there are none of that name.
        DamageError
            If they are missing or damaged.
        """
        return read_scores(self._backend, name, start, stop)

    def remove(self, finding: Finding) -> None:
        """Remove what `verify` calls an orphan; the caller holds the appender's lock."""
        self._backend.repair(finding)

    def rewrite(self, finding: Finding) -> None:
        """Write the metadata that `verify` found wrong again, from the schema."""
        with self._locked():
            self._backend.repair(finding)
            self._backend = self._backend.newest(locked=True)

    @contextmanager
    def _locked(self) -> Iterator[Claim]:
        with Participant(self.sidecar.room) as participant:
            participant.tidy()
            lock = participant.claims.acquire(APPEND)
            self._backend = self._backend.newest(locked=True)
            yield lock  # given back by the participant, to whom an error then is a warning

    @contextmanager
    def _changing(self) -> Iterator[Transaction]:
        with self._locked() as lock, self._change(lock) as transaction:
            yield transaction

    @contextmanager
    def _change(self, lock: Claim) -> Iterator[Transaction]:
        before = self.schema
        with naming(self.path):
            transaction = self._backend.begin(lock.require)
        try:
            yield transaction
        except BaseException as error:
            with suppress(OSError, StoreError):
                transaction.abort()
                # Finishes or undoes at once what the error left half done.
                ours = isinstance(error, Exception) and lock.is_current()
                self._backend = self._backend.newest(locked=ours)
                if isinstance(error, WriteError) and self.schema == before:
                    error.add("The store is as it was.")
            raise
        try:
            transaction.abort()
            self.refresh()
        except (OSError, StoreError) as error:
            raise AfterCommitError(f"{self.path}: the change", error) from error

    # -- embedding ------------------------------------------------------------------------------

    def sequences(self, block: int) -> tuple[Ragged, Ragged]:
        """Nucleotide and protein sequences of a block's rows, one column each.

        Raises
        ------
        DamageError
            If they are not what was appended.
        """
        nucleotide, protein = (
            self.column(name, *self.block_bounds(block)) for name in ("nucleotide", "protein")
        )
        assert isinstance(nucleotide, Ragged)
        assert isinstance(protein, Ragged)
        return nucleotide, protein

    def publish(
        self,
        claim: BlockClaim,
        values: NDArray[np.float16],
        details: Mapping[str, Any] | None = None,
        *,
        origin: Certificate | None = None,
    ) -> Certificate:
        """Publish the embeddings of a block.

        Parameters
        ----------
        claim
            The claim on the block; this object's schema says how many rows the block has.
        values
            float16, shape (rows of the block, dim), finite.
        details
            Recorded in the certificate.
        origin
            Certificate of the block that the values were copied from: worker, epoch and time are
            taken from it instead of from the claim and the clock.

        Returns
        -------
        Certificate
            The certificate that is in the store now.

        Raises
        ------
        ClaimLostError
            If another worker owns, or has finished, the block.
        DataError
            If a value is NaN or infinite, or the shape is not the block's.
        DamageError
            If the bytes on disk are not the bytes written.
        """
        return blocks.publish(self._backend, claim, values, details or {}, origin=origin)

    def provenance(self, model: str) -> dict[str, Any] | None:
        """Return what the first worker recorded about a model, or None before any has run."""
        self.schema.model(model)
        try:
            return read_provenance(self._backend, model)
        except DamageError as error:
            name = self._backend.name(Cell(Part.PROVENANCE, model))
            raise DamageError(f"{name}: {error}; run 'vnp verify'") from None

    def pin_provenance(self, model: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Record a model's provenance unless it is recorded; return the one that is.

        Of many workers starting at once one wins, and the others see what it wrote.
        """
        recorded = self.provenance(model)
        if recorded is None:
            text = json.dumps(dict(provenance), sort_keys=True).encode()
            self._backend.create(Cell(Part.PROVENANCE, model), text)
            recorded = self.provenance(model)
        if recorded is None:
            raise DamageError(f"the provenance of {model} vanished right after it was written")
        return recorded

    def drop_provenance(self, model: str) -> None:
        """Forget a provenance that is damaged.

        The next worker whose model is the one in the blocks' certificates records it again.
        """
        self._backend.remove(Cell(Part.PROVENANCE, model))

    def is_filled(self, model: str, block: int) -> bool:
        """Whether every committed row of the block is filled; a damaged record says no."""
        start, stop = self.block_bounds(block)
        try:
            return counts.filled_of_block(self._backend, model, block) == stop - start
        except DamageError:
            return False

    def rows_filled(self, model: str, among: range | None = None) -> NDArray[np.int64]:
        """Filled rows of every block, shape (n_blocks,), or of some that lie side by side."""
        return counts.rows_filled(self._backend, model, among)

    def open_blocks(self, model: str) -> NDArray[np.int64]:
        """Blocks with unfilled rows, ascending."""
        return np.flatnonzero(self.rows_filled(model) < rows_wanted(self.schema))

    def certify(self, model: str, *, threads: int | None = None) -> Certification:
        """Check that every filled block still is as it was certified.

        ``threads`` look at blocks concurrently; None: as many as the file system's latency asks
        for.
        """
        return blocks.certify(self._backend, model, threads=threads)

    def certificate(self, model: str, block: int) -> Certificate | None:
        """Return the certificate of a block, or None.

        Raises
        ------
        DamageError
            If it is damaged.
        """
        return blocks.certificate_of(self._backend, model, block)

    def reopen(self, model: str, block: int) -> None:
        """Make a block open again; the caller holds its claim."""
        blocks.reopen(self._backend, model, block)

    # -- reading --------------------------------------------------------------------------------

    def read(self, model: str, start: int = 0, stop: int | None = None) -> NDArray[np.float16]:
        """Embeddings of rows ``start .. stop``: float16 (rows, dim), NaN where not certified.

        Raises
        ------
        DamageError
            If a certified block's chunk is missing or damaged.
        """
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        return embedding_range(self._backend, model, start, stop)

    def values_file(self, model: str, block: int) -> tuple[Path, int] | None:
        """File of a block's embeddings and the byte at which its (R, dim) values begin.

        The values are little-endian float16, not compressed, so they can be memory-mapped;
        ``filled`` alone tells which of them count. None where the backend has no such file.
        """
        return self._backend.values_file(Cell(Part.VALUES, model, block))

    def column(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | Ragged:
        """Values of one of the appender's columns, e.g. ``id``, ``start`` or ``protein``.

        Strings come as `Ragged`, ``sample`` as codes into ``schema.samples``.
        """
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        return column_range(self._backend, name, start, stop)

    # -- checking -------------------------------------------------------------------------------

    def verify(self, *, threads: int | None = None) -> Iterator[Finding]:
        """Re-read everything; yield what is not as it must be. ``threads`` as in `certify`."""
        return verify(self._backend, threads=threads)

    def verify_block(self, model: str, block: int) -> list[Finding]:
        """Re-read one block; return what is not as it must be."""
        return list(blocks.verify_block(self._backend, model, block))
