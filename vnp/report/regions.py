"""Regions of contigs that a user names, from a BED file, for the tracks of the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from store.errors import DataError
from store.io.words import count
from store.location import require_local
from vnp.report.data import ContigList

_NO_REGION = re.compile(r"#|(track|browser)( |\r?\n?$)")  # tabs would make it a contig's name
_POSITION = re.compile("[0-9]{1,18}")
_MOST = 100_000  # regions of a file
_MOST_OF_CONTIG = 1000
_NAME = 60  # letters of a name that are kept


class GivenRegion(NamedTuple):
    """A stretch of a contig that has a name."""

    start: int  # first base, 0-based
    end: int  # one past the last base
    name: str
    where: str  # file and line that name it


Regions: TypeAlias = Mapping[str, Sequence[GivenRegion]]  # by contig
TrackRegions: TypeAlias = Mapping[int, Sequence[GivenRegion]]  # by the number of the track


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
                if len(of_contig) == _MOST_OF_CONTIG:
                    raise DataError(
                        f"{path}, line {number}: a track has room for {_MOST_OF_CONTIG:,} regions "
                        "of a contig, and this is one more: leave some out"
                    )
                of_contig.append(region)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text") from None
    return found


def on_tracks(
    given: Regions, listed: ContigList | None, *, end: str
) -> tuple[TrackRegions, list[str]]:
    """Regions of the tracks that a page has, cut where the contig ends, and what is to be told.

    ``end`` says what a track ends with: a store of earlier code does not know the contig's end.
    """
    names = () if listed is None else listed.names[: len(listed.tracks)]
    found: dict[int, Sequence[GivenRegion]] = {}
    shown: set[GivenRegion] = set()
    cut: set[GivenRegion] = set()
    for at, contig in enumerate(names):
        assert listed is not None  # it has names
        bases = int(listed.contigs.bases[at])
        inside = [each for each in given.get(contig, ()) if each.start < bases]
        if inside:
            found[at] = [each._replace(end=min(each.end, bases)) for each in inside]
        shown.update(inside)
        cut.update(each for each in inside if each.end > bases)
    every = [each for regions in given.values() for each in regions]
    lost = [each for each in every if each not in shown]
    ends = [each for each in every if each in cut]
    told = []
    if lost:
        told.append(
            f"left out {_first(lost)}: of no contig with a track on the page, or beyond {end}"
        )
    if ends:
        told.append(f"cut {_first(ends)} at {end}")
    return found, told


def _first(regions: Sequence[GivenRegion]) -> str:
    if len(regions) == 1:
        return f"1 region ({regions[0].where})"
    return f"{count(len(regions), 'region')} (the first: {regions[0].where})"


def _region(path: Path, number: int, line: str) -> tuple[str, GivenRegion]:
    cells = line.rstrip("\r\n").split("\t")
    numbers = cells[1:3]
    if len(numbers) != 2 or not all(map(_POSITION.fullmatch, numbers)):
        raise DataError(
            f"{path}, line {number}: a contig, a start and an end are wanted, separated by tabs"
        )
    contig, (start, end) = cells[0], map(int, numbers)
    if not start < end < 1 << 53:
        raise DataError(f"{path}, line {number}: {start} to {end} is not a region")
    name = cells[3][:_NAME] if len(cells) > 3 else "given region"
    return contig, GivenRegion(start, end, name, f"{path}, line {number}")
