"""Training sets by the published recipe, held to a slow, obvious implementation."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable
from pathlib import Path

import pandas
import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from store.open import create_store
from store.schema import Model
from tests.vnp.sequence import slow_rules
from vnp.classify.labels import label_rows, read_labels
from vnp.cli.main import main
from vnp.sequence.append import append_file

SENSE = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
SENSE = [codon for codon in SENSE if codon not in ("TAA", "TAG", "TGA")]


def genome(name: str, seed: int) -> SeqRecord:
    """Three genes on both strands, an ambiguous letter, a coding sequence without translation."""
    rng = random.Random(seed)
    sequence, features = "", []
    for gene in range(4):
        sequence += "".join(rng.choice("ACGT") for _ in range(80))
        body = Seq("ATG" + "".join(rng.choice(SENSE) for _ in range(330)) + "TAA")
        at, strand = len(sequence), 1 if gene % 2 == 0 else -1
        sequence += str(body if strand == 1 else body.reverse_complement())
        qualifiers = {"translation": [str(body.translate())[:-1]]} if gene < 3 else {}
        place = SimpleLocation(at, len(sequence), strand)
        features.append(SeqFeature(place, type="CDS", qualifiers=qualifiers))
    letters = list(sequence)
    letters[700] = "N"
    return SeqRecord(
        Seq("".join(letters)),
        id=name,
        name=name.split(".")[0],
        annotations={"molecule_type": "DNA"},
        features=features,
    )


def by_the_recipe(record: SeqRecord, length: int) -> list[str]:
    proteins = [
        feature.qualifiers["translation"][0]
        for feature in record.features
        if "translation" in feature.qualifiers
    ]
    kept = []
    for found in slow_rules.records(record.id, str(record.seq), length):
        window = str(record.seq)[found["start"] : found["end"]]
        clean = not set(window) & set("NRYMKSWHBVD")
        if clean and any(found["protein"] in protein for protein in proteins):
            kept.append(found["id"])
    return kept


@pytest.fixture
def genomes(tmp_path: Path) -> dict[str, list[SeqRecord]]:
    groups = {
        group: [genome(f"{group.upper()}{n}.1", seed + n) for n in range(count)]
        for group, seed, count in (("viral", 0, 3), ("bacteria", 50, 4), ("plant", 90, 4))
    }
    for group, records in groups.items():
        with (tmp_path / f"{group}.gbff").open("w") as file:
            SeqIO.write(records, file, "genbank")
    return groups


def inputs(tmp_path: Path, groups: Iterable[str]) -> list[str]:
    return [part for g in groups for part in ("--input", g, str(tmp_path / f"{g}.gbff"))]


@pytest.mark.parametrize("length", [300, 500])
def test_what_is_kept_appended_and_labelled(
    tmp_path: Path, genomes: dict[str, list[SeqRecord]], length: int
) -> None:
    out = tmp_path / "set"
    arguments = ["dataset", *inputs(tmp_path, genomes), "-o", str(out), "--part-records", "4"]
    assert main([*arguments, "--segment-length", str(length)]) == 0
    report = json.loads((out / "dataset.json").read_text())
    labels = pandas.read_csv(out / "labels.tsv", sep="\t")
    taken: dict[str, list[str]] = {}
    for group, records in genomes.items():
        kept = [name for record in records for name in by_the_recipe(record, length)]
        found = report["groups"][group]
        assert kept
        assert (found["records"], found["parts"]) == (len(kept), len(kept) // 4)
        windows = [w for r in records for w in slow_rules.windows(str(r.seq), length)]
        assert found["segments"] == len(windows)
        assert found["ambiguous"] > 0
        mine = labels[labels["sample"] == group]
        names = [name.replace("_chunk_1F", "F").replace("_chunk_1R", "R") for name in mine.record]
        taken[group] = [f"{name[:-2]}{name[-2:]}" for name in names]
        assert set(mine.label) <= {"virus" if group == "viral" else "others"}
        assert all(
            r.startswith(g + "_chunk_") for r, g in zip(mine.record, mine.group, strict=True)
        )
        runs = [kept[at : at + 4] for at in range(0, len(kept) // 4 * 4, 4)]
        chosen = [run for run in runs if set(restored(run)) <= set(mine.record)]
        assert [r for run in chosen for r in restored(run)] == mine.record.tolist()
    counts = labels.label.value_counts()
    assert counts["virus"] == counts["others"] == report["groups"]["viral"]["parts"] * 4

    store = create_store(tmp_path / "s.zarr", models=[Model("m", 4)], segment_length=length)
    for group, path in report["files"].items():
        append_file(store, path, sample=group)
        store.refresh()
    rows = label_rows(store, read_labels(out / "labels.tsv"), by_sample=False)
    assert int((rows.label >= 0).sum()) == len(labels), "every label meets its record"
    assert len(set(rows.group[rows.label >= 0].tolist())) == labels.group.nunique()


def restored(run: list[str]) -> list[str]:
    """Ids that records have once their windows are appended."""
    return [f"{name[:-2]}_chunk_1{name[-2:]}" for name in run]


def test_sequences_from_fasta_and_compressed_files(
    tmp_path: Path, genomes: dict[str, list[SeqRecord]]
) -> None:
    whole = tmp_path / "whole"
    base = ["--part-records", "3", "-o"]
    assert main(["dataset", *inputs(tmp_path, genomes), *base, str(whole)]) == 0
    for group, records in genomes.items():
        text = (tmp_path / f"{group}.gbff").read_text()
        with gzip.open(tmp_path / f"{group}.fna.gz", "wt") as file:
            SeqIO.write(records, file, "fasta")
        entries = []
        for entry in text.split("//\n")[:-1]:
            head, _, _ = entry.partition("ORIGIN")
            entries.append(head + "CONTIG      join(X1.1:1..9)\n//\n")
        with gzip.open(tmp_path / f"{group}.bare.gz", "wt") as file:
            file.write("".join(entries))
    parted = [
        part
        for group in genomes
        for part in ("--input", group, tmp_path / f"{group}.fna.gz", tmp_path / f"{group}.bare.gz")
    ]
    out = tmp_path / "parted"
    assert main(["dataset", *map(str, parted), *base, str(out)]) == 0
    assert (out / "labels.tsv").read_bytes() == (whole / "labels.tsv").read_bytes()
    for group in genomes:
        assert (out / f"{group}.fa").read_bytes() == (whole / f"{group}.fa").read_bytes()


def test_what_cannot_be_made_is_an_error_and_nothing_is_left(
    tmp_path: Path, genomes: dict[str, list[SeqRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    before = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / "few.gbff").write_text("")
    few = [*inputs(tmp_path, ["viral"]), "--input", "few", str(tmp_path / "few.gbff")]
    cases = {
        "needs the group viral": inputs(tmp_path, ["bacteria", "plant"]),
        "at least one other": inputs(tmp_path, ["viral"]),
        "neither a GenBank flat file": few,
        "name its files": [*inputs(tmp_path, ["viral"]), "--input", "plant"],
        "less than one run": [*inputs(tmp_path, genomes), "--part-records", "1000"],
    }
    for message, arguments in cases.items():
        assert main(["dataset", *arguments, "-o", str(out)]) in (1, 2)
        assert message in capsys.readouterr().err
    (tmp_path / "few.gbff").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    out.mkdir()
    assert main(["dataset", *inputs(tmp_path, genomes), "-o", str(out)]) == 2


def test_a_group_with_less_than_its_share(
    tmp_path: Path, genomes: dict[str, list[SeqRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "plant.gbff").open("w") as file:
        SeqIO.write(genomes["plant"][:1], file, "genbank")
    arguments = ["dataset", *inputs(tmp_path, genomes), "--part-records", "1"]
    assert main([*arguments, "-o", str(tmp_path / "a")]) == 1
    assert "where its share is" in capsys.readouterr().err
    assert main([*arguments, "-o", str(tmp_path / "a"), "--uneven"]) == 0
