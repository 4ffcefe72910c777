"""Reads of BAM and CRAM files, through pysam where it is installed.

As with ``samtools fasta``: secondary and supplementary alignments are left out, reads of the
reverse strand are reverse-complemented back, and mates are told apart by ``/1`` and ``/2``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from store.io.optional import why_not
from store.io.ragged import from_items
from vnp.sequence.compression import InputError
from vnp.sequence.letters import UPPER, illegal_letter, shown, uracils
from vnp.sequence.notes import Contigs, Notes

log = logging.getLogger(__name__)

_STEP = 1024  # reads at a time
_HARD_CLIP = 5  # operation of a CIGAR
_READ_1, _READ_2 = 0x40, 0x80  # flags: first, second of a pair


def alignment_reads(path: str | Path, notes: Notes) -> Iterator[Contigs]:
    """Yield ids and upper-case sequences of the reads, some at a time; a read may be empty.

    `InputError` if pysam is not installed or cannot read the file.
    """
    trouble = why_not("pysam")
    if trouble is not None:
        raise InputError(
            notes.source,
            f"is a BAM or CRAM file, and these need pysam, which {trouble}; or convert it: "
            f"samtools fasta {path} > reads.fa",
        )
    import pysam

    record = 0
    counts = {"left out": 0, "clipped": 0}
    try:
        with pysam.AlignmentFile(str(path), check_sq=False) as file:
            reads = _primary(file, counts)
            while step := list(islice(reads, _STEP)):
                first = record + 1
                record += len(step)
                yield from _checked(first, step, notes)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - pysam raises what it likes of a damaged file
        what = f"pysam cannot read it as BAM or CRAM: {error or type(error).__name__}"
        raise InputError(notes.source, what, record=record + 1) from None

    if counts["left out"]:
        log.info(
            "%s: %d secondary or supplementary alignments are left out, as samtools fasta does",
            notes.source,
            counts["left out"],
        )
    if counts["clipped"]:
        log.warning(
            "%s: %d reads are hard-clipped: the file does not hold their ends",
            notes.source,
            counts["clipped"],
        )


def _primary(file: Any, counts: dict[str, int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and sequence of each primary alignment; count the others, and clipped reads."""
    for read in file.fetch(until_eof=True):
        if read.is_secondary or read.is_supplementary:
            counts["left out"] += 1
            continue
        if any(kind == _HARD_CLIP for kind, _ in read.cigartuples or ()):
            counts["clipped"] += 1
        yield _name(read), (read.get_forward_sequence() or "").encode()


def _name(read: object) -> bytes:
    name, flag = read.query_name, read.flag  # type: ignore[attr-defined]
    mate = {_READ_1: "/1", _READ_2: "/2"}.get(flag & (_READ_1 | _READ_2), "")
    return ((name or "") + mate).encode()


def _checked(first: int, reads: list[tuple[bytes, bytes]], notes: Notes) -> Iterator[Contigs]:
    ids: list[bytes] = []
    sequences: list[bytes] = []
    for record, (name, raw) in enumerate(reads, first):
        upper = raw.translate(UPPER)
        notes.uracils += uracils(raw)
        if 0 in upper:
            _, what = illegal_letter(raw, blanks_allowed=False)
            notes.refuse(name, f"{shown(name)}: {what}", record=record)
            if ids:
                yield Contigs(record - len(ids), from_items(ids), from_items(sequences))
            ids, sequences = [], []
            continue
        ids.append(name)
        sequences.append(upper)
    if ids:
        start = first + len(reads) - len(ids)
        yield Contigs(start, from_items(ids), from_items(sequences))
