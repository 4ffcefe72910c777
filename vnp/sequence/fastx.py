"""Read FASTA and FASTQ into batches of contigs, with memory bounded by the longest contig."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from store.io.compiled import allow
from store.io.ragged import Ragged, concatenate, from_items
from store.io.words import count
from vnp.sequence.alignment import alignment_reads
from vnp.sequence.compression import (
    STDIN,
    BrokenStreamError,
    InputError,
    Rewound,
    display_name,
    foreign_kind,
    is_alignment,
    open_bytes,
)
from vnp.sequence.fasta import fasta_contigs
from vnp.sequence.fastq import fastq_reads
from vnp.sequence.letters import BLANKS, PRINTABLE, PROBE, could_be_dna, protein_evidence, shown
from vnp.sequence.notes import Contigs, Notes
from vnp.sequence.strided import Bytes, joined, pairs, without_suffix


class Digest(Protocol):
    """A running hash."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Hash of the bytes so far."""


BATCH_BASES = 1 << 19  # bases after which a batch of contigs ends
LONG = 1 << 23  # bases of a batch that nothing is read beside
_BUFFER = 1 << 18  # bytes of text
_LOADED_FROM, _COMPILED_FROM = 1 << 21, 1 << 26  # bytes of input
_LONGEST_ID = 1024  # every record of a contig repeats its id
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ContigBatch:
    """Whole contigs, in file order."""

    first: int  # 1-based number of the first contig in its file
    id: Ragged  # header up to the first blank, printable ASCII
    sequence: Ragged  # upper case, U as T; IUPAC letters and gap signs only; a read may be empty

    @property
    def ids(self) -> list[bytes]:
        """The ids as Python objects."""
        return self.id.tolist()


