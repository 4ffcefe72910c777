"""GenBank flat files, record by record: each is usable, or left out for a reason that is said.

A file is cut at its ``LOCUS`` and ``//`` lines, so the preamble of NCBI's release files and one
broken record do not hide the others; Biopython reads what lies between.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Bio import BiopythonWarning, SeqIO
from Bio.Seq import UndefinedSequenceError

from store.errors import DataError
from store.io.words import count
from vnp.sequence.compression import open_bytes

_LOCUS = re.compile(r"LOCUS\s+(.*\S)\s+(bp|aa)\s")
_RNA_TO_DNA = bytes.maketrans(b"Uu", b"TT")


class DatasetError(DataError):
    """The input files do not give the training set asked for: add or correct files."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record that was not used."""

    file: str
    record: int  # 1-based number in the file
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A usable record of a GenBank file."""

    file: str
    record: int
    id: str  # accession and version, or what there is of it
    sequence: bytes | None  # upper case, U as T; None if the file has none
    bases: int  # length that LOCUS states
    proteins: bytes  # translations of its coding sequences, separated by line feeds

    def left_out(self, reason: str) -> LeftOut:
        """Say why it cannot be used after all."""
        return LeftOut(self.file, self.record, self.id, reason)


def is_genbank(path: Path) -> bool:
    """Whether a file holds GenBank records; False for FASTA, `DatasetError` for anything else."""
    with open_bytes(path) as file:
        head = file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b">"):
        return False
    if head.startswith(b"LOCUS") or b"\nLOCUS " in head:
        return True
    raise DatasetError(f"{path} is neither a GenBank flat file (LOCUS ...) nor FASTA (>...)")


def read_genbank(path: Path) -> Iterator[Entry | LeftOut]:
    """Yield every record of a file; `DatasetError` if the file cannot be read to its end."""
    number = 0
    try:
        for lines, ended in _cut(path):
            number += 1
            yield _entry(str(path), number, lines, ended=ended)
    except DataError as error:
        raise DatasetError(f"{path}, after record {number}: {error}") from None


def _cut(path: Path) -> Iterator[tuple[list[str], bool]]:
    """Yield the lines of each record, and whether it ends with ``//``.

    Text between two records is yielded like one; what comes before the first is a preamble.
    """
    lines: list[str] = []
    between: list[str] | None = None
    with open_bytes(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="replace") as text:
        for line in text:
            if line.startswith("LOCUS"):
                if lines or between:
                    yield lines or between or [], False
                lines, between = [line], []
            elif lines:
                lines.append(line)
                if line.startswith("//"):
                    yield lines, True
                    lines = []
            elif between is not None and line.strip():
                between.append(line)
    if lines or between:
        yield lines or between or [], False


def _entry(file: str, number: int, lines: list[str], *, ended: bool) -> Entry | LeftOut:
    def left_out(reason: str, name: str = "") -> LeftOut:
        return LeftOut(file, number, name or _name(lines), reason)

    if not lines[0].startswith("LOCUS"):
        return left_out(f"text of no record, which begins with {lines[0].strip()[:60]!r}", "?")
    if not ended:
        return left_out("it has no // at its end: the file was cut short")
    locus = _LOCUS.match(lines[0])
    if locus is None:
        return left_out("its LOCUS line names no length in bp")
    if locus[2] == "aa":
        return left_out("a protein record (GenPept); give the nucleotide record it is coded by")
    origin = next((at for at, line in enumerate(lines) if line.startswith("ORIGIN")), len(lines))
    found = sum(sum(map(str.isalpha, line)) for line in lines[origin + 1 :])
    name, _, length = locus[1].rpartition(" ")
    if found and not name and length.endswith(str(found)):
        # Some programs let a long name run into the length.
        name, length = length.removesuffix(str(found)), str(found)
        lines = [f"LOCUS       {name} {length} bp{lines[0][locus.end(2) :]}", *lines[1:]]
    if not length.isdecimal():
        return left_out(f"its LOCUS line names no length in bp: {locus[1]!r}")
    if found and found != int(length):
        return left_out(f"its sequence has {count(found, 'base')} where LOCUS says {int(length):,}")
    parse: Any = SeqIO.read  # without type hints
    try:
        with warnings.catch_warnings():
            # Biopython warns of header lines that are a column off; what it reads is right.
            warnings.simplefilter("ignore", BiopythonWarning)
            record = parse(io.StringIO("".join(lines)), "genbank")
    except ValueError as error:
        return left_out(f"not a GenBank record ({error})")
    if not record.id or any(not "!" <= letter <= "~" for letter in record.id):
        return left_out("its id is not printable ASCII", repr(record.id))
    coding = [feature for feature in record.features if feature.type == "CDS"]
    translations = [feature.qualifiers.get("translation", [""])[0] for feature in coding]
    # No frame contains a line feed, so none matches across two proteins.
    proteins = "\n".join(filter(None, translations)).encode()
    if not proteins:
        reason = f"no coding sequence (CDS) of {len(coding):,} has a /translation"
        return left_out(reason if coding else "it has no coding sequence (CDS)", record.id)
    return Entry(file, number, record.id, _sequence(record), int(length), proteins)


def _name(lines: list[str]) -> str:
    """Name a record that was not parsed: its version, or what its LOCUS line begins with."""
    for line in lines[:20]:
        if line.startswith("VERSION") and len(line.split()) > 1:
            return line.split()[1]
    return [*lines[0].split(), "?"][1]


def _sequence(record: Any) -> bytes | None:
    try:
        return bytes(record.seq).upper().translate(_RNA_TO_DNA) or None
    except UndefinedSequenceError:
        return None
