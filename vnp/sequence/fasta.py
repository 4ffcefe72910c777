r"""Parse FASTA block by block, with memory bounded by the longest contig.

No library is used because dnaio's FASTA reader keeps one string per line until a contig ends: for
one contig of 250 Mb wrapped at 70 columns it peaks at 722 MiB before anything is done with the
sequence, and with two such contigs in a row, each turned into bytes, at 1,199 MiB (dnaio 1.2.4,
Python 3.11). The parser below holds a contig once: 280 MiB.

How a block is cut: ``tail`` is what the block before left over, either the newline that a header
may follow or a header whose line is not complete yet::

    tail + block    \n | >c1 text \n ACGT \n ACG \n | >c2 \n AC \n | >c3 te
    pieces                c1 text \n ACGT \n ACG        c2 \n AC      `- tail of the next block
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np

from vnp.sequence.compression import InputError
from vnp.sequence.letters import BLANKS, UPPER, illegal_letter, shown, uracils
from vnp.sequence.notes import Contigs, Notes

_BLOCK = 1 << 18  # bytes of text parsed at a time
_SEPARATOR = re.compile(rb"\n--(?=\r?(\n|\Z))")
_SEPARATOR_FIRST = re.compile(rb"--(?=\r?(\n|\Z))")
_LONGEST_HEADER = 1 << 20  # a longer header means that the file has no lines


def fasta_contigs(text: io.BufferedIOBase, notes: Notes, *, lines: int) -> Iterator[Contigs]:
    """Yield ids and upper-case sequences of the contigs that end in each block.

    A contig that began in an earlier block comes alone. ``text`` begins at the first ``>``, after
    ``lines`` lines of the input. A contig with a letter that is not a nucleotide code goes to
    `Notes.refuse`, as does one with a line ``--``. Raises `InputError` at a header without end.
    """
    record = 0  # 1-based number of the contig at the end of what was read
    contig_id = b""
    open_id, open_sequence, open_usable = b"", bytearray(), False  # of that contig, so far
    tail = b"\n"
    at_end = False
    while not at_end:
        block = text.read(_BLOCK)
        at_end = not block
        complete, tail = _hold_back(tail + block, at_end=at_end)
        if len(tail) > _LONGEST_HEADER:
            what = f"a header of more than {_LONGEST_HEADER:,} bytes: has the file no lines?"
            raise InputError(notes.source, what, record=record + 1 + complete.count(b"\n>"))
        pieces = complete.split(b"\n>") if b">" in complete else [complete]
        ids: list[bytes] = []
        sequences: list[bytes | bytearray] = []
        for number, piece in enumerate(pieces):
            rest = piece
            if number:
                header, _, rest = piece.partition(b"\n")
                record += 1
                contig_id = header.partition(b" ")[0].partition(b"\t")[0].rstrip(b"\r")
            part = rest.translate(UPPER, BLANKS)
            notes.uracils += uracils(rest)
            fault = _fault(rest, part, line_begins=number > 0)
            usable = fault is None
            if fault is not None and (number or open_usable):
                at, what = fault
                line = lines + sum(earlier.count(b"\n") for earlier in pieces[:number])
                line += number + (number > 0)  # the cuts, and this header's own line
                line += rest.count(b"\n", 0, at)
                notes.refuse(contig_id, f"{shown(contig_id)}: {what}", record=record, line=line)
            if not number:
                open_usable &= usable
                if open_usable:
                    open_sequence += part
                if len(pieces) > 1 and open_usable:
                    yield Contigs(record, [open_id], [open_sequence])
            elif number == len(pieces) - 1:
                open_id, open_sequence, open_usable = contig_id, bytearray(part), usable
            elif usable:
                ids.append(contig_id)
                sequences.append(part)
            elif ids:
                yield Contigs(record - len(ids), ids, sequences)
                ids, sequences = [], []
        if ids:
            yield Contigs(record - len(ids), ids, sequences)
        lines += int(np.count_nonzero(np.frombuffer(complete, np.uint8) == ord("\n")))
    if open_usable:
        yield Contigs(record, [open_id], [open_sequence])


def _fault(text: bytes, letters: bytes, *, line_begins: bool) -> tuple[int, str] | None:
    """Position and kind of the first fault of a stretch of sequence lines, if it has one."""
    if b"-" in text:  # a search for one letter is several times faster than for two
        found = _SEPARATOR.search(text)
        if found is None and line_begins:
            found = _SEPARATOR_FIRST.match(text)
        if found is not None:
            return found.end() - 1, (
                "a line '--', as grep -A writes between matches, is not sequence: take these "
                "lines out (grep --no-group-separator, or grep -v '^--$')"
            )
    return illegal_letter(text, blanks_allowed=True) if 0 in letters else None


def _hold_back(text: bytes, *, at_end: bool) -> tuple[bytes, bytes]:
    """Split ``text`` into what can be cut now and what must wait for the next block."""
    if at_end:
        return text, b""
    header = text.rfind(b"\n>")
    if header >= 0 and text.find(b"\n", header + 1) < 0:
        return text[:header], text[header:]
    for end in (b"\n", b"\n-", b"\n--", b"\n--\r"):  # perhaps the beginning of a line "--"
        if text.endswith(end):
            return text[: -len(end)], end
    return text, b""
