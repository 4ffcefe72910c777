"""What a store is to the rest of the world, whichever file it lives in.

A backend says where rows and blocks lie and how they get there; everything that does not depend
on that (geometry, locks, which rows count, reading by blocks) is written here once. The backends
are :class:`store.zarr.backend.ZarrStore` and :class:`store.hdf5.backend.Hdf5Store`.

An object holds one committed schema, the snapshot it was opened with; :meth:`Store.refresh` takes
the newest. Objects hold no file open between calls: they can be copied and pickled.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from store.append import Append, Writer
from store.certificate import BlockClaim, Certificate, Certification
from store.claims.claims import APPEND, Claim
from store.claims.participant import Participant
from store.errors import DamageError, UsageError
from store.findings import Finding
from store.geometry import block_bounds, chunks_of, n_blocks, rows_wanted
from store.io.ragged import Ragged
from store.read.reader import Reading
from store.schema import DEFAULT_BLOCK_ROWS, Model, Schema
from store.sidecar import Sidecar, sidecar_of


class Store(Reading, abc.ABC):
    """One store at one commit.

    Attributes
    ----------
    path : Path
        The store's directory or file, resolved.
    schema : Schema
        Models, samples and geometry of the commit this object reads.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.schema = schema

    def __repr__(self) -> str:
        models = ", ".join(model.name for model in self.schema.models)
        return f"<vnp store {self.path}: {self.n_rows} rows; models: {models or 'none'}>"

    # -- making, opening ----------------------------------------------------------------------

    @classmethod
    @abc.abstractmethod
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

    @classmethod
    @abc.abstractmethod
    def open(cls, path: Path) -> Self:
        """Open a store at its last commit.

        Raises
        ------
        NotAStoreError
            If there is none, or it was made by a newer vnp.
        """

    @abc.abstractmethod
    def refresh(self) -> bool:
        """Take the newest commit; return whether it differs from the one held."""

    def snapshot(self) -> Self:
        """Return an object of its own on the newest commit, which no refresh of this one moves."""
        return self.open(self.path)

    # -- geometry -----------------------------------------------------------------------------

    @property
    def sidecar(self) -> Sidecar:
        """The directory beside the store."""
        return sidecar_of(self.path)

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
        with self._locked() as lock:
            append = Append(self._writer(lock), schema=self.schema, lock=lock)
            try:
                yield append
            finally:
                append.abort()
                self.refresh()

    @abc.abstractmethod
    def add_model(self, model: Model) -> None:
        """Add an (unfilled) array for one more model.

        Raises
        ------
        BusyError
            If an appender is at work.
        """

    @abc.abstractmethod
    def save_scores(
        self,
        name: str,
        *,
        digest: str,
        values: NDArray[np.float32],
        rows: Iterable[tuple[int, int]],
        replace: bool = False,
    ) -> None:
        """Keep scores of rows as obs columns; see :func:`store.zarr.scores.save_scores`.

        Raises
        ------
        BusyError
            If an appender is at work.
        UsageError
            If the name is another classifier's.
        """

    @abc.abstractmethod
    def scores(self, name: str) -> NDArray[np.float32]:
        """Scores kept under a name: score1 and score2 by row, float32 (N, 2), NaN for none.

        Raises
        ------
        UsageError
            If there are none of that name.
        """

    @abc.abstractmethod
    def rewrite_documents(self) -> None:
        """Write all metadata again from the schema (repair)."""

    @abc.abstractmethod
    def _writer(self, lock: Claim) -> Writer:
        """Return what takes the rows of one sample, for the schema held."""

    @contextmanager
    def _locked(self) -> Iterator[Claim]:
        with Participant(self.sidecar.path) as presence, presence.claims.acquire(APPEND) as lock:
            self.refresh()
            yield lock

    # -- embedding ------------------------------------------------------------------------------

    @abc.abstractmethod
    def sequences(self, block: int) -> tuple[Ragged, Ragged]:
        """Nucleotide and protein sequences of a block's rows, one column each.

        Raises
        ------
        DamageError
            If they are not what was appended.
        """

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
        return self._publish(
            claim.model,
            block=claim.block,
            values=values,
            worker=origin.worker if origin else claim.worker,
            epoch=origin.epoch if origin else claim.epoch,
            is_current=claim.is_current,
            details=details,
            published=origin.published if origin else "",
        )

    @abc.abstractmethod
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
    ) -> Certificate: ...

    @abc.abstractmethod
    def provenance(self, model: str) -> dict[str, Any] | None:
        """Return what the first worker recorded about a model, or None before any has run."""

    @abc.abstractmethod
    def pin_provenance(self, model: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Record a model's provenance unless it is recorded; return what stands.

        Of many workers starting at once one wins, and the others see what it wrote.
        """

    @abc.abstractmethod
    def drop_provenance(self, model: str) -> None:
        """Forget a provenance that is damaged.

        The next worker whose model is the one in the blocks' certificates records it again.
        """

    def is_filled(self, model: str, block: int) -> bool:
        """Whether every committed row of the block is filled; a damaged record says no."""
        start, stop = self.block_bounds(block)
        try:
            return self.filled_of_block(model, block) == stop - start
        except DamageError:
            return False

    @abc.abstractmethod
    def filled_of_block(self, model: str, block: int) -> int:
        """Filled rows of one block, its first ones.

        Raises
        ------
        DamageError
            If the record of it is damaged.
        """

    @abc.abstractmethod
    def rows_filled(self, model: str) -> NDArray[np.int64]:
        """Filled rows of every block, shape (n_blocks,)."""

    def open_blocks(self, model: str) -> NDArray[np.int64]:
        """Blocks with unfilled rows, ascending."""
        return np.flatnonzero(self.rows_filled(model) < rows_wanted(self.schema))

    @abc.abstractmethod
    def certify(self, model: str) -> Certification:
        """Check that every filled block still stands as it was certified."""

    @abc.abstractmethod
    def certificate(self, model: str, block: int) -> Certificate | None:
        """Return the certificate of a block, or None.

        Raises
        ------
        DamageError
            If it is damaged.
        """

    @abc.abstractmethod
    def reopen(self, model: str, block: int) -> None:
        """Make a block open again; the caller holds its claim."""

    # -- reading --------------------------------------------------------------------------------

    def read(self, model: str, start: int = 0, stop: int | None = None) -> NDArray[np.float16]:
        """Embeddings of rows ``start .. stop``: float16 (rows, dim), NaN where not certified.

        Raises
        ------
        DamageError
            If a certified block's chunk is missing or damaged.
        """
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        if not 0 <= start <= self.n_rows:
            raise UsageError(f"row {start} of a store with {self.n_rows} rows")
        dim = self.schema.model(model).dim
        out = np.full((max(stop - start, 0), dim), np.nan, dtype=np.float16)
        rows = self.schema.block_rows
        for block in chunks_of(start, stop, rows):
            try:
                filled = self.filled_of_block(model, block)
            except DamageError as error:
                raise DamageError(
                    f"{model} block {block}: filled: {error}; run 'vnp verify'"
                ) from None
            first, last = max(start, block * rows), min(stop, block * rows + filled)
            if first >= last:
                continue
            chunk = self._block_values(model, block)
            out[first - start : last - start] = chunk[first - block * rows : last - block * rows]
        return out

    @abc.abstractmethod
    def _block_values(self, model: str, block: int) -> NDArray[np.float16]:
        """All rows of a filled block, compared with their checksum: float16 (>= filled, dim)."""

    @abc.abstractmethod
    def chunk_file(self, model: str, block: int) -> tuple[Path, int]:
        """File of a block's embeddings and the byte at which its (R, dim) values begin.

        The values are little-endian float16, not compressed, so they can be memory-mapped;
        ``filled`` alone tells which of them count.
        """

    @abc.abstractmethod
    def column(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | Ragged:
        """Values of one of the appender's columns, e.g. ``id``, ``start`` or ``protein``.

        Strings come as `Ragged`, ``sample`` as codes into ``schema.samples``.
        """

    # -- checking -------------------------------------------------------------------------------

    @abc.abstractmethod
    def verify(self) -> Iterator[Finding]:
        """Re-read everything; yield whatever is not as it must be."""

    @abc.abstractmethod
    def verify_block(self, model: str, block: int) -> list[Finding]:
        """Re-read one block; return whatever is not as it must be."""
