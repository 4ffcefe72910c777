"""Annotated genomes as people have them: every record is used, or named with its own reason."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from vnp.classify.annotation import Genome, read_genomes
from vnp.classify.genbank import DatasetError, LeftOut
from vnp.cli.main import main

BASES = "".join(random.Random(1).choices("ACGT", k=300))


def record(
    name: str = "VV_000000",
    *,
    version: str = ".1",
    locus: str | None = None,
    sequence: str | None = BASES,
    feature: str = '     CDS             1..300\n                     /translation="MKVAC"\n',
    end: str = "//\n",
) -> str:
    lines = [
        locus
        or f"LOCUS       {name:16} {len(sequence or BASES)} bp    DNA     linear   VRL 01-JAN-2024",
        "DEFINITION  made-up sequence.",
        f"ACCESSION   {name}",
        f"VERSION     {name}{version}" if version else "VERSION",
        "FEATURES             Location/Qualifiers",
        '     source          1..300\n                     /organism="none"',
        feature.rstrip("\n"),
    ]
    if sequence is None:
        lines.append("CONTIG      join(XX000003.1:1..300)")
    else:
        lines.append("ORIGIN")
        lines += [
            f"{at + 1:9} "
            + " ".join(sequence[at : at + 60].lower()[k : k + 10] for k in range(0, 60, 10))
            for at in range(0, len(sequence), 60)
        ]
    return "\n".join(lines) + "\n" + end


def read(tmp_path: Path, *contents: str) -> tuple[list[Genome], list[LeftOut]]:
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"file{number}")
        paths[-1].write_text(content)
    found = list(read_genomes(paths))
    genomes = [each for each in found if isinstance(each, Genome)]
    return genomes, [each for each in found if isinstance(each, LeftOut)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (record(end=""), "no // at its end"),
        (record().replace(" 300 bp", " 360 bp"), "has 300 bases where LOCUS says 360"),
        (record(locus="LOCUS       VV_000000      700 aa   linear   VRL 01-JAN-2024"), "GenPept"),
        (record(feature=""), "no coding sequence"),
        (record(feature="     CDS             1..300\n"), "has a /translation"),
        (record(sequence=None), "no FASTA file given has one"),
        (record().replace("        1 ", "1", 1), "not a GenBank record"),
        (record(locus="LOCUS       VV_000000"), "names no length"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_and_hides_no_other(
    tmp_path: Path, content: str, reason: str
) -> None:
    genomes, [left] = read(tmp_path, content + record("VV_000001"))
    assert [genome.id for genome in genomes] == ["VV_000001.1"]
    assert (left.record, left.id) == (1, "VV_000000.1")
    assert reason in left.reason


def test_a_release_file_with_its_preamble_is_read(tmp_path: Path) -> None:
    preamble = "GBVRL1.SEQ          Genetic Sequence Data Bank\n\n       1 loci,   300 bases\n\n\n"
    genomes, left = read(tmp_path, preamble + record())
    assert [genome.id for genome in genomes] == ["VV_000000.1"]
    assert left == []


def test_a_name_that_runs_into_its_length_is_told_from_it(tmp_path: Path) -> None:
    locus = "LOCUS       NODE_0_length_191762_cov_13.6631300 bp   DNA linear   01-JAN-2024"
    content = record("", version="", locus=locus)
    genomes, left = read(tmp_path, content)
    assert [genome.id for genome in genomes] == ["NODE_0_length_191762_cov_13.6631"]
    assert left == []


def test_rna_letters_are_read_as_dna(tmp_path: Path) -> None:
    [genome], _ = read(tmp_path, record(sequence=BASES.replace("T", "U")))
    assert genome.contig.sequence[0] == BASES.encode()


@pytest.mark.parametrize("name", ["VV_000000.1", "gi|900|ref|VV_000000.1|", "VV_000000"])
def test_a_sequence_is_found_by_what_fasta_headers_call_it(tmp_path: Path, name: str) -> None:
    [genome], left = read(tmp_path, record(sequence=None), f">{name} phage\n{BASES}\n")
    assert genome.id == "VV_000000.1"
    assert genome.contig.sequence[0] == BASES.encode()
    assert left == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("VV_000000.2", "another version: VV_000000.1"),
        ("WW_000000.1", "no GenBank record given has its accession"),
        ("VV_000009.1", "has a sequence already"),
    ],
)
def test_what_is_left_of_a_join_is_named_on_both_sides(
    tmp_path: Path, name: str, reason: str
) -> None:
    genbank = record(sequence=None) + record("VV_000009")
    _, [fasta, waiting] = read(tmp_path, genbank, f">{name}\n{BASES}\n")
    assert (fasta.id, reason in fasta.reason) == (name, True)
    assert waiting.id == "VV_000000.1"


def test_an_accession_in_two_files_is_used_once(tmp_path: Path) -> None:
    [genome], [left] = read(tmp_path, record(), record())
    assert genome.id == left.id == "VV_000000.1"
    assert left.reason == f"its accession was read before: VV_000000.1 in {tmp_path / 'file0'}"


def test_two_versions_of_an_accession_are_one_genome(tmp_path: Path) -> None:
    [genome], [left] = read(tmp_path, record() + record(version=".2"))
    assert (genome.id, left.id) == ("VV_000000.1", "VV_000000.2")
    assert "was read before: VV_000000.1" in left.reason


@pytest.mark.parametrize("at", ["between", "end"])
def test_text_that_belongs_to_no_record_is_named(tmp_path: Path, at: str) -> None:
    last = record("VV_000001")
    stray = "\nhalf a record of another file\n"
    preamble = "GBVRL1.SEQ  Genetic Sequence Data Bank\n"  # NCBI's own, before the first record
    text = record() + stray + last if at == "between" else record() + last + stray
    genomes, [left] = read(tmp_path, preamble + text)
    assert [genome.id for genome in genomes] == ["VV_000000.1", "VV_000001.1"]
    assert "'half a record of another file'" in left.reason


def test_fasta_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is a GenBank file"):
        read(tmp_path, f">a\n{BASES}\n")


def test_the_command_says_what_was_left_out_with_its_own_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from Bio.Seq import Seq

    protein = str(Seq(BASES).translate()).split("*")[0]
    feature = f'     CDS             1..300\n                     /translation="{protein}"\n'
    for group, more in (("viral", record("=X", feature="")), ("plant", "")):
        (tmp_path / f"{group}.gb").write_text(record(group.upper(), feature=feature) + more)
    command = ["dataset", "-o", str(tmp_path / "set"), "--part-records", "1", "--json"]
    command += ["--segment-length", str(3 * len(protein))]
    for group in ("viral", "plant"):
        command += ["--input", group, str(tmp_path / f"{group}.gb")]
    assert main(command) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["groups"]["viral"]["left_out"] == 1
    table = Path(report["left_out"]).read_text().splitlines()
    assert table[0] == "group\tfile\trecord\tid\treason"
    assert table[1].split("\t")[2:] == ["2", "'=X.1", "it has no coding sequence (CDS)"]


def test_a_sequence_of_another_length_does_not_displace_the_right_one(tmp_path: Path) -> None:
    fasta = "".join(f">VV_000000.1\n{bases}\n" for bases in (BASES[:200], BASES, BASES))
    [genome], [short, again] = read(tmp_path, "\ufeff" + record(sequence=None), fasta)
    assert genome.contig.sequence[0] == BASES.encode()
    assert (short.record, again.record) == (1, 3)
    assert "has 200 bases where LOCUS of its GenBank record says 300" in short.reason
    assert "read before" in again.reason


def test_an_accession_is_used_in_one_group_only(tmp_path: Path) -> None:
    path = tmp_path / "a.gb"
    path.write_text(record())
    seen: dict[str, str] = {}
    assert [type(each) for each in read_genomes([path], seen=seen)] == [Genome]
    [left] = read_genomes([path], seen=seen)
    assert isinstance(left, LeftOut)
    assert "was read before: VV_000000.1" in left.reason
