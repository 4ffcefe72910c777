"""Appending the rows of a sample: what every backend's transaction is told."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from store.backend import Backend, Transaction
from store.counts import without_settled
from store.digest_index import DigestIndex
from store.duplicates import NO_DUPLICATE, DuplicateSearch
from store.errors import SampleExistsError, UsageError
from store.io.clock import utc_now
from store.io.files import naming
from store.layout import row_columns
from store.rows import RowBatch
from store.schema import Sample, Schema


def batch_columns(schema: Schema) -> list[str]:
    """Columns of a batch that a store keeps."""
    kept = row_columns(schema)
    return [name for name in RowBatch.__dataclass_fields__ if name in kept]


class Append:
    """Takes the rows of one sample; made by ``store.appending()``."""

    def __init__(
        self, backend: Backend, transaction: Transaction, *, index: DigestIndex, tmp_dir: Path
    ) -> None:
        self._backend = backend
        self._index = index
        self._schema = backend.schema
        self._transaction: Transaction | None = transaction
        self._search = DuplicateSearch(tmp_dir, first_row=backend.schema.n_rows)
        self._rows = 0

    def write(self, batch: RowBatch) -> None:
        """Take the next rows; `WriteError` if they cannot be written.

        `UsageError` if they lack the lengths of their contigs and the store keeps these.
        """
        transaction = self._open()
        if self._schema.contig_lengths and batch.contig_length is None:
            raise UsageError(f"{self._backend.path} keeps contig_length, and these rows have none")
        digests = self._search.add(batch.nucleotide, batch.protein)
        code = np.full(len(batch), len(self._schema.samples), dtype=np.int32)
        with naming(self._backend.path):
            for name in batch_columns(self._schema):
                transaction.append(name, getattr(batch, name))
            transaction.append("sample", code)
            transaction.append("digest", digests[:, 0])
            transaction.append("digest_low", digests[:, 1])
        self._rows += len(batch)

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
        ambiguous: int = 0,
        uracils: int = 0,
        allow_same_content: bool = False,
    ) -> Sample:
        """Make the rows visible as sample ``name``; the fields are those of `Sample`.

        ``appended`` is now, unless it is given (for a sample that comes from another store).

        Raises
        ------
        SampleExistsError
            If the name is in the store, or the content under another name, unless that is allowed.
        ClaimLostError
            If this process was stopped for so long that another appender took over.
        WriteError
            If something cannot be written; the store is as it was.
        AfterCommitError
            If something failed after the commit: the rows are in.
        """
        transaction = self._open()
        same = None if allow_same_content else self._schema.sample_with("content", content)
        if same is not None:
            raise SampleExistsError(
                f"{source} holds the same sequences as sample {same.name}, which is in the store "
                f"since {same.appended}; append it all the same with --allow-same-content"
            )
        sample = Sample(
            name=name,
            start=self._schema.n_rows,
            stop=self._schema.n_rows + self._rows,
            contigs=contigs,
            contigs_without_records=contigs_without_records,
            segments=segments,
            bases=bases,
            repeats=0,
            content=content,
            file_sha256=file_sha256,
            source=source,
            appended=appended or utc_now(),
            ambiguous=ambiguous,
            uracils=uracils,
        )
        self._schema.with_sample(sample)  # refuses a name before the duplicates are searched
        duplicates = self._search.duplicates(partial(self._index.digests, self._backend))
        repeats = int(np.count_nonzero(duplicates != NO_DUPLICATE))
        sample = replace(sample, repeats=repeats)
        schema = without_settled(self._backend, self._schema.with_sample(sample))
        with naming(self._backend.path):
            transaction.append("twin", duplicates)
            transaction.commit(schema)
        self._transaction = None
        self._index.extend(schema, self._search.digests[:, 0], duplicates)
        self._search.close()
        return sample

    def abort(self) -> None:
        """Drop the rows, unless they are committed; safe to call again."""
        self._search.close()
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None

    def _open(self) -> Transaction:
        if self._transaction is None:
            raise AssertionError("the append is over")
        return self._transaction
