"""Viral contigs as FASTA, taken from the files that were appended.

A store keeps the stop-free frames of segments, not contigs, so their sequences come from the
original files. Each file is matched to a sample: by its bytes, by its name, or as the only one.
Contigs are found by id, numbered as an append numbers ids that occur twice; whether the file has
the content that was appended is known when it has been read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from store.errors import DataError, UsageError
from store.io.replace import replacing
from store.io.words import count
from store.schema import Sample
from vnp.classify.calls import Contig
from vnp.sequence.append import files_sha256
from vnp.sequence.compression import InputError
from vnp.sequence.contig_ids import Duplicates, UniqueIds
from vnp.sequence.fastx import SampleReader
from vnp.sequence.samples import fault_of, sample_name_of

log = logging.getLogger(__name__)

_WIDTH = 80  # bases a line


@dataclass(frozen=True, slots=True)
class ViralContig:
    """What the header of a viral contig says."""

    end: int  # one past the last base of its last called window
    windows: int  # called windows
    viral: int  # of these, viral
    mean: float  # mean score2

    @classmethod
    def of(cls, contig: Contig) -> ViralContig:
        """Keep of a called contig what is written."""
        return cls(contig.end, contig.windows, contig.viral, contig.mean)


Wanted = dict[bytes, ViralContig]  # by contig id


@dataclass(frozen=True, slots=True)
class SampleSource:
    """The file of a sample, or the two of read pairs."""

    sample: Sample
    files: tuple[str, ...]


def match_files(files: Sequence[str], samples: Sequence[Sample]) -> list[SampleSource]:
    """Tell which sample each file, or two files in a row, was appended as.

    `UsageError` if that cannot be told; `InputError` if one is not a file that can be read twice.
    """
    for file in files:
        fault = fault_of(file)
        if fault is None and not Path(file).is_file():
            fault = "is a stream; name the file itself, which is read twice"
        if fault is not None:
            raise InputError(file, fault)
    found: list[SampleSource] = []
    named: set[str] = set()
    at = 0
    while at < len(files):
        # Two samples may hold the same content: the one that has no file yet comes first.
        free_first = sorted(samples, key=lambda sample: sample.name in named)
        size, sample = _match(files, at, free_first)
        found.append(SampleSource(sample, tuple(files[at : at + size])))
        named.add(sample.name)
        at += size
    for sample in samples:
        if sample.name not in named:
            log.warning(
                f"none of the files is that of sample {sample.name} ({sample.source}): its viral "
                "contigs will be missing; name it too, or choose samples with --sample"
            )
    return found


def _match(files: Sequence[str], at: int, samples: Sequence[Sample]) -> tuple[int, Sample]:
    """Tell how many files from ``at`` on are one sample, and which."""
    for size in (1, 2)[: len(files) - at]:
        sha256 = files_sha256(files[at : at + size])
        for sample in samples:
            if sample.file_sha256 == sha256:
                return size, sample
    for size in (1, 2)[: len(files) - at]:
        names = " ".join(Path(file).name for file in files[at : at + size])
        for sample in samples:
            if sample.source == names:
                return size, sample
    for sample in samples:
        if sample.name == sample_name_of(files[at]):
            return 1, sample
    if len(samples) == 1:
        return 1, samples[0]
    known = ", ".join(f"{sample.name} ({sample.source})" for sample in samples[:10])
    raise UsageError(
        f"{files[at]} is the file of none of the samples, by content or by name: {known}; choose "
        "its sample with --sample"
    )


def write_viral(
    path: Path,
    sources: Sequence[SampleSource],
    wanted: Mapping[str, Wanted],
    *,
    prefixed: bool,
    force: bool,
) -> dict[str, list[bytes]]:
    """Write the wanted contigs of each sample to the FASTA file ``path``, in file order.

    Sequences are upper case with U as T, as everything else read them; ``prefixed`` puts the
    sample's name and a bar before ids. Returns by sample the ids that no file has, in the order
    in which they were wanted.

    Raises
    ------
    UsageError
        If ``path`` exists, without ``force``.
    DataError
        If a file cannot be read, or holds a contig shorter than what was called on it.
    """
    missing = {name: dict(of_sample) for name, of_sample in wanted.items()}
    with replacing(path, force=force) as part, part.open("wb") as output:
        for source in sources:
            name = source.sample.name
            prefix = f"{name}|".encode() if prefixed else b""
            _copy(source, missing.get(name, {}), prefix, output)
    return {name: list(left) for name, left in missing.items() if left}


def _copy(source: SampleSource, left: Wanted, prefix: bytes, output: BinaryIO) -> None:
    """Write the contigs of a sample that its files have, and take them out of ``left``."""
    with (
        # What cannot be used was refused or skipped by the append: either way it has no call.
        SampleReader(source.files, skip=True) as reader,
        UniqueIds(Duplicates.NUMBER, source=reader.name) as unique,
    ):
        for batch in unique.batches(reader):
            for at, contig_id in enumerate(batch.ids):
                if (contig := left.get(contig_id)) is None:
                    continue
                sequence = batch.sequence[at]
                if len(sequence) < contig.end:
                    raise DataError(
                        f"{reader.name}: {contig_id.decode()} has {count(len(sequence), 'base')}, "
                        f"and that of sample {source.sample.name} at least {contig.end:,}: this is "
                        "another file than the one that was appended"
                    )
                del left[contig_id]
                header = (
                    f" sample={source.sample.name} viral_segments={contig.viral}/{contig.windows}"
                    f" mean_score2={contig.mean:.6g}"
                )
                output.write(b">" + prefix + contig_id + header.encode() + b"\n")
                output.writelines(_lines(sequence))
        same = reader.content_sha256() == source.sample.content
    if not same:
        log.warning(
            f"{reader.name} has not the content of sample {source.sample.name}, appended "
            f"{source.sample.appended}: contigs were taken by their ids alone"
        )


def _lines(sequence: bytes) -> Iterator[bytes]:
    for at in range(0, len(sequence), _WIDTH):
        yield sequence[at : at + _WIDTH] + b"\n"
