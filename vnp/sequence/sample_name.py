"""The name of a sample, made from the name of its file."""

from __future__ import annotations

import re
from pathlib import Path

from store.errors import UsageError
from store.schema import check_sample_name
from vnp.sequence.compression import STDIN

_LONGEST = 128
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")
_SUFFIX = re.compile(r"(\.(fa|fas|fna|ffn|fasta|fq|fastq))?(\.(gz|bgz|zst|bz2))?", re.IGNORECASE)


def sample_name_of(path: str | Path) -> str:
    """Name of a file less its suffixes, with ``_`` for what is illegal in a sample's name.

    Raises
    ------
    UsageError
        If nothing legal is left, or the input is standard input.
    """
    if str(path) == STDIN:
        raise UsageError("standard input has no name: give the sample one with --sample")
    name = Path(path).name
    # The shortest stem that leaves nothing but suffixes behind it.
    stem = next(name[:at] for at in range(len(name) + 1) if _SUFFIX.fullmatch(name[at:]))
    stem = _ILLEGAL.sub("_", stem).lstrip(".-")[:_LONGEST]
    if not stem.strip("_"):
        raise UsageError(
            f"no sample name can be made of the file name {name!r}: give one with --sample"
        )
    check_sample_name(stem)
    return stem
