"""BED and GFF3 of regions: coordinates, scores, and ids that come from strangers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import UsageError
from vnp.classify.regions import Region
from vnp.classify.tracks import bed_line, gff_line, region_files

REGION = Region(start=1000, end=4500, windows=7, viral=6, mean=0.87654321, best=0.99)


def test_coordinates_and_scores() -> None:
    assert bed_line("c1", 2, REGION) == "c1\t1000\t4500\tc1|region_2\t877\t.\n"
    assert gff_line("c1", 2, REGION) == (
        "c1\tvnp\tviral_sequence\t1001\t4500\t0.876543\t.\t.\tID=c1|region_2;Name=c1|region_2;"
        "segments=7;viral_segments=6;mean_consensus=0.876543;best_consensus=0.99\n"
    )
    for mean, score in ((0.0, "0"), (1.0, "1000")):
        line = bed_line("c", 1, Region(0, 500, 1, 1, mean, mean))
        assert line.split("\t")[4] == score


def test_ids_are_escaped_where_a_format_asks_for_it() -> None:
    hostile = "a\tb\nc;d=e%f&g,h"
    assert bed_line(hostile, 1, REGION).startswith("a%09b%0Ac;d=e%f&g,h\t1000\t4500\t")
    fields = gff_line(hostile, 1, REGION).split("\t")
    assert len(fields) == 9
    assert fields[0] == "a%09b%0Ac%3Bd%3De%25f%26g%2Ch"
    assert fields[8].startswith("ID=a%09b%0Ac%3Bd%3De%25f%26g%2Ch|region_1;Name=")
    assert gff_line(">c", 1, REGION).startswith("%3Ec\t")
    assert gff_line("#c", 1, REGION).startswith("%23c\t")
    assert bed_line("#c", 1, REGION).startswith("%23c\t")
    assert bed_line("gi|9626243|ref|NC_001416.1|", 1, REGION).startswith("gi|9626243|ref|NC_")


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.text(min_size=1, max_size=20))
def test_every_id_gives_one_line_that_reads_back(contig: str) -> None:
    for line, columns in ((bed_line(contig, 1, REGION), 6), (gff_line(contig, 1, REGION), 9)):
        assert line.splitlines() == [line[:-1]]
        assert len(line.split("\t")) == columns
        assert not line.startswith("#")
    fields = gff_line(contig, 1, REGION).rstrip("\n").split("\t")
    assert unquote(fields[0]) == contig
    attributes = dict(pair.split("=") for pair in fields[8].split(";"))
    assert unquote(attributes["ID"]) == f"{contig}|region_1"


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    bed, gff = tmp_path / "v.bed", tmp_path / "v.gff3"
    broken = Region(0, 1, 1, 1, float("nan"), 1.0)  # a score that BED cannot have
    with pytest.raises(ValueError, match="NaN"), region_files(bed, gff, force=False) as files:
        files.write("c", [REGION, broken])
    assert list(tmp_path.iterdir()) == []
    with region_files(bed, None, force=False) as files:
        files.write("c", [REGION, REGION])
    assert [path.name for path in tmp_path.iterdir()] == ["v.bed"]
    assert [line.split("\t")[3] for line in bed.read_text().splitlines()] == [
        "c|region_1",
        "c|region_2",
    ]
    with pytest.raises(UsageError, match="--force"), region_files(bed, gff, force=False):
        pass
    with region_files(bed, gff, force=True):
        pass
    assert bed.read_text() == ""
    assert gff.read_text() == "##gff-version 3\n"
