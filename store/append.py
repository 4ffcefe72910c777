"""An append under way: rows first, then one commit, all under the appender's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from store.claims.claims import Claim
from store.errors import SampleExistsError
from store.io.clock import utc_now
from store.rows import RowBatch
from store.schema import Sample, Schema


class Writer(Protocol):
    """Takes the rows of one sample for a backend; nothing is visible until it commits."""

    rows: int  # taken so far

    def write(self, batch: RowBatch) -> None:
        """Take the next rows."""
        ...

    def commit(self, sample: Sample, *, still_mine: Callable[[], None]) -> Schema:
        """Make the rows visible as ``sample`` and return the new schema.

        Parameters
        ----------
        sample
            The sample; its ``start`` and ``stop`` must fit the rows written, its ``repeats``
            are counted here.
        still_mine
            Called right before the commit; raises if the appender's lock was lost.
        """
        ...

    def abort(self) -> None:
        """Drop the rows and leave the store as it was."""
        ...


class Append:
    """Takes the rows of one sample; made by ``store.appending()``."""

    def __init__(self, writer: Writer, *, schema: Schema, lock: Claim) -> None:
        self._writer: Writer | None = writer
        self._schema = schema
        self._lock = lock

    def write(self, batch: RowBatch) -> None:
        """Take the next rows."""
        self._open_writer().write(batch)

    def commit(
        self,
        name: str,
        *,
        contigs: int,
        contigs_without_records: int,
        segments: int,
        bases: int,
        content: str,
        source: str,
        file_sha256: str = "",
        appended: str = "",
    ) -> Sample:
        """Make the rows visible as sample ``name``; the fields are those of `Sample`.

        ``appended`` is now, unless it is given (for a sample that comes from another store).

        Raises
        ------
        SampleExistsError
            If the name, or the content under another name, is in the store.
        ClaimLostError
            If this process stood still for so long that another appender took over.
        """
        writer = self._open_writer()
        same = next((known for known in self._schema.samples if known.content == content), None)
        if same is not None:
            raise SampleExistsError(
                f"{source} holds the same sequences as sample {same.name}, which is in the store "
                f"since {same.appended}"
            )
        sample = Sample(
            name=name,
            start=self._schema.n_rows,
            stop=self._schema.n_rows + writer.rows,
            contigs=contigs,
            contigs_without_records=contigs_without_records,
            segments=segments,
            bases=bases,
            repeats=0,  # the writer counts them
            content=content,
            file_sha256=file_sha256,
            source=source,
            appended=appended or utc_now(),
        )
        schema = writer.commit(sample, still_mine=self._lock.require)
        self._writer = None
        return schema.samples[-1]

    def abort(self) -> None:
        """Drop the rows, unless they are committed; safe to call again."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise AssertionError("the append is over")
        return self._writer
