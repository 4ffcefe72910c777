r"""Read FASTA and FASTQ into batches of contigs, with memory bounded by the longest contig.

FASTQ is parsed by dnaio. FASTA is parsed here, block by block, because dnaio's FASTA reader keeps
one string per line until a contig ends: for one contig of 250 Mb wrapped at 70 columns it peaks at
722 MiB before anything is done with the sequence, and with two such contigs in a row, each turned
into bytes, at 1,199 MiB (dnaio 1.2.4, Python 3.11). The parser below holds a contig once: 280 MiB.

How a block of FASTA is cut: ``tail`` is what the block before left over, either the newline that a
header may follow or a header whose line is not complete yet::

    tail + block    \n | >c1 text \n ACGT \n ACG \n | >c2 \n AC \n | >c3 te
    pieces                c1 text \n ACGT \n ACG        c2 \n AC      `- tail of the next block
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import dnaio
import numpy as np

from store.io.ragged import Ragged, offsets_of
from vnp.sequence.blank_lines import WithoutBlankLines
from vnp.sequence.compression import (
    BrokenStreamError,
    InputError,
    Rewound,
    display_name,
    foreign_kind,
    open_bytes,
)

if TYPE_CHECKING:
    pass

BATCH_BASES = 1 << 19  # bases after which a batch of contigs ends
_BLOCK = 1 << 18  # bytes of text parsed at a time
_LONGEST_HEADER = 1 << 20  # a longer header means that the file has no lines
_PLAIN = b"ACGTUN-."  # letters that DNA is mostly made of
_LONGEST_ID = 1024  # every record of a contig repeats its id
_FASTQ_STEP = 128  # reads taken from dnaio at a time

# Nucleotide codes of IUPAC-IUB 1984 with U and the gap signs. U and gaps are letters like N here:
# a codon that holds one is not translated, and none of them is changed.
_LETTERS = b"ACGTURYSWKMBDHVN"
_UPPER = bytearray(256)  # upper case of a legal letter, 0 for any other byte
for _letter in _LETTERS:
    _UPPER[_letter] = _UPPER[_letter | 0x20] = _letter
for _sign in b"-.":
    _UPPER[_sign] = _sign
_BLANKS = b"\r\n \t"
_UPPER_LINES = bytearray(_UPPER)  # the same for sequences joined by line feeds
_UPPER_LINES[ord("\n")] = ord("\n")
_PRINTABLE = bytes(range(0x21, 0x7F))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Ids and upper-case sequences of some contigs.
_Group = tuple[list[bytes], Sequence[bytes | bytearray]]


@dataclass(frozen=True, slots=True)
class ContigBatch:
    """Whole contigs, in file order."""

    first: int  # 1-based number of the first contig in its file
    ids: list[bytes]  # header up to the first blank, printable ASCII
    sequence: Ragged  # upper case, never empty, IUPAC letters and gap signs only


class ContigReader:
    """The contigs of one FASTA or FASTQ file, read once from front to back.

    Use it as a context manager and iterate over it once. When the iteration has ended,
    ``contigs``, ``bases`` and ``content_sha256`` describe the whole file.

    Parameters
    ----------
    path
        A file, plain or compressed with gzip, zstd or bzip2, or ``-`` for standard input.
    batch_bases
        A batch ends when it holds this many bases; a longer contig is a batch of its own.

    Attributes
    ----------
    name : str
        The input as messages show it.
    contigs, bases : int
        How many were handed out so far.

    Raises
    ------
    InputError
        Here or during the iteration, naming the file and the record.
    """

    def __init__(self, path: str | Path, *, batch_bases: int = BATCH_BASES) -> None:
        self.name = display_name(path)
        self.contigs = 0
        self.bases = 0
        self._batch_bases = batch_bases
        self._digest = hashlib.sha256()
        self._file = open_bytes(path)
        self._lines = 0  # lines of text before the block in hand
        try:
            head = self._skip_blank_lines()
        except BaseException:
            self._file.close()
            raise
        self._text = io.BufferedReader(Rewound(head, self._file), _BLOCK)
        self._is_fastq = head.startswith(b"@")

    def __enter__(self) -> ContigReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file (standard input stays open)."""
        self._file.close()

    def content_sha256(self) -> str:
        r"""Hex sha-256 over ``>id\nSEQUENCE\n`` of every contig, sequences in upper case.

        So it is the sha-256 of the unwrapped, upper-cased FASTA file without descriptions, and
        does not depend on compression, wrapping, case or line ends.
        """
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[ContigBatch]:
        ids: list[bytes] = []
        sequences: list[bytes | bytearray] = []
        size = 0
        try:
            for more_ids, more_sequences in self._fastq() if self._is_fastq else self._fasta():
                more = sum(map(len, more_sequences))
                if ids and size + more >= self._batch_bases:
                    yield self._batch(ids, sequences)
                    ids, sequences, size = [], [], 0
                ids += more_ids
                sequences += more_sequences
                size += more
                del more_ids, more_sequences  # or a long contig outlives its batch
                if size >= self._batch_bases:
                    last = ids, sequences
                    ids, sequences, size = [], [], 0
                    yield self._batch(*last)
        except BrokenStreamError as error:
            record = self.contigs + len(ids) + 1
            what = f"{error}; the records before this one were whole"
            raise InputError(self.name, what, record=record) from error
        if ids:
            yield self._batch(ids, sequences)

    def _batch(self, ids: list[bytes], sequences: list[bytes | bytearray]) -> ContigBatch:
        """Check, count and hash contigs, and lay them end to end."""
        first = self.contigs + 1
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        if not lengths.all():
            index = int(np.argmin(lengths))
            what = f"{_shown(ids[index])} has no sequence"
            raise InputError(self.name, what, record=first + index)
        joined = b"".join(ids)
        if b"" in ids or joined.translate(None, _PRINTABLE) or max(map(len, ids)) > _LONGEST_ID:
            self._refuse_id(ids, first)
        if len(ids) == 1:
            data = sequences.pop()
            for part in (b">" + ids[0] + b"\n", data, b"\n"):
                self._digest.update(part)
        else:
            data = b"".join(sequences)
            records = b"\n>".join(map(b"\n".join, zip(ids, sequences, strict=True)))
            self._digest.update(b">" + records + b"\n")
        self._refuse_protein(ids, sequences or [data], data, first)
        self.contigs += len(ids)
        self.bases += len(data)
        return ContigBatch(first, ids, Ragged(np.frombuffer(data, np.uint8), offsets_of(lengths)))

    def _refuse_protein(
        self,
        ids: list[bytes],
        sequences: Sequence[bytes | bytearray],
        data: bytes | bytearray,
        first: int,
    ) -> None:
        """Refuse a contig most of whose letters are codes for several bases: no DNA looks so."""
        if len(sequences) > 1 and 10 * len(data.translate(None, _PLAIN)) < len(data):
            return
        for index, sequence in enumerate(sequences):
            probe = sequence[:_BLOCK]  # the first bases of a chromosome are enough
            coded = len(probe.translate(None, _PLAIN))
            if len(probe) >= 20 and 2 * coded > len(probe):
                raise InputError(
                    self.name,
                    f"{_shown(ids[index])}: {coded:,} of {len(probe):,} letters are IUPAC "
                    "codes for several bases; is this protein?",
                    record=first + index,
                )

    def _refuse_id(self, ids: list[bytes], first: int) -> None:
        for index, contig_id in enumerate(ids):
            if not contig_id:
                raise InputError(
                    self.name,
                    "the header has no id; it must begin with one, before the first blank",
                    record=first + index,
                )
            if len(contig_id) > _LONGEST_ID:
                raise InputError(
                    self.name,
                    f"the id {_shown(contig_id)} has {len(contig_id):,} characters, "
                    f"{_LONGEST_ID:,} are allowed; shorten it",
                    record=first + index,
                )
            if contig_id.translate(None, _PRINTABLE):
                raise InputError(
                    self.name,
                    f"the id {_shown(contig_id)} holds characters other than printable ASCII; "
                    "rename the sequence",
                    record=first + index,
                )

    def _skip_blank_lines(self) -> bytes:
        """Read up to the first byte that is no blank and see that it opens a record."""
        try:
            head = self._file.read(_BLOCK).removeprefix(_BYTE_ORDER_MARK)
            while head and not head.strip(_BLANKS):
                self._lines += head.count(b"\n")
                head = self._file.read(_BLOCK)
        except BrokenStreamError as error:
            raise InputError(self.name, str(error), record=1) from error
        text = head.lstrip(_BLANKS)
        self._lines += head.count(b"\n", 0, len(head) - len(text))
        if not text:
            raise InputError(self.name, "is empty: there is no sequence in it")
        if text[:1] not in (b">", b"@"):
            line = text[:4096].splitlines()[0]
            if line.translate(None, _PRINTABLE + b" \t"):
                what = foreign_kind(head) or "a binary file"
                raise InputError(self.name, f"is {what}, not FASTA or FASTQ; convert it first")
            raise InputError(
                self.name,
                f"no header: expected '>' (FASTA) or '@' (FASTQ), found {_shown(line)}",
                record=1,
                line=self._lines + 1,
            )
        return text

    # ------------------------------------------------------------------ FASTA

    def _fasta(self) -> Iterator[_Group]:
        """Yield the contigs that end in each block; one that began in an earlier block, alone."""
        record = 0  # 1-based number of the contig at the end of what was read
        contig_id = open_id = b""
        open_sequence = bytearray()  # of that contig, so far
        tail = b"\n"
        at_end = False
        while not at_end:
            block = self._text.read(_BLOCK)
            at_end = not block
            text, tail = _hold_back(tail + block, at_end=at_end)
            if len(tail) > _LONGEST_HEADER:
                what = f"a header of more than {_LONGEST_HEADER:,} bytes: has the file no lines?"
                raise InputError(self.name, what, record=record + 1 + text.count(b"\n>"))
            pieces = text.split(b"\n>") if b">" in text else [text]
            ids: list[bytes] = []
            sequences: list[bytes | bytearray] = []
            for number, piece in enumerate(pieces):
                rest = piece
                if number:
                    header, _, rest = piece.partition(b"\n")
                    record += 1
                    contig_id = _id_of(header)
                    ids.append(contig_id)
                part = rest.translate(_UPPER, _BLANKS)
                if 0 in part:
                    lines = sum(earlier.count(b"\n") for earlier in pieces[:number])
                    lines += number + (number > 0)  # the cuts, and this header's own line
                    self._refuse_letter(rest, record, contig_id, self._lines + lines)
                if number:
                    sequences.append(part)
                else:
                    open_sequence += part
            self._lines += int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord("\n")))
            if ids:
                if record > len(ids):
                    yield [open_id], [open_sequence]
                open_id = ids.pop()
                open_sequence = bytearray(sequences.pop())
                yield ids, sequences
        yield [open_id], [open_sequence]

    def _refuse_letter(self, text: bytes, record: int, contig_id: bytes, lines: int | None) -> None:
        """Name the first byte of ``text``, ``lines`` lines into the file, that is no nucleotide."""
        legal = bytearray(_UPPER)
        for blank in b"" if lines is None else _BLANKS:  # of FASTQ a blank is a letter too
            legal[blank] = blank
        at = text.translate(legal).find(0)
        letter = chr(text[at])
        line = None if lines is None else lines + text.count(b"\n", 0, at)
        if letter.isspace():
            what = "there is a blank in the sequence"
        elif letter.isascii() and letter.isprintable():
            what = f"{letter!r} is no nucleotide code"
            if letter.isalpha():
                what += "; is this protein?"
        else:
            what = f"byte 0x{text[at]:02x} in the sequence: binary content?"
        raise InputError(self.name, f"{_shown(contig_id)}: {what}", record=record, line=line)

    # ------------------------------------------------------------------ FASTQ

    def _fastq(self) -> Iterator[_Group]:
        """Yield the reads, a few at a time."""
        tight = WithoutBlankLines(self._text)
        record = 0
        try:
            reader = dnaio.FastqReader(io.BufferedReader(tight, _BLOCK))
        except dnaio.FileFormatError as error:  # it looks at the first record already
            raise self._malformed(error, 1, known=not tight.removed) from error
        reads: Iterator[dnaio.SequenceRecord] = iter(reader)
        try:
            while step := list(islice(reads, _FASTQ_STEP)):
                ids = "\n".join([read.id for read in step]).encode("ascii")
                text = "\n".join([read.sequence for read in step]).encode("ascii")
                upper = text.translate(_UPPER_LINES)
                if 0 in upper:
                    index = upper.count(b"\n", 0, upper.find(0))
                    read = step[index]
                    self._refuse_letter(
                        read.sequence.encode(), record + index + 1, read.id.encode(), None
                    )
                record += len(step)
                yield ids.split(b"\n"), upper.split(b"\n")
        except dnaio.FileFormatError as error:
            record = reader.number_of_records + 1
            raise self._malformed(error, record, known=not tight.removed) from error

    def _malformed(self, error: dnaio.FileFormatError, record: int, *, known: bool) -> InputError:
        line = None if error.line is None or not known else self._lines + error.line + 1
        what = f"not FASTQ of four lines a record: {error.message}"
        return InputError(self.name, what, record=record, line=line)


def _id_of(header: bytes) -> bytes:
    """Return the header up to the first blank."""
    return header.partition(b" ")[0].partition(b"\t")[0].rstrip(b"\r")


def _shown(text: bytes) -> str:
    """Text of the input as messages show it: quoted, escaped and not too long."""
    shown = repr(text[:60])[1:]
    return shown if len(text) <= 60 else shown + "..."


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
