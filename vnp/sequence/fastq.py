"""Parse FASTQ of four lines a read, with dnaio.

dnaio refuses blank lines between reads, as in files joined by hand, so they are dropped before it
sees them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, cast

import dnaio
import numpy as np

from vnp.sequence.compression import Blocks, InputError
from vnp.sequence.letters import UPPER_LINES, illegal_letter, shown

_BLOCK = 1 << 18  # bytes of text read at a time
_STEP = 128  # reads taken from dnaio at a time


def fastq_reads(
    text: io.BufferedIOBase, *, source: str, lines: int
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Yield ids and upper-case sequences of the reads, a few at a time.

    ``text`` begins at the first ``@``; the rest is as for `fasta.fasta_contigs`. Raises
    `InputError` at a read that is malformed or holds a letter that is not a nucleotide code.
    """
    tight = _WithoutBlankLines(text)
    record = 0  # reads before those in hand
    reader = None
    try:
        # It looks at the first read already when it is made.
        blocks = cast("BinaryIO", Blocks(iter(tight)))
        reader = dnaio.FastqReader(blocks, buffer_size=_BLOCK)
        reads: Iterator[dnaio.SequenceRecord] = iter(reader)
        while step := list(islice(reads, _STEP)):
            ids = "\n".join([read.id for read in step]).encode("ascii")
            sequences = "\n".join([read.sequence for read in step]).encode("ascii")
            upper = sequences.translate(UPPER_LINES)
            if 0 in upper:
                at = upper.count(b"\n", 0, upper.find(0))
                _, what = illegal_letter(step[at].sequence.encode(), blanks_allowed=False)
                what = f"{shown(step[at].id.encode())}: {what}"
                line = None if tight.dropped else lines + 4 * (record + at) + 2
                raise InputError(source, what, record=record + at + 1, line=line)
            record += len(step)
            yield ids.split(b"\n"), upper.split(b"\n")
    except dnaio.FileFormatError as error:
        what = f"not FASTQ of four lines a record: {error.message}"
        record = reader.number_of_records + 1 if reader else 1
        at_line = None if error.line is None or tight.dropped else lines + error.line + 1
        raise InputError(source, what, record=record, line=at_line) from error


class _WithoutBlankLines:
    """Blocks of FASTQ text without blank lines before a header or at the end.

    A read of length 0 has blank lines too. Those stay, so that it is seen as what it is.
    """

    def __init__(self, text: io.BufferedIOBase) -> None:
        self._text = text
        self.dropped = False  # whether line numbers are off by now

    def __iter__(self) -> Iterator[bytes]:
        lines = 0  # handed out
        while block := self._text.read(_BLOCK):
            whole = block + self._text.readline()
            is_end = np.frombuffer(whole, np.uint8) == ord("\n")
            if (
                is_end[:1].any()
                or (is_end[1:] & is_end[:-1]).any()
                or (b"\r" in whole and (b"\n\r\n" in whole or whole.startswith(b"\r\n")))
            ):
                kept: list[bytes] = []
                for line in whole.removesuffix(b"\n").split(b"\n"):
                    if line not in (b"", b"\r") or (lines + len(kept)) % 4:
                        kept.append(line)
                    else:
                        self.dropped = True
                whole = b"".join([line + b"\n" for line in kept])
                lines += len(kept)
            else:
                lines += int(np.count_nonzero(is_end))
            yield whole
