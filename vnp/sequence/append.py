"""Append a file to a store as a sample: read, cut, translate, write, commit, report."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from store.errors import SampleExistsError, UsageError
from store.io.words import count
from store.schema import Sample, check_sample_name
from store.store import Store
from vnp.embed.progress import Progress
from vnp.sequence.compression import STDIN, file_sha256
from vnp.sequence.contig_ids import Duplicates, UniqueIds
from vnp.sequence.fastx import ContigReader
from vnp.sequence.records import WithoutRecords, record_batches

log = logging.getLogger(__name__)

Existing = Literal["refuse", "skip"]

_LONGEST_NAME = 128
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")
_SUFFIX = re.compile(r"(\.(fa|fas|fna|ffn|fasta|fq|fastq))?(\.(gz|bgz|zst|bz2))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What became of the input: every contig has records in the store or is named in a file."""

    sample: Sample
    skipped: bool  # the sample was in the store already
    without_records: str  # file that names the contigs without a record; empty if all have one
    renamed: int  # contigs whose id was numbered because it was taken

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "sample": asdict(self.sample),
            "skipped": self.skipped,
            "contigs_without_records_file": self.without_records,
            "contigs_renamed": self.renamed,
        }


def append_file(
    store: Store,
    path: str,
    *,
    sample: str | None = None,
    duplicates: Duplicates = Duplicates.REFUSE,
    existing: Existing = "refuse",
    report: Path | None = None,
) -> AppendReport:
    """Append one FASTA or FASTQ file as a sample.

    Parameters
    ----------
    path
        The file, or ``-`` for standard input.
    sample
        Name of the sample; by default made from the file's name.
    duplicates
        What to do with a contig id seen before in this file: ``refuse`` or ``number``.
    existing
        What to do when the store holds this very file already: ``refuse`` it or ``skip`` it.
    report
        Where to name contigs that gave no record; by default in the store's log folder.

    Raises
    ------
    UsageError
        If the sample's name is illegal, or ``report`` exists already.
    SampleExistsError
        If the store holds a sample of this name, or this very file.
    DataError
        If the input is not what it must be; the store is then as it was before.
    """
    name = sample if sample is not None else sample_name_of(path)
    check_sample_name(name)
    sha256 = "" if path == STDIN or not Path(path).is_file() else file_sha256(path)
    known = store.schema.sample(name) or next(
        (held for held in store.schema.samples if sha256 and held.file_sha256 == sha256), None
    )
    if known is not None:
        if not sha256 or known.file_sha256 != sha256:
            raise SampleExistsError(
                f"sample {name} is in the store already, made from another file ({known.source}, "
                f"appended {known.appended}); give this one another name with --sample"
            )
        if existing != "skip":
            raise SampleExistsError(
                f"{path} is in the store already, as sample {known.name} (appended "
                f"{known.appended}); skip it with --existing skip"
            )
        return AppendReport(known, skipped=True, without_records="", renamed=0)
    if report is not None and report.exists():
        raise UsageError(f"{report} exists already; name another file with --report")
    if report is None:
        report = store.sidecar.make().logs / f"append-{name}.no-records.tsv"
    with (
        ContigReader(path) as reader,
        store.appending() as append,
        UniqueIds(duplicates, source=reader.name) as unique,
        _Table(report, committed=lambda: _is_in(store, name, reader)) as table,
        Progress(f"append {name}", total=None, unit="bases") as progress,
    ):
        segments = 0
        batches = record_batches(
            unique.batches(reader),
            segment_length=store.schema.segment_length,
            source=reader.name,
        )
        for batch in batches:
            append.write(batch.rows)
            table.write(batch.without_records)
            segments += batch.segments
            progress.update(reader.bases)
        table.finish()  # before the commit: no contig may be neither in the store nor named
        made = append.commit(
            name,
            contigs=reader.contigs,
            contigs_without_records=table.count,
            segments=segments,
            bases=reader.bases,
            content=reader.content_sha256(),
            source=os.fsencode(Path(path).name).decode(errors="replace"),  # it may not be UTF-8
            file_sha256=sha256,
        )
    if table.count:
        log.info(f"{table.count:,} of {count(made.contigs, 'contig')} gave no record: see {report}")
    if made.start == made.stop:
        log.warning(f"sample {name} has no stop-free reading frame: it adds no row")
    return AppendReport(
        made,
        skipped=False,
        without_records=str(report) if table.count else "",
        renamed=unique.renamed,
    )


def sample_name_of(path: str | Path) -> str:
    """Name of a file less its suffixes, with ``_`` for what is illegal in a sample's name."""
    if str(path) == STDIN:
        raise UsageError("standard input has no name: give the sample one with --sample")
    name = Path(path).name
    # The shortest stem that leaves nothing but suffixes behind it.
    stem = next(name[:at] for at in range(len(name) + 1) if _SUFFIX.fullmatch(name[at:]))
    stem = _ILLEGAL.sub("_", stem).lstrip(".-")[:_LONGEST_NAME]
    if not stem.strip("_"):
        raise UsageError(
            f"no sample name can be made of the file name {name!r}: give one with --sample"
        )
    return stem


def _is_in(store: Store, name: str, reader: ContigReader) -> bool:
    """Whether the sample is committed, even if something failed after the commit."""
    sample = store.snapshot().schema.sample(name)
    return sample is not None and sample.content == reader.content_sha256()


class _Table:
    """The table of contigs without a record; the file exists only if there are any.

    It is called ``....part`` until the commit, and is deleted if the sample is not committed.
    """

    def __init__(self, path: Path, *, committed: Callable[[], bool]) -> None:
        self.count = 0
        self._path = path
        self._committed = committed
        self._part = path.with_name(path.name + ".part")
        self._file: TextIO | None = None

    def __enter__(self) -> _Table:
        return self

    def write(self, contigs: WithoutRecords) -> None:
        if not len(contigs):
            return
        if self._file is None:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("w")
            self._file.write("record\tcontig\tbases\treason\n")
        self._file.write(contigs.tsv())
        self.count += len(contigs)

    def finish(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._file is None:
            return
        self._file.close()
        if error is None or self._committed():
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)