class ContigReader:
    """The contigs of one FASTA or FASTQ file, read once from front to back.

    The file may be compressed with gzip, zstd or bzip2; ``-`` is standard input. Use it as a
    context manager and iterate over it once: when the iteration has ended, ``contigs``, ``bases``
    and ``content_sha256`` describe the whole file. A batch ends when it holds ``batch_bases``
    bases; a longer contig is a batch of its own. `InputError`, here or during the iteration, names
    the file and the record; with ``skip`` records that cannot be used are named in ``notes``
    instead, and left out of everything else. ``mate``, ``/1`` or ``/2``, is added to ids that do
    not end in it. ``digest`` goes on with the hash of an earlier file of the same sample.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        batch_bases: int = BATCH_BASES,
        skip: bool = False,
        mate: bytes = b"",
        digest: Digest | None = None,
    ) -> None:
        self.name = display_name(path)  # as messages show it
        self.notes = Notes(self.name, skip=skip)
        self.contigs = 0
        self.bases = 0
        self._batch_bases = batch_bases
        self._mate = mate
        self.names = hashlib.sha256()  # of a mate's ids, less /1 and /2
        self._digest = digest or hashlib.sha256()
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="content")  # begun when needed
        self._lines = 0  # lines before the first record
        if is_alignment(path):
            self._file: io.BufferedIOBase = io.BytesIO()
            self._empty_allowed = True
            self._parsed = alignment_reads(path, self.notes)
            return
        self._file = open_bytes(path)
        try:
            head = self._skip_blank_lines()
        except BaseException:
            self._file.close()
            raise
        text = io.BufferedReader(Rewound(head, self._file), _BUFFER)
        self._empty_allowed = head.startswith(b"@")  # reads are trimmed to nothing, contigs not
        self._parsed = (
            fastq_reads(text, self.notes, lines=self._lines, head=head)
            if self._empty_allowed
            else fasta_contigs(text, self.notes, lines=self._lines)
        )

    def __enter__(self) -> ContigReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._hashing.shutdown()
        self._file.close()

    def content_sha256(self) -> str:
        r"""Hex sha-256 over ``>id\nSEQUENCE\n`` of every contig, sequences in upper case.

        So it is the sha-256 of the unwrapped, upper-cased FASTA file without descriptions, and
        does not depend on compression, wrapping, case or line ends.
        """
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[ContigBatch]:
        held = size = 0  # contigs and bases in ``parts`` and of ``more`` from ``taken`` on
        parts: list[Contigs] = []
        record = 0  # the last one parsed
        try:
            for parsed in self._parsed:
                more = parsed
                if self._mate:
                    more = more._replace(ids=self._of_mate(more.ids))
                skipped = record + 1 != more.first
                record = more.first + len(more.ids) - 1
                taken = at = 0
                for stop, bases in more.steps():
                    if held and (size + bases >= self._batch_bases or skipped):
                        if at > taken:
                            parts.append(more.slice(taken, at))
                        taken, held, size = at, 0, 0
                        yield from self._batches(parts)
                    skipped = False
                    held += stop - at
                    at = stop
                    size += bases
                    if size >= self._batch_bases:
                        parts.append(more.slice(taken, at))
                        taken, held, size = at, 0, 0
                        if at == len(more.ids):
                            del parsed, more  # or a long contig outlives its batch
                        yield from self._batches(parts)
                if held:
                    parts.append(more.slice(taken, at))
        except BrokenStreamError as error:
            what = f"{error}; the records before this one were whole"
            raise InputError(self.name, what, record=record + 1) from error
        if parts:
            yield from self._batches(parts)

    def _of_mate(self, ids: Ragged) -> Ragged:
        """Ids that end in this file's mate, whatever they ended in."""
        plain = without_suffix(without_suffix(ids, b"/1"), b"/2")
        self.names.update(joined(plain).data)
        marks = from_items([self._mate] * len(ids))
        return pairs(plain, marks)

    def _batches(self, parts: list[Contigs]) -> Iterator[ContigBatch]:
        """Check contigs; those that can be used make a batch, or several where others lie between.

        ``parts`` is emptied.
        """
        first = parts[0].first
        ids = concatenate([part.ids for part in parts])
        sequences = concatenate([part.sequences for part in parts])  # one may be long: no copy
        plain = all(part.plain for part in parts)
        parts.clear()
        bad = self._unusable(first, ids, sequences, plain=plain)
        start = 0
        for at in [*bad, len(ids)]:
            if at > start:
                batch = ContigBatch(first + start, ids.slice(start, at), sequences.slice(start, at))
                if at == len(ids):
                    del sequences  # or a long contig lives on
                self.contigs += len(batch.id)
                self.bases += len(batch.sequence.data)
                with self._hashed(batch):
                    yield batch
                del batch
            start = at + 1

    def _unusable(self, first: int, ids: Ragged, sequences: Ragged, *, plain: bool) -> list[int]:
        """Refuse contigs for what they are as a whole; where these are, if they are skipped."""
        bad: list[int] = []
        lengths = ids.lengths
        if (
            len(ids) > 1
            and lengths.min() > 0
            and lengths.max() <= _LONGEST_ID
            and not ids.data.tobytes().translate(None, PRINTABLE)
            and (self._empty_allowed or sequences.lengths.min() > 0)
            and (plain or could_be_dna(sequences.data))
        ):
            return bad
        for at in range(len(ids)):
            what = _fault(
                ids[at],
                sequences.data[sequences.offsets[at] : sequences.offsets[at + 1]],
                empty_allowed=self._empty_allowed,
            )
            if what:
                self.notes.refuse(ids[at], what, record=first + at)
                bad.append(at)
        return bad

    @contextmanager
    def _hashed(self, batch: ContigBatch) -> Iterator[None]:
        """Hash contigs; a thread does it with a long one, while the caller uses it."""
        if len(batch.sequence.data) < LONG:
            self._hash(batch)
            yield
            return
        hashed = self._hashing.submit(self._hash, batch)
        try:
            yield
        finally:
            hashed.result()

    def _hash(self, batch: ContigBatch) -> None:
        if len(batch.id) == 1:  # it may be long: no copy
            for part in (b">", batch.id.data.data, b"\n", batch.sequence.data.data, b"\n"):
                self._digest.update(part)
        else:
            self._digest.update(joined(batch.id, batch.sequence, before=b">").data)

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
        if (foreign := foreign_kind(head)) is not None:
            raise InputError(self.name, f"is {foreign}, not FASTA or FASTQ")
        if b"\n" not in head and b"\r" in head:
            raise InputError(
                self.name,
                "its lines end with carriage returns alone, as on old Macs; convert it: "
                "tr '\\r' '\\n' < FILE > converted",
            )
        if head[1::2].count(0) > len(head) // 4 or head[::2].count(0) > len(head) // 4:
            raise InputError(
                self.name, "is UTF-16 text; convert it: iconv -f UTF-16LE -t ASCII FILE"
            )
        if text[:1] not in (b">", b"@"):
            line = text[:4096].splitlines()[0]
            if line.translate(None, PRINTABLE + b" \t"):
                raise InputError(self.name, "is a binary file, not FASTA or FASTQ")
            raise InputError(
                self.name,
                f"no header: expected '>' (FASTA) or '@' (FASTQ), found {shown(line)}",
                record=1,
                line=self._lines + 1,
            )
        return text


