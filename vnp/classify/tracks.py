"""Viral regions as BED and GFF3, which genome browsers, bedtools and pipelines read.

BED
    Six columns, 0-based and half-open: contig, start, end, ``contig|region_1``, the mean
    consensus times 1000 as a whole number, ``.`` as the strand.
GFF3
    1-based and closed, one ``viral_sequence`` (SO:0001041) a region, the mean consensus in column
    6; attributes ID, Name, segments, viral_segments, mean_consensus and best_consensus.

Ids come from strangers. GFF3 has an escape, percent signs, and says for what. BED has none: there
it is applied to what would break a line or hide it as a comment, and other ids stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from store.io.replace import replacing
from vnp.classify.regions import Region

GFF_HEADER = "##gff-version 3\n"
# What the specification of GFF3 allows unescaped in column 1, and forbids in column 9.
_NOT_SEQID = re.compile(r"[^a-zA-Z0-9.:^*$@!+_?|-]")
_NOT_VALUE = re.compile(r"[\x00-\x1f\x7f%;=&,\s]")
_NOT_BED = re.compile(r"[\x00-\x1f\x7f\s]|^#")


def bed_line(contig: str, number: int, region: Region) -> str:
    """Line of the region ``number`` (from 1) of a contig, with its line end."""
    name = _escaped(_NOT_BED, contig)
    return (
        f"{name}\t{region.start}\t{region.end}\t{name}|region_{number}\t"
        f"{round(1000 * region.mean)}\t.\n"
    )


def gff_line(contig: str, number: int, region: Region) -> str:
    """Line of the region ``number`` (from 1) of a contig, with its line end."""
    name = f"{_escaped(_NOT_VALUE, contig)}|region_{number}"
    attributes = {
        "ID": name,
        "Name": name,
        "segments": region.windows,
        "viral_segments": region.viral,
        "mean_consensus": f"{region.mean:.6g}",
        "best_consensus": f"{region.best:.6g}",
    }
    text = ";".join(f"{key}={value}" for key, value in attributes.items())
    return (
        f"{_escaped(_NOT_SEQID, contig)}\tvnp\tviral_sequence\t{region.start + 1}\t{region.end}\t"
        f"{region.mean:.6g}\t.\t.\t{text}\n"
    )


class RegionFiles:
    """Writes regions to the files that are wanted, which are open; None for one that is not."""

    def __init__(self, bed: TextIO | None, gff: TextIO | None) -> None:
        self._bed = bed
        self._gff = gff
        if gff is not None:
            gff.write(GFF_HEADER)

    def write(self, contig: str, regions: Sequence[Region]) -> None:
        """Write the regions of a contig."""
        for number, region in enumerate(regions, start=1):
            if self._bed is not None:
                self._bed.write(bed_line(contig, number, region))
            if self._gff is not None:
                self._gff.write(gff_line(contig, number, region))


@contextmanager
def region_files(bed: Path | None, gff: Path | None, *, force: bool) -> Iterator[RegionFiles]:
    """Yield what writes the files; they get their names if the body succeeds.

    `UsageError` if one exists, without ``force``.
    """
    with ExitStack() as stack:

        def opened(path: Path | None) -> TextIO | None:
            if path is None:
                return None
            part = stack.enter_context(replacing(path, force=force))
            return stack.enter_context(part.open("w", newline="\n"))

        yield RegionFiles(opened(bed), opened(gff))


def _escaped(forbidden: re.Pattern[str], text: str) -> str:
    return forbidden.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)
