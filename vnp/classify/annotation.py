"""Annotated genomes as the training recipe reads them: sequences, and proteins by record.

GenBank flat files give the translations of their coding sequences, and sequences where they carry
them; FASTA files give sequences of records whose GenBank entry has none (NCBI publishes both).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Bio import BiopythonWarning, SeqIO
from Bio.Seq import UndefinedSequenceError

from store.errors import DataError
from store.io.ragged import from_items
from vnp.sequence.compression import open_bytes
from vnp.sequence.fastx import ContigBatch, ContigReader


class DatasetError(DataError):
    """The input files do not give the training set asked for: add or correct files."""


@dataclass(frozen=True, slots=True)
class Genome:
    """One annotated sequence."""

    contig: ContigBatch  # its id and upper-case bases, a batch of one
    proteins: bytes  # translations of its coding sequences, separated by line feeds

    @property
    def id(self) -> str:
        """Record id, accession and version."""
        return self.contig.ids[0].decode()


def read_genomes(paths: Sequence[Path]) -> Iterator[Genome]:
    """Read the genomes of a group: every GenBank record with a sequence, its own or a FASTA one.

    Files come in any order, recognised by content, plain or compressed. Sequences of GenBank files
    come first, then those of FASTA files. `DatasetError` if there is no GenBank file; that and
    `InputError` name a file that is neither or is damaged.
    """
    genbank: list[Path] = []
    fasta: list[Path] = []
    for path in paths:
        (genbank if _is_genbank(path) else fasta).append(path)
    if not genbank:
        raise DatasetError(
            f"none of {', '.join(map(str, paths))} is a GenBank file: the recipe needs annotated "
            "proteins"
        )
    waiting: dict[bytes, bytes] = {}  # proteins of records whose sequence is elsewhere
    for path in genbank:
        for record in _records(path):
            proteins = _proteins(record)
            sequence = _sequence(record)
            if sequence is not None:
                yield Genome(_contig(path, record.id.encode(), sequence), proteins)
            elif fasta:
                waiting[record.id.encode()] = proteins
    for path in fasta:
        with ContigReader(path) as reader:
            for batch in reader:
                for at, contig in enumerate(batch.ids):
                    if contig in waiting:
                        alone = batch.sequence.slice(at, at + 1)
                        one = ContigBatch(batch.first + at, [contig], alone)
                        yield Genome(one, waiting[contig])


def _is_genbank(path: Path) -> bool:
    with open_bytes(path) as file:
        head = file.read(4096).lstrip()
    if head.startswith(b"LOCUS"):
        return True
    if head.startswith(b">"):
        return False
    raise DatasetError(f"{path} is neither a GenBank flat file (LOCUS ...) nor FASTA (>...)")


def _records(path: Path) -> Iterator[Any]:
    parse: Any = SeqIO.parse  # without type hints
    number = 0
    try:
        with (
            open_bytes(path) as file,
            io.TextIOWrapper(file, "utf-8", errors="replace") as text,
            warnings.catch_warnings(),
        ):
            # Biopython warns of header lines that are a column off; what it reads is right.
            warnings.simplefilter("ignore", BiopythonWarning)
            for record in parse(text, "genbank"):
                number += 1
                yield record
    except DataError as error:
        raise DatasetError(f"{path}, after record {number}: {error}") from None
    except ValueError as error:
        raise DatasetError(f"{path}, record {number + 1}: not a GenBank record ({error})") from None


def _proteins(record: Any) -> bytes:
    """Translations as the file states them; a coding sequence without one gives none."""
    return b"\n".join(  # not an amino acid, so no frame matches across two proteins
        feature.qualifiers["translation"][0].encode()
        for feature in record.features
        if feature.type == "CDS" and feature.qualifiers.get("translation")
    )


def _sequence(record: Any) -> bytes | None:
    try:
        return bytes(record.seq).upper() or None
    except UndefinedSequenceError:
        return None


def _contig(path: Path, name: bytes, sequence: bytes) -> ContigBatch:
    if not name or any(not 0x21 <= byte < 0x7F for byte in name):
        raise DatasetError(f"{path}: the record id {name!r} is not printable ASCII")
    return ContigBatch(1, [name], from_items([sequence]))
