"""The port: the interface that a storage backend implements.

A backend moves bytes and decides nothing. What a block's content means, when it counts and who
may change it is written once above it (`store.blocks`, `store.scores`, `store.append`). Workers
write *cells*, a few per block and model, each under its block's claim; everything else changes in
a *transaction*, under the appender's lock.

A backend object is one commit and never changes; `Backend.newest` gives the one of the last
commit. It holds nothing open between calls, so it can be copied and pickled. Nothing here needs a
file system: ``values_file`` may say None, and where temporary data lie is the backend's own affair.

Errors: content that is not what was written is a `DamageError`; what cannot be written is an
``OSError`` or `store.io.files.WriteError`, and the cell then is as it was, or torn.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from store.findings import Finding
from store.io.ragged import Ragged
from store.location import Location
from store.schema import Schema
from store.sidecar import Sidecar

Rows: TypeAlias = NDArray[np.float16]
Values: TypeAlias = NDArray[Any] | Ragged  # of a column


class Part(enum.StrEnum):
    """What a cell keeps."""

    VALUES = "values"  # embeddings of a block, encoded by `Backend.encode`
    CERTIFICATE = "certificate"  # of a block: one JSON object
    FILLED = "filled"  # of a block: one byte a row, 1 where it counts
    PROVENANCE = "provenance"  # of a model: one JSON object


@dataclass(frozen=True, slots=True)
class Cell:
    """Names what is stored for a block of a model, or for the model."""

    part: Part
    model: str
    block: int = 0  # of a provenance without meaning


class Transaction(Protocol):
    """A change of the schema; nobody sees any of it before ``commit``."""

    def append(self, name: str, values: Values) -> None:
        """Add values to the end of a row column; every column must get the same rows."""

    def write_scores(
        self,
        name: str,
        values: NDArray[np.float32],
        ranges: Iterable[tuple[int, int]],
        *,
        kept: int,
    ) -> None:
        """Write scores of some rows, both columns.

        Of the first ``kept`` rows those in no range keep their scores; all others become NaN.
        ``values`` (n, 2) is indexed by row and may be memory-mapped.
        """

    def commit(self, schema: Schema) -> None:
        """Make the change, and arrays for whatever is new in ``schema``, the committed state.

        Durable when it returns. A reader sees the old schema with its data, or the new one. An
        error leaves the old state, unless the commit was already made when it occurred. Scores
        that another classifier replaces may be gone while the commit is made.

        Raises
        ------
        ClaimLostError
            If the appender's lock is lost; nothing of another appender's is touched then.
        UsageError
            If this backend cannot keep such a schema.
        """

    def abort(self) -> None:
        """Leave the store as it was, unless it is committed; safe to call again."""


class Backend(Protocol):
    """One commit of a store.

    Attributes
    ----------
    path : Location
        Where the store is.
    sidecar : Sidecar
        Claims and heartbeats beside it, and where temporary files go.
    schema : Schema
        The committed schema.
    trouble : str
        What another program did to the store, as far as opening it shows; empty if nothing.
    checks_itself : bool
        Whether values carry their checksum: `checksum` then costs nothing, and `read_values`
        finds damage alone. Otherwise only the certificate can tell.
    """

    schema: Schema

    @property
    def path(self) -> Location: ...  # noqa: D102
    @property
    def sidecar(self) -> Sidecar: ...  # noqa: D102
    @property
    def trouble(self) -> str: ...  # noqa: D102
    @property
    def checks_itself(self) -> bool: ...  # noqa: D102

    # -- commits ------------------------------------------------------------------------------

    def newest(self, *, locked: bool = False) -> Self:
        """Return the last commit, this object if it still is the last one.

        With ``locked`` the caller holds the appender's lock: what a killed appender left half done
        is then finished or dropped.
        """

    def begin(self, guard: Callable[[], None]) -> Transaction:
        """Begin a change on this commit; ``guard`` raises if the appender's lock is lost."""

    def repair(self, finding: Finding) -> None:
        """Carry out the remedy of a finding of `verify`, REWRITE or REMOVE; under the lock.

        Raises
        ------
        DamageError
            If that is impossible.
        """

    # -- rows, read ---------------------------------------------------------------------------

    def column_rows(self, name: str) -> int:
        """Rows of a chunk of a row column."""

    def read_column(self, name: str, chunk: int, rows: int) -> Values:
        """Values of a chunk of a row column, at least its first ``rows``, checked."""

    def read_scores(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Scores of rows that the schema lists: float32 (stop - start, 2), NaN for none."""

    # -- cells --------------------------------------------------------------------------------

    def encode(self, model: str, values: Rows) -> tuple[bytes, str]:
        """Embeddings of a block as a values cell keeps them, and the checksum to certify."""

    def create(self, cell: Cell, content: bytes) -> bool:
        """Write a cell unless a whole one is there; False if there is.

        Atomic and durable when it returns, also when another writer won. A backend that cannot
        tell a whole cell of a block from a torn one always writes, durably, and returns True.
        Provenances are always atomic: of many writers one wins.
        """

    def replace(self, cell: Cell, content: bytes) -> None:
        """Write a cell, whether or not there is one; durable when it returns."""

    def remove(self, cell: Cell) -> None:
        """Empty a cell for good; fine if it is empty."""

    def read(self, cell: Cell) -> bytes | None:
        """Content of a cell other than values, checked as far as it can be; None if empty."""

    def read_values(self, cell: Cell, rows: int) -> tuple[Rows, str] | None:
        """Read the first rows of a values cell, and the checksum of the bytes read.

        Parameters
        ----------
        rows
            Certified rows. If values check themselves it is the whole chunk that is read and
            checked, and rows that were not published are NaN.
        """

    def read_rows(self, cell: Cell, rows: int, first: int, out: Rows) -> str | None:
        """Read rows of a values cell, from ``first`` on, into ``out`` (n, dim): no copy is made.

        Returns what `read_values` would, the checksum of the first ``rows``. None if they are not
        as they should be, or cannot be read so: `read_values` reads them, or says what is wrong.
        ``out`` then holds anything.
        """

    def checksum(self, cell: Cell, rows: int) -> str | None:
        """Checksum of a values cell; of its first ``rows``, where it does not carry one."""

    def flagged(self, model: str) -> NDArray[np.int64]:
        """Blocks that have a filled row, in no order: one listing, or one byte a block."""

    # -- for people and for memory mapping ----------------------------------------------------

    def name(self, cell: Cell) -> str:
        """Path of a cell inside the store."""

    def values_file(self, cell: Cell) -> tuple[Path, int] | None:
        """File of a block's values and the byte at which its (R, dim) float16 begin, if any."""

    def verify(self) -> Iterator[Finding]:
        """Re-read everything but cells; yield what is not as it must be."""
