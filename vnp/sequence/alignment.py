"""Reads of BAM and CRAM files, through pysam where it is installed.

As with ``samtools fasta``: secondary and supplementary alignments are left out, reads of the
reverse strand are turned back, and mates are told apart by ``/1`` and ``/2``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vnp.sequence.compression import InputError
from vnp.sequence.letters import UPPER, illegal_letter, shown, uracils
from vnp.sequence.notes import Contigs, Notes

_STEP = 1024  # reads at a time
_READ_1, _READ_2 = 0x40, 0x80  # flags: first, second of a pair


def alignment_reads(path: str | Path, notes: Notes) -> Iterator[Contigs]:
    """Yield ids and upper-case sequences of the reads, some at a time; a read may be empty.

    `InputError` if pysam is not installed or cannot read the file.
    """
    try:
        import pysam
    except ImportError:
        raise InputError(
            notes.source,
            "is a BAM or CRAM file, and these need pysam: pip install 'vnp[bam]'; or convert it: "
            f"samtools fasta {path} > reads.fa",
        ) from None
    record = 0
    try:
        with pysam.AlignmentFile(str(path), check_sq=False) as file:
            reads = (
                (_name(read), (read.get_forward_sequence() or "").encode())
                for read in file.fetch(until_eof=True)
                if not (read.is_secondary or read.is_supplementary)
            )
            while step := list(islice(reads, _STEP)):
                first = record + 1
                record += len(step)
                yield from _checked(first, step, notes)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - pysam raises what it likes of a damaged file
        what = f"pysam cannot read it as BAM or CRAM: {error or type(error).__name__}"
        raise InputError(notes.source, what, record=record + 1) from None


def _name(read: object) -> bytes:
    name, flag = read.query_name, read.flag  # type: ignore[attr-defined]
    mate = {_READ_1: "/1", _READ_2: "/2"}.get(flag & (_READ_1 | _READ_2), "")
    return ((name or "") + mate).encode()


def _checked(first: int, reads: list[tuple[bytes, bytes]], notes: Notes) -> Iterator[Contigs]:
    ids: list[bytes] = []
    sequences: list[bytes | bytearray] = []
    for record, (name, raw) in enumerate(reads, first):
        upper = raw.translate(UPPER)
        notes.uracils += uracils(raw)
        if 0 in upper:
            _, what = illegal_letter(raw, blanks_allowed=False)
            notes.refuse(name, f"{shown(name)}: {what}", record=record)
            if ids:
                yield Contigs(record - len(ids), ids, sequences)
            ids, sequences = [], []
            continue
        ids.append(name)
        sequences.append(upper)
    if ids:
        yield Contigs(first + len(reads) - len(ids), ids, sequences)
