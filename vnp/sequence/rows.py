"""Rows of a run of windows: the records of their stop-free frames, by NumPy or compiled loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged, from_items, offsets_of
from store.rows import RowBatch
from vnp.sequence.frames import (
    COMPLEMENTS,
    FRAMES,
    ambiguous_letters,
    nucleotides,
    proteins,
    scan,
)
from vnp.sequence.genetic_codes import CodonTable, codon_table
from vnp.sequence.loops import LOOPS, OUTPUTS
from vnp.sequence.segments import Windows
from vnp.sequence.strided import Bytes, Ints, by_length, items, put_rows, take_rows

_LONGEST_SUFFIX = len("_chunk_2147483647F1")
_CHUNK = np.frombuffer(b"_chunk_", np.uint8)
_FRAME_NAMES = np.frombuffer("".join(FRAMES).encode(), np.uint8).reshape(6, 2)


@dataclass(frozen=True, slots=True)
class Found:
    """What a run of windows gives."""

    rows: RowBatch
    kept: NDArray[np.bool_]  # for each window, whether it has a record
    stopped: NDArray[np.bool_]  # whether a frame of it has a stop
    ambiguous: int  # letters other than ACGT that no earlier run counted
    dropped: int  # codons that hold one
    codons: int  # all codons of one strand


def find_records(
    sequence: Bytes,
    ids: Ragged,
    windows: Windows,
    contigs: Ints,
    genetic_code: int,
    counted: int = 0,
) -> Found:
    """Records of a run of windows.

    ``contigs`` (contigs + 1,) is where on ``sequence`` each begins, and where the last one ends;
    an earlier run counted the letters before ``counted``.
    """
    shift = contigs[windows.contig]
    lengths = contigs[windows.contig + 1] - shift
    begin, stop = windows.start + shift, windows.end + shift
    low, high = int(begin.min()), int(stop.max())
    again = ambiguous_letters(sequence[low:counted])
    sequence = sequence[low:high]
    begin -= low
    stop -= low
    loops = LOOPS.get()
    if loops is not None and len(sequence) >= 2:
        table = codon_table(genetic_code)
        return _by_loops(loops, sequence, ids, windows, lengths, begin, stop, table, again)
    found = scan(sequence, begin, stop, genetic_code=genetic_code)
    window, frame = np.nonzero(found.kept)
    start, end = begin[window], stop[window]
    protein = proteins(found, start, end, frame)
    nucleotide = nucleotides(sequence, start, end, frame, protein.lengths)
    contig = items(ids, windows.contig[window])
    number = windows.number[window]
    record_id = record_ids(contig, number, frame)
    rows = _rows(windows, lengths, window, frame, record_id, contig, nucleotide, protein)
    has_record: NDArray[np.bool_] = np.logical_or.reduce(found.kept, axis=1)
    counts = found.ambiguous - again, found.dropped, len(found.codon)
    return Found(rows, has_record, found.stopped, *counts)


def _rows(
    windows: Windows, lengths: Ints, window: Ints, frame: Ints | NDArray[np.int8],
    record_id: Ragged, contig: Ragged, nucleotide: Ragged, protein: Ragged,
) -> RowBatch:  # fmt: skip
    return RowBatch(
        id=record_id,
        contig=contig,
        segment=windows.number[window],
        start=windows.start[window],
        end=windows.end[window],
        strand=np.where(frame < 3, 1, -1).astype(np.int8),
        frame=(frame % 3 + 1).astype(np.int8),
        nucleotide=nucleotide,
        protein=protein,
        contig_length=lengths[window],
    )


def _by_loops(
    loops: Any, sequence: Bytes, ids: Ragged, windows: Windows, contig_lengths: Ints,
    begin: Ints, stop: Ints, table: CodonTable, again: int,
) -> Found:  # fmt: skip
    """Find the records by compiled code, `begin` to `stop` on ``sequence``."""
    n = len(windows)
    codon = np.empty(len(sequence), np.uint8)
    kept, stopped = np.empty((n, 6), np.bool_), np.empty(n, np.bool_)
    lengths, totals = np.empty((n, 6), np.int32), np.empty(OUTPUTS, np.int64)
    flags, forward, reverse = (
        np.frombuffer(each, np.uint8) for each in (table.flags, table.forward, table.reverse)
    )
    loops.scan(
        sequence, len(sequence), flags, begin, stop, n, codon, kept, stopped, lengths,
        totals,
    )  # fmt: skip
    records, bases, amino_acids, ambiguous, dropped = totals.tolist()
    window, frame = np.empty(records, np.int64), np.empty(records, np.int8)
    nucleotide = Ragged(np.empty(bases, np.uint8), np.empty(records + 1, np.int64))
    # A byte more: where the last codon is dropped it is written before it is known to be.
    protein = Ragged(np.empty(amino_acids + 1, np.uint8), np.empty(records + 1, np.int64))
    loops.emit(
        sequence, codon, begin, stop, n, kept, lengths, COMPLEMENTS, forward, reverse, window,
        frame, nucleotide.data, nucleotide.offsets, protein.data, protein.offsets,
    )  # fmt: skip
    contig_of = windows.contig[window]
    size = int((ids.offsets[contig_of + 1] - ids.offsets[contig_of]).sum())
    contig = Ragged(np.empty(size, np.uint8), np.empty(records + 1, np.int64))
    record_id = np.empty(size + records * _LONGEST_SUFFIX, np.uint8)
    offsets = np.empty(records + 1, np.int64)
    loops.names(
        ids.data, ids.offsets, windows.contig, windows.number, _CHUNK, len(_CHUNK), window, frame,
        records, record_id, offsets, contig.data, contig.offsets,
    )  # fmt: skip
    return Found(
        rows=_rows(
            windows, contig_lengths, window, frame, Ragged(record_id[: offsets[-1]], offsets),
            contig, nucleotide, Ragged(protein.data[:amino_acids], protein.offsets),
        ),
        kept=np.logical_or.reduce(kept, axis=1),
        stopped=stopped,
        ambiguous=ambiguous - again,
        dropped=dropped,
        codons=len(sequence) - 2,
    )  # fmt: skip


def record_ids(contig: Ragged, number: NDArray[np.int32], frame: Ints) -> Ragged:
    """Ids ``<contig>_chunk_<number><frame>``, number from 1 and frame from 0 (F1) to 5 (R3)."""
    digits = np.ones(len(number), np.int64)
    power = 10
    while (longer := number >= power).any():
        digits += longer
        power *= 10
    names = contig.lengths
    offsets = offsets_of(names + len(_CHUNK) + digits + 2)
    data = np.empty(int(offsets[-1]), np.uint8)
    at = offsets[:-1]
    for length, group in by_length(names):
        put_rows(data, at[group], take_rows(contig.data, contig.offsets[:-1][group], length))
    at = at + names
    put_rows(data, at, np.broadcast_to(_CHUNK, (len(number), len(_CHUNK))))
    at += len(_CHUNK)
    for length, group in by_length(digits):
        powers = 10 ** np.arange(length - 1, -1, -1)
        put_rows(data, at[group], (number[group, None] // powers % 10 + ord("0")).astype(np.uint8))
    put_rows(data, at + digits, _FRAME_NAMES[frame])
    return Ragged(data, offsets)


def _no_rows() -> RowBatch:
    text, number = from_items([]), np.empty(0, np.int64)
    return RowBatch(
        id=text,
        contig=text,
        segment=number.astype(np.int32),
        start=number,
        end=number,
        strand=number.astype(np.int8),
        frame=number.astype(np.int8),
        nucleotide=text,
        protein=text,
        contig_length=number,
    )


_NO = np.zeros(0, np.bool_)
NOTHING = Found(_no_rows(), _NO, _NO, ambiguous=0, dropped=0, codons=0)
