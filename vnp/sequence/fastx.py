"""Read FASTA and FASTQ into batches of contigs, with memory bounded by the longest contig."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from store.io.ragged import Ragged, offsets_of
from vnp.sequence.compression import (
    BrokenStreamError,
    InputError,
    Rewound,
    display_name,
    foreign_kind,
    open_bytes,
)
from vnp.sequence.fasta import fasta_contigs
from vnp.sequence.fastq import fastq_reads
from vnp.sequence.letters import BLANKS, PRINTABLE, could_be_dna, protein_evidence, shown

BATCH_BASES = 1 << 19  # bases after which a batch of contigs ends
_BUFFER = 1 << 18  # bytes of text
_LONGEST_ID = 1024  # every record of a contig repeats its id
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ContigBatch:
    """Whole contigs, in file order."""

    first: int  # 1-based number of the first contig in its file
    ids: list[bytes]  # header up to the first blank, printable ASCII
    sequence: Ragged  # upper case, never empty, IUPAC letters and gap signs only


class ContigReader:
    """The contigs of one FASTA or FASTQ file, read once from front to back.

    The file may be compressed with gzip, zstd or bzip2; ``-`` is standard input. Use it as a
    context manager and iterate over it once: when the iteration has ended, ``contigs``, ``bases``
    and ``content_sha256`` describe the whole file. A batch ends when it holds ``batch_bases``
    bases; a longer contig is a batch of its own. `InputError`, here or during the iteration, names
    the file and the record.
    """

    def __init__(self, path: str | Path, *, batch_bases: int = BATCH_BASES) -> None:
        self.name = display_name(path)  # as messages show it
        self.contigs = 0
        self.bases = 0
        self._batch_bases = batch_bases
        self._digest = hashlib.sha256()
        self._file = open_bytes(path)
        self._lines = 0  # lines before the first record
        try:
            head = self._skip_blank_lines()
        except BaseException:
            self._file.close()
            raise
        text = io.BufferedReader(Rewound(head, self._file), _BUFFER)
        parse = fastq_reads if head.startswith(b"@") else fasta_contigs
        self._parsed = parse(text, source=self.name, lines=self._lines)

    def __enter__(self) -> ContigReader:
        return self

    def __exit__(self, *exc: object) -> None:
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
            for more_ids, more_sequences in self._parsed:
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
            what = f"{shown(ids[index])} has no sequence"
            raise InputError(self.name, what, record=first + index)
        joined = b"".join(ids)
        if b"" in ids or joined.translate(None, PRINTABLE) or max(map(len, ids)) > _LONGEST_ID:
            self._refuse_id(ids, first)
        text: list[bytes | bytearray] = [b">", b"", b"\n", b"", b"\n"] * len(ids)
        text[1::5] = ids
        text[3::5] = sequences
        if len(ids) == 1:  # it may be long: no copies
            data = sequences.pop()
            for part in text:
                self._digest.update(part)
        else:
            data = b"".join(sequences)
            self._digest.update(b"".join(text))
        if len(ids) == 1 or not could_be_dna(data):
            self._refuse_protein(ids, sequences or [data], first)
        self.contigs += len(ids)
        self.bases += len(data)
        return ContigBatch(first, ids, Ragged(np.frombuffer(data, np.uint8), offsets_of(lengths)))

    def _refuse_protein(
        self, ids: list[bytes], sequences: Sequence[bytes | bytearray], first: int
    ) -> None:
        for record, (contig_id, sequence) in enumerate(zip(ids, sequences, strict=True), first):
            if evidence := protein_evidence(sequence):
                what = f"{shown(contig_id)}: {evidence}; is this protein?"
                raise InputError(self.name, what, record=record)

    def _refuse_id(self, ids: list[bytes], first: int) -> None:
        for record, contig_id in enumerate(ids, first):
            if not contig_id:
                what = "the header has no id; it must begin with one, before the first blank"
            elif len(contig_id) > _LONGEST_ID:
                what = (
                    f"the id {shown(contig_id)} has {len(contig_id):,} characters, "
                    f"{_LONGEST_ID:,} are allowed; shorten it"
                )
            elif contig_id.translate(None, PRINTABLE):
                what = (
                    f"the id {shown(contig_id)} holds characters other than printable ASCII; "
                    "rename the sequence"
                )
            else:
                continue
            raise InputError(self.name, what, record=record)

    def _skip_blank_lines(self) -> bytes:
        """Read up to the first byte that is not a blank and see that it opens a record."""
        try:
            head = self._file.read(_BUFFER).removeprefix(_BYTE_ORDER_MARK)
            while head and not head.strip(BLANKS):
                self._lines += head.count(b"\n")
                head = self._file.read(_BUFFER)
        except BrokenStreamError as error:
            raise InputError(self.name, str(error), record=1) from error
        text = head.lstrip(BLANKS)
        self._lines += head.count(b"\n", 0, len(head) - len(text))
        if not text:
            raise InputError(self.name, "is empty: there is no sequence in it")
        if text[:1] not in (b">", b"@"):
            line = text[:4096].splitlines()[0]
            if line.translate(None, PRINTABLE + b" \t"):
                what = foreign_kind(head) or "a binary file"
                raise InputError(self.name, f"is {what}, not FASTA or FASTQ; convert it first")
            raise InputError(
                self.name,
                f"no header: expected '>' (FASTA) or '@' (FASTQ), found {shown(line)}",
                record=1,
                line=self._lines + 1,
            )
        return text
