"""Parse FASTQ: reads of four lines with dnaio, wrapped ones and odd ones line by line.

dnaio refuses blank lines between reads, as in files joined by hand, so they are dropped before it
sees them. Of bytes that are not ASCII it names the record at which its buffer begins, so they are
refused before it sees them. It also refuses sequences over several lines and a ``+`` line that
repeats another name than the header's; a file whose beginning has either is read by `_by_line`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from store.io.ragged import Ragged, from_items
from store.io.words import count
from vnp.sequence.compression import Blocks, InputError, Rewound
from vnp.sequence.letters import LETTERS, UPPER, UPPER_LINES, illegal_letter, shown, uracils
from vnp.sequence.notes import Contigs, Notes
from vnp.sequence.parse_loops import LOOPS
from vnp.sequence.strided import pieces

if TYPE_CHECKING:
    import dnaio

_BLOCK = 1 << 18  # bytes of text read at a time
_PARSED = 1 << 20  # the same for compiled code, which parses up to 127 reads of each twice
_STEP = 128  # reads passed on at a time
_SHORTEST = 8  # bytes of a read, nearly: name, base and quality, and what is around them
LONGEST_LINE = 1 << 27  # bytes; the longest reads known have a few millions

_CUT = re.compile("Premature end of file")  # as dnaio says it


def fastq_reads(
    text: io.BufferedIOBase, notes: Notes, *, lines: int, head: bytes
) -> Iterator[Contigs]:
    """Yield ids and upper-case sequences of the reads, a few at a time; a read may be empty.

    ``text`` begins at the first ``@`` with ``head``; the rest is as for `fasta.fasta_contigs`.
    Raises `InputError` where the form of the file is broken.
    """
    if _has_four_lines(head):
        yield from _plain_reads(text, notes, lines=lines)
        return
    records = _by_line(text, notes, lines=lines)
    first = 1
    while step := list(islice(records, _STEP)):
        ids, sequences, at = zip(*step, strict=True)
        yield from _checked(first, list(ids), list(sequences), notes, line_of=at.__getitem__)
        first += len(step)


def _plain_reads(text: io.BufferedIOBase, notes: Notes, *, lines: int) -> Iterator[Contigs]:
    """Read by compiled code up to the first thing that needs a closer look, the rest by dnaio."""
    record = 0
    rest = b""
    while (loops := LOOPS.get()) is not None and len(rest) < LONGEST_LINE:
        more = text.read(max(_PARSED, len(rest)))
        if not more:
            break
        block = rest + more
        source = np.frombuffer(block, np.uint8)
        most = len(block) // _SHORTEST
        out = np.empty(len(block), np.uint8)
        heads, ends = np.empty((most, 2), np.int64), np.zeros(most + 1, np.int64)
        counts = np.empty(3, np.int64)
        found = loops.fastq(source, len(block), most, LETTERS, out, heads, ends[1:], counts)
        _, letters_u, odd = counts.tolist()
        whole = found // _STEP * _STEP
        if letters_u and whole < found:  # of the others they are counted in the next turn
            loops.fastq(source, len(block), whole, LETTERS, out, heads, ends[1:], counts)
            letters_u = int(counts[1])
        notes.uracils += letters_u
        rest = block[int(heads[whole, 0]) - 1 if whole < found else int(counts[0]) :]
        ids = pieces(source, heads[:whole])
        sequences = Ragged(out[: ends[whole]], ends[: whole + 1])
        if whole:
            yield Contigs(record + 1, ids, sequences, step=_STEP)
            record += whole
        if odd:
            break
    left = io.BufferedReader(Rewound(rest, text), _BLOCK)
    yield from _of_four_lines(left, notes, lines=lines, before=record)


def _of_four_lines(
    text: io.BufferedIOBase, notes: Notes, *, lines: int, before: int
) -> Iterator[Contigs]:
    import dnaio  # takes as long as a small append

    tight = _FitForDnaio(text, notes, record=before, line=lines + 4 * before)
    record = before  # reads before the current ones
    reader = None
    try:
        # It looks at the first read already when it is made.
        blocks = cast("BinaryIO", Blocks(iter(tight)))
        reader = dnaio.FastqReader(blocks, buffer_size=_BLOCK)
        reads: Iterator[dnaio.SequenceRecord] = iter(reader)
        while step := list(islice(reads, _STEP)):
            ids = "\n".join([read.id for read in step]).encode("ascii").split(b"\n")
            sequences = "\n".join([read.sequence for read in step]).encode("ascii")
            # Line numbers are off once a line was dropped.
            line = None if tight.dropped else lines + 4 * record + 2
            record += len(step)
            first = record - len(step) + 1
            upper = sequences.translate(UPPER_LINES)
            if 0 in upper:
                raw = sequences.split(b"\n")
                number = None if line is None else [line + 4 * at for at in range(len(raw))]
                line_of = None if number is None else number.__getitem__
                yield from _checked(first, ids, raw, notes, line_of=line_of)
                continue
            notes.uracils += uracils(sequences)
            yield _contigs(first, ids, upper.split(b"\n"))
    except dnaio.FileFormatError as error:
        what = f"not FASTQ of four lines a record: {error.message}"
        cut = _CUT.match(str(error.message))
        if cut is not None:
            # The library quotes the whole record.
            what = "the file ends in the middle of this record: is it cut short?"
        elif "\n--" in what or "'--" in what:
            what += " (take the lines -- that grep writes out)"
        else:
            what += " ('seqkit seq' rewrites wrapped and odd files)"
        record = before + (reader.number_of_records if reader else 0) + 1
        at_line = None
        if error.line is not None and not tight.dropped:
            at_line = lines + 4 * before + error.line + 1
        raise InputError(notes.source, what, record=record, line=at_line) from error


def _checked(
    first: int,
    ids: list[bytes],
    raw: list[bytes],
    notes: Notes,
    *,
    line_of: Callable[[int], int] | None,
) -> Iterator[Contigs]:
    """Yield runs of reads of legal letters; the others go to `Notes.refuse`."""
    start = 0
    upper = [sequence.translate(UPPER) for sequence in raw]
    notes.uracils += sum(map(uracils, raw))
    for at, sequence in enumerate(upper):
        if 0 in sequence:
            _, what = illegal_letter(raw[at], blanks_allowed=False)
            line = line_of(at) if line_of is not None else None
            notes.refuse(ids[at], f"{shown(ids[at])}: {what}", record=first + at, line=line)
            if at > start:
                yield _contigs(first + start, ids[start:at], upper[start:at])
            start = at + 1
    if start < len(ids):
        yield _contigs(first + start, ids[start:], upper[start:])


def _contigs(first: int, ids: list[bytes], sequences: list[bytes]) -> Contigs:
    return Contigs(first, from_items(ids), from_items(sequences))


def _has_four_lines(head: bytes) -> bool:
    """Whether the whole reads at the beginning of a file have the form that dnaio takes."""
    lines = [line.rstrip(b"\r") for line in head.split(b"\n")[:-1]]
    at = 0
    while at + 2 < len(lines):
        if not lines[at]:
            at += 1  # a blank line between reads
            continue
        plus = lines[at + 2]
        if not plus.startswith(b"+") or plus[1:] not in (b"", lines[at][1:]):
            return False
        at += 4
    return True


def _by_line(
    text: io.BufferedIOBase, notes: Notes, *, lines: int
) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield id, sequence and line of the sequence of each read, over however many lines it goes.

    A quality may begin with ``@`` or ``+``: what ends it is its length.
    """
    record = 0

    def fail(what: str) -> InputError:
        return InputError(notes.source, what, record=record, line=lines)

    def next_line() -> bytes:
        nonlocal lines
        line = text.readline(LONGEST_LINE)
        lines += 1
        if len(line) == LONGEST_LINE:
            raise fail(f"a line of more than {LONGEST_LINE:,} bytes")
        return line

    while header := next_line():
        if not header.strip():
            continue
        record += 1
        if not header.startswith(b"@"):
            found = header.strip()
            hint = "; take the lines that grep writes out" if found == b"--" else ""
            raise fail(f"not FASTQ: expected '@', found {shown(found)}{hint}")
        name = (header[1:].split() or [b""])[0]
        sequence = bytearray()
        at = lines + 1
        while (line := next_line()) and not line.startswith(b"+"):
            line = line.rstrip(b"\r\n")
            if sequence and 0 in line.translate(UPPER):
                raise fail(f"expected sequence or a '+' line, found {shown(line)}")
            sequence += line
        if not line:
            raise fail(f"{shown(name)} ends before its '+' line: the file is cut short")
        rest = len(sequence)
        while True:
            quality = next_line().rstrip(b"\r\n")
            rest -= len(quality)
            if rest <= 0 or not quality:
                break
        if rest:
            raise fail(
                f"{shown(name)} has {count(len(sequence), 'base')} and "
                f"{count(len(sequence) - rest, 'quality', 'qualities')}"
            )
        yield name, bytes(sequence), at


