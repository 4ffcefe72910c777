"""From contigs to batches of records, the rows of a store, in rule order.

Windows are handled in runs of some half a million bases: a run may be part of one chromosome or
thousands of reads. Records are passed on in batches of a useful size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.concurrent import processors
from store.io.ragged import Ragged, concatenate, from_items
from store.io.tables import safe_cell
from store.io.words import count
from store.rows import RowBatch
from store.schema import STANDARD_CODE
from vnp.sequence.compression import InputError
from vnp.sequence.fastx import LONG, ContigBatch
from vnp.sequence.loops import LOOPS
from vnp.sequence.rows import NOTHING, Found, find_records
from vnp.sequence.segments import LONGEST_WHOLE, WHOLE, Windows, cut_windows, slices
from vnp.sequence.strided import items

_RUN_BASES = 5 << 17  # bases handled at a time, a batch of contigs; they stay in the CPU's cache
_RUN_WINDOWS = 8192  # so at most 49,152 records at a time
_BATCH_RECORDS = 1024  # most runs have as many, and nothing is copied to join them
_BATCH_BYTES = 32 << 20
_BATCH_WITHOUT = 65_536
_MOST_THREADS = 4  # that cut: reading keeps no more of them busy

_WINDOW_COLUMNS = [field.name for field in fields(Windows)]


class NoRecord(IntEnum):
    """Why a contig has no record."""

    SHORT = 1  # shorter than a codon
    STOP = 2  # every frame that has a codon has a stop, or only codons that are dropped
    AMBIGUOUS = 3  # no stop either: every codon holds a letter other than ACGT


_REASONS: dict[int, str] = {
    NoRecord.SHORT: "shorter than a codon",
    NoRecord.STOP: "no stop-free reading frame",
    NoRecord.AMBIGUOUS: "only codons with ambiguous letters",
}


@dataclass(frozen=True, slots=True)
class WithoutRecords:
    """Contigs that have no record, in file order; every column has length n."""

    record: NDArray[np.int64]  # 1-based number of the contig in its file
    id: Ragged  # contig id
    bases: NDArray[np.int64]  # its length
    reason: NDArray[np.uint8]  # a `NoRecord`

    def __len__(self) -> int:
        return len(self.record)

    def tsv(self) -> str:
        """Lines of record number, id, bases and reason; ids hold neither tabs nor line ends."""
        columns = self.record.tolist(), self.id.decode(), self.bases.tolist(), self.reason.tolist()
        return "".join(
            [
                f"{record}\t{safe_cell(contig)}\t{bases}\t{_REASONS[reason]}\n"
                for record, contig, bases, reason in zip(*columns, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of some windows, and the contigs without records that ended since the last batch."""

    rows: RowBatch  # in rule order; may be empty at the end of a file
    segments: int  # how many windows
    without_records: WithoutRecords
    ambiguous: int = 0  # letters other than ACGT, each once
    dropped: int = 0  # codons of the windows that hold one and add nothing to a protein
    codons: int = 0  # codons of the windows, all three frames of one strand


def record_batches(
    contigs: Iterable[ContigBatch],
    *,
    segment_length: int,
    genetic_code: int = STANDARD_CODE,
    source: str = "the input",
    batch_records: int = _BATCH_RECORDS,
    batch_bytes: int = _BATCH_BYTES,
) -> Iterator[RecordBatch]:
    """Cut contigs into windows and yield the records of their stop-free frames, in file order.

    The ids must be unique already; ``segment_length`` is in bases, or `segments.WHOLE`;
    ``genetic_code`` is NCBI's number of the translation table. A batch ends before it would exceed
    ``batch_records`` or ``batch_bytes``, and holds at least one run of windows. Raises
    `InputError` if a contig to be taken whole is too long for it, `UsageError` if the code does
    not exist.
    """
    pending: list[RecordBatch] = []
    records = size = without = 0
    for part in _parts(contigs, segment_length, genetic_code, source):
        rows = part.rows
        part_size = sum(
            len(column.data) for column in (rows.id, rows.contig, rows.nucleotide, rows.protein)
        )
        if pending and (
            records + len(rows) > batch_records
            or size + part_size > batch_bytes
            or without + len(part.without_records) > _BATCH_WITHOUT
        ):
            yield _joined(pending)
            pending = []
            records = size = without = 0
        pending.append(part)
        records += len(rows)
        size += part_size
        without += len(part.without_records)
    if pending:
        yield _joined(pending)


