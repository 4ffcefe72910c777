"""Annotated genomes as the training recipe reads them: sequences, and proteins by record.

GenBank flat files give the proteins of their coding sequences, and sequences where they carry
them; FASTA files give sequences of records whose GenBank entry has none (NCBI publishes both).
Every record of every file is a genome, or is left out with its own reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.io.ragged import from_items
from store.io.words import count
from vnp.classify.genbank import DatasetError, Entry, LeftOut, is_genbank, read_genbank
from vnp.sequence.fastx import ContigBatch, ContigReader


@dataclass(frozen=True, slots=True)
class Genome:
    """One annotated sequence."""

    contig: ContigBatch  # its id and upper-case bases, a batch of one
    proteins: bytes  # translations of its coding sequences, separated by line feeds

    @property
    def id(self) -> str:
        """Record id, accession and version."""
        return self.contig.ids[0].decode()


def read_genomes(
    paths: Sequence[Path], *, seen: dict[str, str] | None = None
) -> Iterator[Genome | LeftOut]:
    """Read the genomes of a group: every GenBank record with a sequence, its own or a FASTA one.

    Files come in any order, recognised by content, plain or compressed. Sequences of GenBank files
    come first, then those of FASTA files; what is left out is yielded when it is known. An
    accession that is in ``seen``, which gets those read here, is not used again.
    `DatasetError` if there is no GenBank file; that and `InputError` name a file that is neither
    or is damaged.
    """
    genbank: list[Path] = []
    fasta: list[Path] = []
    for path in paths:
        (genbank if is_genbank(path) else fasta).append(path)
    if not genbank:
        raise DatasetError(
            f"none of {', '.join(map(str, paths))} is a GenBank file: the recipe needs annotated "
            "proteins"
        )
    waiting = _Waiting()
    first_read = {} if seen is None else seen  # by accession: id and file
    for path in genbank:
        for entry in read_genbank(path):
            if isinstance(entry, LeftOut):
                yield entry
                continue
            accession = _accession(entry.id)[0]
            if accession in first_read:
                yield entry.left_out(f"its accession was read before: {first_read[accession]}")
                continue
            first_read[accession] = f"{entry.id} in {path}"
            if entry.sequence is None:
                waiting.add(entry)
            else:
                waiting.complete.add(entry.id)
                yield _genome(entry, entry.sequence)
    for path in fasta:
        with ContigReader(path) as reader:
            for batch in reader:
                for at, contig in enumerate(batch.ids):
                    name, sequence = contig.decode(errors="replace"), batch.sequence[at]
                    found = waiting.find(name)
                    if isinstance(found, Entry) and len(sequence) == found.bases:
                        waiting.take(found)
                        yield _genome(found, sequence)
                        continue
                    if isinstance(found, Entry):
                        found = (
                            f"it has {count(len(sequence), 'base')} where LOCUS of its "
                            f"GenBank record says {found.bases:,}"
                        )
                    yield LeftOut(str(path), batch.first + at, name, found)
    for entry in waiting.left():
        yield entry.left_out("it has no sequence, and no FASTA file given has one of its accession")


def _genome(entry: Entry, sequence: bytes) -> Genome:
    contig = ContigBatch(1, from_items([entry.id.encode()]), from_items([sequence]))
    return Genome(contig, entry.proteins)


class _Waiting:
    """GenBank records that wait for their sequence, found by what FASTA headers call them."""

    def __init__(self) -> None:
        self.complete: set[str] = set()  # ids of records that have a sequence
        self.taken: set[str] = set()  # ids of records that got one
        self._entries: dict[str, Entry] = {}
        self._versions: dict[str, list[str]] = {}  # ids by accession without version

    def add(self, entry: Entry) -> None:
        self._entries[entry.id] = entry
        self._versions.setdefault(_accession(entry.id)[0], []).append(entry.id)

    def take(self, entry: Entry) -> None:
        """Its sequence was found."""
        del self._entries[entry.id]
        self.taken.add(entry.id)

    def find(self, name: str) -> Entry | str:
        """Record of a sequence called ``ACC.V``, ``ACC`` or ``gi|..|ref|ACC.V|``, or why not."""
        parts = [name, *filter(None, name.split("|"))]
        for part in parts:
            if part in self._entries:
                return self._entries[part]
        reason = "no GenBank record given has its accession"
        for part in parts:
            if part in self.taken:
                return "its accession was read before, from a FASTA file"
            if part in self.complete:
                return "the GenBank record of its accession has a sequence already"
            accession, version = _accession(part)
            known = [each for each in self._versions.get(accession, ()) if each in self._entries]
            if len(known) == 1 and not (version and _accession(known[0])[1]):
                return self._entries[known[0]]
            if known:
                reason = f"the GenBank record has another version: {', '.join(known)}"
        return reason

    def left(self) -> Iterator[Entry]:
        yield from self._entries.values()


def _accession(name: str) -> tuple[str, str]:
    """Split an id into accession and version; the version is empty if there is none."""
    accession, _, version = name.rpartition(".")
    return (accession, version) if accession and version.isdecimal() else (name, "")
