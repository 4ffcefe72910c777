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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged, concatenate, from_items
from vnp.sequence.compression import InputError
from vnp.sequence.letters import BLANKS, LETTERS, UPPER, illegal_letter, shown, uracils
from vnp.sequence.notes import Contigs, Notes
from vnp.sequence.parse_loops import LOOPS, REFUSED
from vnp.sequence.strided import pieces

_BLOCK = 9 << 16  # bytes of text parsed at a time: a batch of contigs needs no second one
_CARRIED = 1 << 17  # letters of a contig that are copied into the next block
_MOST_HEADERS = 1 << 16  # of a block that compiled code cuts
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
    opened = _Open(b"", usable=False)  # that contig, so far
    tail = b"\n"
    at_end = False
    while not at_end:
        block = text.read(_BLOCK)
        at_end = not block
        complete, tail = _hold_back(tail + block, at_end=at_end)
        if len(tail) > _LONGEST_HEADER:
            what = f"a header of more than {_LONGEST_HEADER:,} bytes: has the file no lines?"
            raise InputError(notes.source, what, record=record + 1 + complete.count(b"\n>"))
        fast = _fast(complete, opened)
        if fast is not None:
            notes.uracils += fast.uracils
            lines += fast.lines
            last = len(fast.ids) - 1  # it may go on
            first = int(fast.carried is None)
            if last and first:
                opened.add(fast.sequences.slice(0, 1).data)
                if opened.usable:
                    yield opened.contigs(record)
            if last > first:
                ids, sequences = fast.ids.slice(first, last), fast.sequences.slice(first, last)
                yield Contigs(record + first, ids, sequences, plain=fast.plain)
            if last:
                record += last
                contig_id = fast.ids[last]
                opened = _Open(contig_id, usable=True, plain=fast.plain)
                opened.add(fast.sequences.slice(last, last + 1).data)
            else:
                opened.add(fast.sequences.data[fast.carried or 0 :])
                opened.plain = fast.plain
            continue
        opened.plain = False
        pieces = complete.split(b"\n>") if b">" in complete else [complete]
        whole_ids: list[bytes] = []
        parts: list[bytes] = []
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
            if fault is not None and (number or opened.usable):
                at, what = fault
                line = lines + sum(earlier.count(b"\n") for earlier in pieces[:number])
                line += number + (number > 0)  # the cuts, and this header's own line
                line += rest.count(b"\n", 0, at)
                notes.refuse(contig_id, f"{shown(contig_id)}: {what}", record=record, line=line)
            if not number:
                opened.usable &= usable
                opened.add(part)
                if len(pieces) > 1 and opened.usable:
                    yield opened.contigs(record)
            elif number == len(pieces) - 1:
                opened = _Open(contig_id, usable=usable)
                opened.add(part)
            elif usable:
                whole_ids.append(contig_id)
                parts.append(part)
            elif parts:
                yield Contigs(record - len(parts), from_items(whole_ids), from_items(parts))
                whole_ids, parts = [], []
        if parts:
            yield Contigs(record - len(parts), from_items(whole_ids), from_items(parts))
        lines += int(np.count_nonzero(np.frombuffer(complete, np.uint8) == ord("\n")))
    if opened.usable:
        yield opened.contigs(record)


class _Open:
    """A contig that may go on in the next block."""

    def __init__(self, contig_id: bytes, *, usable: bool, plain: bool = False) -> None:
        self.id = contig_id
        self.usable = usable
        self.plain = plain  # as of `Contigs`
        self.letters = bytearray()

    def add(self, letters: bytes | NDArray[np.uint8]) -> None:
        if self.usable:
            self.letters += letters.data if isinstance(letters, np.ndarray) else letters

    def contigs(self, record: int) -> Contigs:
        """Give the contig away."""
        data, self.letters = np.frombuffer(self.letters, np.uint8), bytearray()
        return Contigs(record, from_items([self.id]), Ragged(data, np.array([0, len(data)])))


class _Block(NamedTuple):
    """A block of which every byte is as it should be.

    The first item of the columns is the contig that an earlier block began, or what goes on of it.
    """

    ids: Ragged
    sequences: Ragged  # the last one may go on in the next block
    carried: int | None  # letters of the earlier block that the first one begins with; None: unused
    plain: bool  # as of `Contigs`
    uracils: int
    lines: int


def _fast(text: bytes, opened: _Open) -> _Block | None:
    """Cut a block by compiled code; None if there is none, or if the block needs a closer look."""
    loops = LOOPS.get()
    if loops is None:
        return None
    carried = None
    if opened.usable and len(opened.letters) <= _CARRIED:
        carried = len(opened.letters)
    start = carried or 0
    source = np.frombuffer(text, np.uint8)
    most = min(len(text) // 2 + 1, _MOST_HEADERS)
    out = np.empty(start + len(text), np.uint8)
    out[:start] = np.frombuffer(opened.letters, np.uint8, start)
    heads, cuts = np.empty((most, 2), np.int64), np.empty(most, np.int64)
    counts = np.empty(4, np.int64)
    found = loops.fasta(source, len(text), LETTERS, out, start, heads, cuts, most, counts)
    if found == REFUSED:
        return None
    end, uracils, lines, others = counts.tolist()
    bounds = np.concatenate([[0], cuts[:found], [end]])
    ids = pieces(source, heads[:found])
    return _Block(
        ids=concatenate([from_items([opened.id]), ids]),
        sequences=Ragged(out[:end], bounds),
        carried=carried,
        plain=not others and (opened.plain or not opened.letters),
        uracils=uracils,
        lines=lines,
    )


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
    header = text.rfind(b"\n>") if b">" in text else -1  # one byte is found many times as fast
    if header >= 0 and text.find(b"\n", header + 1) < 0:
        return text[:header], text[header:]
    for end in (b"\n", b"\n-", b"\n--", b"\n--\r"):  # perhaps the beginning of a line "--"
        if text.endswith(end):
            return text[: -len(end)], end
    return text, b""