def _parts(
    contigs: Iterable[ContigBatch], segment_length: int, genetic_code: int, source: str
) -> Iterator[RecordBatch]:
    """Records run by run: threads cut some ahead, where compiled loops leave Python to others."""
    threads = min(processors(), _MOST_THREADS) if LOOPS.get() is not None else 0
    if threads < 2:
        for batch in contigs:
            yield from (work.part() for work in _runs(batch, segment_length, genetic_code, source))
            del batch  # or a long contig lives on while the next one is read
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="cut")
    ahead: deque[tuple[_Run, Future[Found]]] = deque()

    def next_part() -> RecordBatch:
        work, found = ahead.popleft()
        return work.part(found.result())

    try:
        for batch in contigs:
            long = len(batch.sequence.data) >= LONG
            for work in _runs(batch, segment_length, genetic_code, source):
                ahead.append((work, pool.submit(work.records)))
                if len(ahead) > 2 * threads:
                    yield next_part()
            del batch, work
            while long and ahead:  # or a long contig lives on while the next one is read
                yield next_part()
        while ahead:
            yield next_part()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class _Batch:
    """What is known of the contigs of a batch when some of their windows were looked at."""

    contigs: ContigBatch
    windows: Windows
    has_record: NDArray[np.bool_]
    has_stop: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of windows of a batch."""

    batch: _Batch
    run: slice
    is_last: bool  # of the batch: its part tells which contigs have no record
    genetic_code: int
    counted: int  # where on the batch's sequence the run before it ends

    def records(self) -> Found:
        """Look for records; may be called in any thread."""
        windows, contigs = self._windows(), self.batch.contigs
        if not len(windows):
            return NOTHING
        sequence, code = contigs.sequence, self.genetic_code
        return find_records(
            sequence.data, contigs.id, windows, sequence.offsets, code, self.counted
        )

    def part(self, found: Found | None = None) -> RecordBatch:
        """Make a batch of what was found; the runs of a batch must come in their order."""
        found = found or self.records()
        batch, windows = self.batch, self._windows()
        batch.has_record[windows.contig[found.kept]] = True
        batch.has_stop[windows.contig[found.stopped]] = True
        without = _without_records(batch) if self.is_last else _NONE_WITHOUT
        counts = found.ambiguous, found.dropped, found.codons
        return RecordBatch(found.rows, len(windows), without, *counts)

    def _windows(self) -> Windows:
        return Windows(*(getattr(self.batch.windows, each)[self.run] for each in _WINDOW_COLUMNS))


def _runs(
    contigs: ContigBatch, segment_length: int, genetic_code: int, source: str
) -> Iterator[_Run]:
    if segment_length == WHOLE:
        _check_whole(contigs, source)
    lengths = contigs.sequence.lengths
    windows = cut_windows(lengths, segment_length=segment_length)
    no = np.zeros(len(lengths), bool)
    batch = _Batch(contigs, windows, has_record=no, has_stop=no.copy())
    runs = list(slices(windows, bases=_RUN_BASES, count=_RUN_WINDOWS))
    counted = 0
    for run in runs or [slice(0, 0)]:  # none: reads trimmed to nothing
        yield _Run(batch, run, run.stop == len(windows), genetic_code, counted)
        if len(windows):
            last = run.stop - 1  # no window before it ends after it
            counted = int(contigs.sequence.offsets[windows.contig[last]] + windows.end[last])


def _without_records(batch: _Batch) -> WithoutRecords:
    contigs = batch.contigs
    lengths = contigs.sequence.lengths
    none = np.flatnonzero(~batch.has_record)
    reason = np.where(batch.has_stop, NoRecord.STOP, NoRecord.AMBIGUOUS).astype(np.uint8)
    reason[lengths < 3] = NoRecord.SHORT
    ids = items(contigs.id, none)
    return WithoutRecords(none + contigs.first, ids, lengths[none], reason[none])


def _check_whole(batch: ContigBatch, source: str) -> None:
    """Refuse a contig too long for a read, before anything of its length is made."""
    lengths = batch.sequence.lengths
    too_long = np.flatnonzero(lengths > LONGEST_WHOLE)
    if len(too_long):
        index = int(too_long[0])
        raise InputError(
            source,
            f"{batch.id[index].decode()[:80]} has {count(int(lengths[index]), 'base')}, and a "
            f"contig is taken whole up to {LONGEST_WHOLE:,}: whole contigs are for reads, so use "
            "a store "
            "made with --segment-length 500 (or 300) for this file",
            record=batch.first + index,
        )


def _joined(parts: list[RecordBatch]) -> RecordBatch:
    if len(parts) == 1:
        return parts[0]
    return RecordBatch(
        rows=RowBatch(**_columns([part.rows for part in parts])),
        segments=sum(part.segments for part in parts),
        without_records=WithoutRecords(**_columns([part.without_records for part in parts])),
        ambiguous=sum(part.ambiguous for part in parts),
        dropped=sum(part.dropped for part in parts),
        codons=sum(part.codons for part in parts),
    )


def _columns(batches: Sequence[RowBatch] | Sequence[WithoutRecords]) -> dict[str, Any]:
    """Columns of batches of one kind, end to end."""
    result: dict[str, Any] = {}
    for field in fields(batches[0]):
        columns = [getattr(batch, field.name) for batch in batches]
        is_ragged = isinstance(columns[0], Ragged)
        result[field.name] = concatenate(columns) if is_ragged else np.concatenate(columns)
    return result


_NONE_WITHOUT = WithoutRecords(
    np.empty(0, np.int64), from_items([]), np.empty(0, np.int64), np.empty(0, np.uint8)
)
