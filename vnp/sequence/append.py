"""Append a file to a store as a sample: read, cut, translate, write, commit, report."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal, TextIO

from store.errors import AfterCommitError, SampleExistsError, UsageError
from store.io.files import WriteError, fsync_dir, make_dir, naming, rename_over
from store.io.replace import refuse_shared, refuse_store, write_whole
from store.io.tables import safe_cell
from store.io.words import count
from store.schema import Sample, check_sample_name
from store.store import Store
from vnp.embed.progress import Progress
from vnp.sequence import compression
from vnp.sequence.compression import STDIN
from vnp.sequence.contig_ids import Duplicates, UniqueIds
from vnp.sequence.fastx import SampleReader
from vnp.sequence.genetic_codes import codon_table
from vnp.sequence.records import WithoutRecords, record_batches
from vnp.sequence.samples import sample_name_of

log = logging.getLogger(__name__)

Existing = Literal["refuse", "skip"]
Invalid = Literal["refuse", "skip"]

_MUCH = 0.05  # share of ambiguous letters or dropped codons that is warned of


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What became of the input: every contig has records in the store or is named in a file."""

    sample: Sample
    skipped: bool  # the sample was in the store already
    without_records: str = ""  # file that names the contigs without a record; empty if all have one
    renamed: int = 0  # contigs whose id was numbered because it was taken
    unusable: int = 0  # records of the file that cannot be used and were skipped
    unusable_file: str = ""  # table that names them; empty if there are none
    ambiguous_share: float = 0.0  # of the letters, those other than ACGT
    dropped_share: float = 0.0  # of the codons, those dropped because they hold one

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "sample": asdict(self.sample),
            "skipped": self.skipped,
            "contigs_without_records_file": self.without_records,
            "contigs_renamed": self.renamed,
            "unusable_records": self.unusable,
            "unusable_records_file": self.unusable_file,
            "ambiguous_share": self.ambiguous_share,
            "dropped_codons_share": self.dropped_share,
        }


def append_file(
    store: Store,
    path: str,
    *,
    mates: str | None = None,
    sample: str | None = None,
    duplicates: Duplicates = Duplicates.REFUSE,
    existing: Existing = "refuse",
    invalid: Invalid = "refuse",
    allow_same_content: bool = False,
    report: Path | None = None,
) -> AppendReport:
    """Append one FASTA, FASTQ, BAM or CRAM file as a sample.

    Parameters
    ----------
    path
        The file, or ``-`` for standard input.
    mates
        File of the second reads of pairs; ids then end in ``/1`` and ``/2``.
    sample
        Name of the sample; by default made from the file's name.
    duplicates
        What to do with a contig id seen before in this file: ``refuse`` or ``number``.
    existing
        What to do when the store holds this very file, or its content, already: ``refuse`` it or
        ``skip`` it. The content of a pipe is known only when it has been read.
    invalid
        What to do with a record that cannot be used: ``refuse`` the file, or ``skip`` the record
        and name it in a table.
    allow_same_content
        Whether the store may hold the same content as another sample.
    report
        Where to name contigs that gave no record; by default in the store's log folder.

    Raises
    ------
    UsageError
        If the sample's name is illegal, ``report`` exists already, or this vnp does not know the
        store's genetic code.
    SampleExistsError
        If the store holds a sample of this name, or this very file.
    DataError
        If the input is not what it must be; the store is then as it was before.
    """
    codon_table(store.schema.genetic_code)  # before anything is read
    files = [path] if mates is None else [path, mates]
    name = sample if sample is not None else sample_name_of(path)
    check_sample_name(name)
    sha256 = files_sha256(files) if store.schema.samples else ""  # it may be in the store
    known = store.schema.sample(name)
    if known is None and sha256 and not allow_same_content:
        known = store.schema.sample_with("file_sha256", sha256)
    if known is not None and sha256 and known.file_sha256 == sha256:
        if existing != "skip":
            raise SampleExistsError(
                f"{path} is in the store already, as sample {known.name} (appended "
                f"{known.appended}); skip it with --existing skip"
                + ("" if known.name == name else ", or append it again with --allow-same-content")
            )
        return AppendReport(known, skipped=True)
    if known is not None and (existing != "skip" or sha256):
        raise SampleExistsError(
            f"sample {name} is in the store already, made from another file ({known.source}, "
            f"appended {known.appended}); give this one another name with --sample"
        )
    if report is not None:
        refuse_store(report)
        refuse_shared([report], map(Path, files))
    if report is not None and report.exists():
        raise UsageError(f"{report} exists already; name another file with --report")
    logs = store.sidecar.make().logs
    if report is None:
        report = logs / f"append-{name}.no-records.tsv"
    with (
        _hashing(files, known=sha256) as file_sha256,
        SampleReader(files, skip=invalid == "skip") as reader,
        store.appending() as append,
        UniqueIds(duplicates, source=reader.name) as unique,
        _Table(report, committed=lambda: _is_in(store, name, reader)) as table,
        Progress(f"append {name}", total=None, unit="bases") as progress,
    ):
        segments = ambiguous = dropped = codons = 0
        batches = record_batches(
            unique.batches(reader),
            segment_length=store.schema.segment_length,
            genetic_code=store.schema.genetic_code,
            source=reader.name,
        )
        for batch in batches:
            append.write(batch.rows)
            table.write(batch.without_records)
            segments += batch.segments
            ambiguous, dropped = ambiguous + batch.ambiguous, dropped + batch.dropped
            codons += batch.codons
            progress.update(reader.bases)
        content = reader.content_sha256()
        held = known or store.schema.sample_with("content", content)
        if existing == "skip" and held is not None:
            if held.content != content:
                raise SampleExistsError(
                    f"sample {name} is in the store already, with another content; give this one "
                    "another name with --sample"
                )
            return AppendReport(held, skipped=True)
        unusable_file = _write_unusable(logs / f"append-{name}.unusable.tsv", reader)
        table.finish()  # before the commit: no contig may be neither in the store nor named
        made = append.commit(
            name,
            contigs=reader.contigs,
            contigs_without_records=table.count,
            segments=segments,
            bases=reader.bases,
            content=content,
            source=" ".join(_shown_name(file) for file in files),
            file_sha256=file_sha256(),
            ambiguous=ambiguous,
            uracils=reader.uracils,
            allow_same_content=allow_same_content,
        )
    result = AppendReport(
        made,
        skipped=False,
        without_records=str(report) if table.count else "",
        renamed=unique.renamed,
        unusable=sum(each.notes.count for each in reader.readers),
        unusable_file=unusable_file,
        ambiguous_share=ambiguous / max(made.bases, 1),
        dropped_share=dropped / max(codons, 1),
    )
    _tell(result)
    return result