class _FitForDnaio:
    """Blocks of FASTQ text without blank lines before a header or at the end, in ASCII.

    A read of length 0 has blank lines too. Those stay, so that it is seen as what it is. ``record``
    and ``line`` are what lies before the text.
    """

    def __init__(self, text: io.BufferedIOBase, notes: Notes, *, record: int, line: int) -> None:
        self._text = text
        self._source = notes.source
        self._record = record
        self._line = line
        self.dropped = 0  # blank lines; line numbers are off by as many

    def __iter__(self) -> Iterator[bytes]:
        lines = 0  # handed out
        while block := self._text.read(_BLOCK):
            whole = block + self._text.readline(LONGEST_LINE)
            if len(whole) - len(block) == LONGEST_LINE:
                what = f"a line of more than {LONGEST_LINE:,} bytes: this is not FASTQ"
                raise InputError(self._source, what)
            if not whole.isascii():
                yield from self._up_to_the_record_at_fault(whole, lines)
            is_end = np.frombuffer(whole, np.uint8) == ord("\n")
            if (
                is_end[:1].any()
                or (is_end[1:] & is_end[:-1]).any()
                or (b"\r" in whole and (b"\n\r\n" in whole or whole.startswith(b"\r\n")))
            ):
                kept = self._kept(whole.removesuffix(b"\n").split(b"\n"), lines)
                whole = b"".join([line + b"\n" for line in kept])
                lines += len(kept)
            else:
                lines += int(np.count_nonzero(is_end))
            yield whole

    def _kept(self, block: list[bytes], lines: int) -> list[bytes]:
        """Lines of a block without those that are blank before a header."""
        kept: list[bytes] = []
        for line in block:
            if line not in (b"", b"\r") or (lines + len(kept)) % 4:
                kept.append(line)
            else:
                self.dropped += 1
        return kept

    def _up_to_the_record_at_fault(self, whole: bytes, lines: int) -> Iterator[bytes]:
        """Yield the records before a byte that is not ASCII, whose faults come first; refuse it."""
        text = whole.split(b"\n")
        at = next(number for number, line in enumerate(text) if not line.isascii())
        kept = self._kept(text[:at], lines)
        before, within = divmod(lines + len(kept), 4)  # records, and lines of this one
        yield b"".join([line + b"\n" for line in kept[: max(len(kept) - within, 0)]])
        where = ("header", "sequence", "'+' line", "quality")[within]
        line = text[at].rstrip(b"\r")
        hint = (
            "rename the sequence" if within == 0 else "is the file damaged, or of another encoding?"
        )
        raise InputError(
            self._source,
            f"the {where} {_around_fault(line)} holds characters other than ASCII; {hint}",
            record=self._record + before + 1,
            line=self._line + lines + len(kept) + self.dropped + 1,
        )


def _around_fault(line: bytes) -> str:
    """Show a line, or what stands before and after its first byte that is not ASCII."""
    at = next(number for number, byte in enumerate(line) if byte > 127)
    return shown(line if at < 40 else line[at - 20 : at + 20])
