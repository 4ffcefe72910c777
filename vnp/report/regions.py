"""Regions of contigs that a user names, from a BED file, for the tracks of the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from store.errors import DataError
from store.location import require_local

_NO_REGION = re.compile(r"#|(track|browser)( |\r?\n?$)")  # tabs would make it a contig's name
_POSITION = re.compile("[0-9]{1,18}")
_MOST = 100_000  # regions of a file
_MOST_OF_CONTIG = 1000  # that are kept
_NAME = 60  # letters of a name that are kept


class GivenRegion(NamedTuple):
    """A stretch of a contig that has a name."""

    start: int  # first base, 0-based
    end: int  # one past the last base
    name: str


Regions: TypeAlias = Mapping[str, Sequence[GivenRegion]]  # by contig


def read_regions(path: Path) -> Regions:
    """Read contig, start, end and, if there is one, the name of each line of a BED file.

    Empty lines, comments and lines for a browser are skipped.

    Raises
    ------
    DataError
        If the file cannot be read, a line is not of this form, or there are too many.
    UsageError
        If it is in a bucket.
    """
    require_local(path)
    found: dict[str, list[GivenRegion]] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if number > _MOST:
                    raise DataError(f"{path} has more than {_MOST:,} lines: leave some out")
                if not line.strip() or _NO_REGION.match(line):
                    continue
                contig, region = _region(path, number, line)
                of_contig = found.setdefault(contig, [])
                if len(of_contig) < _MOST_OF_CONTIG:
                    of_contig.append(region)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text") from None
    return found


def _region(path: Path, number: int, line: str) -> tuple[str, GivenRegion]:
    cells = line.rstrip("\r\n").split("\t")
    numbers = cells[1:3]
    if len(numbers) != 2 or not all(map(_POSITION.fullmatch, numbers)):
        raise DataError(
            f"{path}, line {number}: a contig, a start and an end are wanted, separated by tabs"
        )
    contig, (start, end) = cells[0], map(int, numbers)
    if not 0 <= start < end < 1 << 53:
        raise DataError(f"{path}, line {number}: {start} to {end} is not a region")
    return contig, GivenRegion(start, end, cells[3][:_NAME] if len(cells) > 3 else "given region")