def _tell(report: AppendReport) -> None:
    """Log what a user should know about an input that was taken."""
    made = report.sample
    if report.without_records:
        without = made.contigs_without_records
        log.info(
            f"{without:,} of {count(made.contigs, 'contig')} gave no record: see "
            f"{report.without_records}"
        )
    if report.unusable:
        log.warning(
            f"{count(report.unusable, 'record')} cannot be used and "
            f"{'was' if report.unusable == 1 else 'were'} skipped: see {report.unusable_file}"
        )
    if made.uracils:
        log.warning(f"sample {made.name} is RNA: {count(made.uracils, 'letter')} U read as T")
    shares = (
        f"sample {made.name}: {report.ambiguous_share:.2%} of the letters are ambiguous, "
        f"{report.dropped_share:.2%} of the codons are dropped for it"
    )
    much = max(report.ambiguous_share, report.dropped_share) > _MUCH
    if report.ambiguous_share:
        log.log(logging.WARNING if much else logging.INFO, shares)
    if made.start == made.stop:
        log.warning(f"sample {made.name} has no stop-free reading frame: it adds no row")


@contextmanager
def _hashing(files: Sequence[str], *, known: str) -> Iterator[Callable[[], str]]:
    """Have the files hashed while they are read, unless the hash is known; what tells it."""
    if known:
        yield lambda: known
        return
    stop = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as pool:
        try:
            yield pool.submit(files_sha256, files, stop=stop).result
        finally:
            stop.set()


def files_sha256(files: Sequence[str], *, stop: Event | None = None) -> str:
    """Hash of a regular file's bytes, or of the hashes of two; empty if one is a pipe.

    Once ``stop`` is set it is something else.
    """
    if any(file == STDIN or not Path(file).is_file() for file in files):
        return ""
    hashes = [compression.file_sha256(file, stop=stop) for file in files]
    return hashes[0] if len(files) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _shown_name(file: str) -> str:
    if file != STDIN and not Path(file).is_file():
        return "a pipe"
    return os.fsencode(Path(file).name).decode(errors="replace")  # it may not be UTF-8


def _write_unusable(path: Path, reader: SampleReader) -> str:
    """Name the records that were skipped in a table; its path, or nothing if there are none."""
    lines = [
        f"{safe_cell(each.name)}\t{unusable.tsv()}"
        for each in reader.readers
        for unusable in each.notes.unusable
    ]
    if not lines:
        return ""
    make_dir(path.parent)
    write_whole(path, ("file\trecord\tline\tid\treason\n" + "".join(lines)).encode())
    return str(path)


def _is_in(store: Store, name: str, reader: SampleReader) -> bool:
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
        with naming(self._part):
            if self._file is None:
                self._part.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._part.open("w")
                self._file.write("record\tcontig\tbases\treason\n")
            self._file.write(contigs.tsv())
        self.count += len(contigs)

    def finish(self) -> None:
        if self._file is not None:
            with naming(self._part):
                self._file.flush()
                os.fsync(self._file.fileno())

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # what counts was flushed before the commit
            self._file.close()
        if error is None or self._committed():
            try:
                rename_over(self._part, self._path)
                fsync_dir(self._path.parent)
            except WriteError as failed:
                raise AfterCommitError("the sample", failed) from failed
        else:
            self._part.unlink(missing_ok=True)
