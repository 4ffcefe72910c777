"""Which files make which samples: names made of file names, and sample sheets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from store.errors import UsageError
from store.io.tables import read_table
from store.location import require_local
from store.schema import check_sample_name
from vnp.sequence.compression import STDIN, InputError

_LONGEST_NAME = 128
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")
_SUFFIX = re.compile(
    r"(\.(fa|fas|fna|ffn|fasta|fq|fastq|bam|cram))?(\.(gz|bgz|zst|bz2))?", re.IGNORECASE
)
_DESCRIPTOR = re.compile(r"/(dev|proc/self)/fd/\d+")


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """A sample to be, and its files."""

    name: str
    files: tuple[str, ...]  # one, or the two of read pairs


def samples_of_files(files: Sequence[str], *, name: str | None = None) -> list[SampleFiles]:
    """One sample for each file, called ``name`` or after the file.

    `UsageError` if a name is illegal or no name can be made, or if two files give one name.
    """
    if name is not None and len(files) > 1:
        raise UsageError("--sample names one sample, and several files were given")
    return _checked([SampleFiles(name or sample_name_of(file), (file,)) for file in files])


def read_sheet(path: Path) -> list[SampleFiles]:
    """Read a sample sheet: a tab-separated table with the columns sample, file and maybe file2.

    File names are relative to the sheet. `TableError` names the line that is wrong, `UsageError` a
    name that is illegal or there twice.
    """
    samples: list[SampleFiles] = []
    for number, row in read_table(path, required=("sample", "file"), optional=("file2",)):
        files = [row["file"], row.get("file2", "")]
        try:
            check_sample_name(row["sample"])
        except UsageError as error:
            raise InputError(str(path), str(error), line=number) from None
        if not row["file"]:
            raise InputError(str(path), "the column file is empty", line=number)
        found = tuple(str(path.parent / file) for file in files if file)
        if row["sample"] in {sample.name for sample in samples}:
            what = f"{row['sample']} is the name of an earlier sample too; give each its own"
            raise InputError(str(path), what, line=number)
        samples.append(SampleFiles(row["sample"], found))
    if not samples:
        raise InputError(str(path), "the sheet names no sample")
    return _checked(samples)


def check_files(samples: Sequence[SampleFiles]) -> None:
    """Raise an `InputError` if a file is not there, or a pair is one file twice."""
    for sample in samples:
        for file in sample.files:
            if (fault := fault_of(file)) is not None:
                raise InputError(file, fault)
        if len(sample.files) == 2 and Path(sample.files[0]).samefile(sample.files[1]):
            raise InputError(sample.files[1], "is given as both files of the read pairs")


def fault_of(file: str) -> str | None:
    """Say why a file cannot even be opened, or None; UsageError if it is in a bucket."""
    if file == STDIN or _DESCRIPTOR.fullmatch(file):
        return None
    require_local(file)
    if Path(file).is_dir():
        return "is a directory; name the files in it"
    return None if Path(file).exists() else "there is no such file"


def _checked(samples: list[SampleFiles]) -> list[SampleFiles]:
    for sample in samples:
        check_sample_name(sample.name)
    twice = [name for name, times in Counter(each.name for each in samples).items() if times > 1]
    if twice:
        raise UsageError(
            f"{twice[0]} is the name of several samples; give each its own in a --sheet"
        )
    return samples


def sample_name_of(path: str | Path) -> str:
    """Name of a file less its suffixes, with ``_`` for what is illegal in a sample's name."""
    if str(path) == STDIN:
        raise UsageError("standard input has no name: give the sample one with --sample")
    if _DESCRIPTOR.fullmatch(str(path)) or Path(path).is_fifo():
        raise UsageError(f"{path} is a pipe and has no name: give the sample one with --sample")
    if Path(path).is_dir():
        raise UsageError(f"{path} is a directory: name the files in it")
    name = Path(path).name
    # The shortest stem that leaves nothing but suffixes behind it.
    stem = next(name[:at] for at in range(len(name) + 1) if _SUFFIX.fullmatch(name[at:]))
    stem = _ILLEGAL.sub("_", stem).lstrip(".-")[:_LONGEST_NAME]
    if not stem.strip("_"):
        raise UsageError(
            f"no sample name can be made of the file name {name!r}: give one with --sample"
        )
    return stem