def _fault(contig_id: bytes, sequence: Bytes, *, empty_allowed: bool) -> str:
    """Say why a contig cannot be used; empty if it can be."""
    if not contig_id:
        return "the header has no id; it must begin with one, before the first blank"
    if len(contig_id) > _LONGEST_ID:
        return (
            f"the id {shown(contig_id)} has {len(contig_id):,} characters, {_LONGEST_ID:,} are "
            "allowed; shorten it"
        )
    if contig_id.translate(None, PRINTABLE):
        return (
            f"the id {shown(contig_id)} holds characters other than printable ASCII; rename the "
            "sequence"
        )
    if not len(sequence) and not empty_allowed:
        return f"{shown(contig_id)} has no sequence"
    if evidence := protein_evidence(sequence[:PROBE].tobytes()):
        return f"{shown(contig_id)}: {evidence}; is this protein?"
    return ""


def _use_loops(paths: Sequence[str | Path]) -> None:
    """Allow what pays for so much input: to load compiled loops, and to compile them first."""
    files = [Path(path) for path in paths if str(path) != STDIN and Path(path).is_file()]
    size = sum(file.stat().st_size for file in files)
    if size >= _LOADED_FROM or len(files) < len(paths):  # of a pipe it is not known
        allow(compiling=size >= _COMPILED_FROM)


class SampleReader:
    """The contigs of all files of one sample: one file, or the two of read pairs.

    As `ContigReader`; of two files the ids end in ``/1`` and ``/2`` and must be the same otherwise.
    """

    def __init__(self, paths: Sequence[str | Path], *, skip: bool = False) -> None:
        _use_loops(paths)
        digest = hashlib.sha256()
        mates = (b"/1", b"/2") if len(paths) == 2 else (b"",)
        self.readers = [
            ContigReader(path, skip=skip, mate=mate, digest=digest)
            for path, mate in zip(paths, mates, strict=True)
        ]
        self.name = " and ".join(reader.name for reader in self.readers)

    def __enter__(self) -> SampleReader:
        return self

    def __exit__(self, *exc: object) -> None:
        for reader in self.readers:
            reader.__exit__(*exc)

    def __iter__(self) -> Iterator[ContigBatch]:
        before = 0
        for reader in self.readers:
            for batch in reader:
                yield ContigBatch(before + batch.first, batch.id, batch.sequence)
            before += reader.contigs + reader.notes.count
        self._require_pairs()

    def _require_pairs(self) -> None:
        """Raise an `InputError` unless two files hold the mates of the same reads, in one order."""
        if len(self.readers) < 2 or any(reader.notes.count for reader in self.readers):
            return  # of a read that is skipped the mate is taken alone
        first, second = self.readers
        if first.contigs != second.contigs:
            raise InputError(
                second.name,
                f"has {count(second.contigs, 'read')} and {first.name} {first.contigs:,}: they are "
                "not the two files of read pairs, or one is cut short",
            )
        if first.names.digest() != second.names.digest():
            raise InputError(
                second.name, f"has other read ids than {first.name}, or in another order"
            )

    @property
    def contigs(self) -> int:
        """Contigs so far."""
        return sum(reader.contigs for reader in self.readers)

    @property
    def bases(self) -> int:
        """Bases so far."""
        return sum(reader.bases for reader in self.readers)

    @property
    def uracils(self) -> int:
        """Letters U so far, read as T."""
        return sum(reader.notes.uracils for reader in self.readers)

    def content_sha256(self) -> str:
        """Hash of the content; see `ContigReader.content_sha256`."""
        return self.readers[-1].content_sha256()
