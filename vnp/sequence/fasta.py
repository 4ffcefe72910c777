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
from collections.abc import Iterator, Sequence

import numpy as np

from vnp.sequence.compression import InputError
from vnp.sequence.letters import BLANKS, UPPER, illegal_letter, shown

_BLOCK = 1 << 18  # bytes of text parsed at a time
_LONGEST_HEADER = 1 << 20  # a longer header means that the file has no lines


def fasta_contigs(
    text: io.BufferedIOBase, *, source: str, lines: int
) -> Iterator[tuple[list[bytes], Sequence[bytes | bytearray]]]:
    """Yield ids and upper-case sequences of the contigs that end in each block.

    A contig that began in an earlier block comes alone. ``text`` begins at the first ``>``, after
    ``lines`` lines of the input; ``source`` is the input as messages show it. Raises `InputError`
    at a letter that is not a nucleotide code, or a header without end.
    """
    record = 0  # 1-based number of the contig at the end of what was read
    contig_id = open_id = b""
    open_sequence = bytearray()  # of that contig, so far
    tail = b"\n"
    at_end = False
    while not at_end:
        block = text.read(_BLOCK)
        at_end = not block
        complete, tail = _hold_back(tail + block, at_end=at_end)
        if len(tail) > _LONGEST_HEADER:
            what = f"a header of more than {_LONGEST_HEADER:,} bytes: has the file no lines?"
            raise InputError(source, what, record=record + 1 + complete.count(b"\n>"))
        pieces = complete.split(b"\n>") if b">" in complete else [complete]
        ids: list[bytes] = []
        sequences: list[bytes | bytearray] = []
        for number, piece in enumerate(pieces):
            rest = piece
            if number:
                header, _, rest = piece.partition(b"\n")
                record += 1
                contig_id = header.partition(b" ")[0].partition(b"\t")[0].rstrip(b"\r")
                ids.append(contig_id)
            part = rest.translate(UPPER, BLANKS)
            if 0 in part:
                at, what = illegal_letter(rest, blanks_allowed=True)
                line = lines + sum(earlier.count(b"\n") for earlier in pieces[:number])
                line += number + (number > 0)  # the cuts, and this header's own line
                line += rest.count(b"\n", 0, at)
                raise InputError(source, f"{shown(contig_id)}: {what}", record=record, line=line)
            if number:
                sequences.append(part)
            else:
                open_sequence += part
        lines += int(np.count_nonzero(np.frombuffer(complete, np.uint8) == ord("\n")))
        if ids:
            if record > len(ids):
                yield [open_id], [open_sequence]
            open_id = ids.pop()
            open_sequence = bytearray(sequences.pop())
            yield ids, sequences
    yield [open_id], [open_sequence]


def _hold_back(text: bytes, *, at_end: bool) -> tuple[bytes, bytes]:
    """Split ``text`` into what can be cut now and what must wait for the next block."""
    if at_end:
        return text, b""
    header = text.rfind(b"\n>")
    if header >= 0 and text.find(b"\n", header + 1) < 0:
        return text[:header], text[header:]
    if text.endswith(b"\n"):
        return text[:-1], b"\n"
    return text, b""
