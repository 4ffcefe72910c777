"""Calls that flow on: FASTA, BED and GFF3 of `vnp predict`, from planted sequences on."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from store.errors import UsageError
from store.open import open_store
from vnp.classify.call_files import CallFiles, tables_folder
from vnp.classify.viral_contigs import match_files
from vnp.cli.main import main

pytestmark = pytest.mark.slow

SEGMENT = 500
INSERT = (30_000, 45_000)  # of the planted contig

# Two made-up kinds of genome: coding sequences of unlike composition.
SENSE = [
    codon
    for codon in (a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT")
    if codon not in ("TAA", "TAG", "TGA")
]


def coding(rng: random.Random, bases: int, letters: str) -> str:
    """Stop-free codons in which ``letters`` are nine times as likely as the others."""
    weights = [9.0 ** sum(base in letters for base in codon) for codon in SENSE]
    return "".join(rng.choices(SENSE, weights, k=bases // 3 + 1))[:bases]


def virus(rng: random.Random, bases: int) -> str:
    return coding(rng, bases, "AT")


def bacterium(rng: random.Random, bases: int) -> str:
    return coding(rng, bases, "GC")


def write_fasta(path: Path, contigs: list[tuple[str, str]]) -> Path:
    text = "".join(f">{name} described\n{sequence}\n" for name, sequence in contigs)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def read_fasta(path: Path) -> dict[str, str]:
    found = {}
    for entry in path.read_text().split(">")[1:]:
        header, *lines = entry.splitlines()
        assert all(len(line) <= 80 for line in lines)
        found[header.split(" ")[0]] = "".join(lines)
    return found


def vnp(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the two kinds, and a store of two samples of which one has an insert."""
    folder = tmp_path_factory.mktemp("planted")
    rng = random.Random(8)
    write_fasta(folder / "viral.fa", [(f"v{n}", virus(rng, 6000)) for n in range(8)])
    write_fasta(folder / "cells.fa", [(f"b{n}", bacterium(rng, 6000)) for n in range(8)])
    (folder / "labels.tsv").write_text("sample\tlabel\nviral\tvirus\ncells\tothers\n")
    assert vnp("init", folder / "train.zarr", "--recipe", "demo", "--block-rows", 64) == 0
    for name in ("viral.fa", "cells.fa"):
        assert vnp("append", folder / "train.zarr", folder / name) == 0
    assert vnp("worker", folder / "train.zarr", "--threads", 1) == 0
    train = ["train", folder / "train.zarr", "--labels", folder / "labels.tsv", "--epochs", 20]
    train += ["-o", folder / "kinds.safetensors", "--learning-rate", 0.01, "--held-out", 0.2]
    assert vnp(*train) == 0

    first, last = INSERT
    planted = bacterium(rng, first) + virus(rng, last - first) + bacterium(rng, 75_000 - last)
    phage = virus(rng, 5000)
    one = [("planted", planted), ("phage", phage), ("cell", bacterium(rng, 4000))]
    one += [("phage", phage[:4500].lower()), ("short", virus(rng, 900))]
    write_fasta(folder / "one.fa.gz", one)
    write_fasta(folder / "two.fa", [("phage", virus(rng, 3000)), ("other", bacterium(rng, 3000))])
    assert vnp("init", folder / "run.zarr", "--recipe", "demo", "--block-rows", 64) == 0
    append = ["append", folder / "run.zarr", folder / "one.fa.gz", "--duplicates", "number"]
    assert vnp(*append) == 0
    assert vnp("append", folder / "run.zarr", folder / "two.fa") == 0
    assert vnp("worker", folder / "run.zarr", "--threads", 1) == 0
    return folder


@pytest.fixture
def predict(made: Path, tmp_path: Path) -> Callable[..., int]:
    base = ["predict", made / "run.zarr", "--classifier", made / "kinds.safetensors"]
    return lambda *more: vnp(*base, "-o", tmp_path / "calls", *more)


def test_a_planted_prophage_is_found_within_one_segment(
    tmp_path: Path, predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    bed, gff = tmp_path / "viral.bed", tmp_path / "viral.gff3"
    assert predict("--sample", "one", "--bed", bed, "--gff", gff, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    names = ["contig", "start", "end", "name", "score", "strand"]
    table = pandas.read_csv(bed, sep="\t", names=names)
    [planted] = table[table.contig == "planted"].to_dict("records")
    assert abs(planted["start"] - INSERT[0]) <= SEGMENT
    assert abs(planted["end"] - INSERT[1]) <= SEGMENT
    assert planted["name"] == "planted|region_1"
    assert planted["score"] > 700
    assert planted["strand"] == "."
    assert set(table.contig) == {"planted", "phage", "phage_2"}, "cell is none, short is short"
    lines = gff.read_text().splitlines()
    assert lines[0] == "##gff-version 3"
    starts = [(row[0], int(row[3]) - 1, int(row[4])) for row in (x.split("\t") for x in lines[1:])]
    assert starts == list(zip(table.contig, table.start, table.end, strict=True))
    regions = pandas.read_csv(tmp_path / "calls/one/viral_regions.tsv", sep="\t")
    assert regions[["contig", "start", "end"]].equals(table[["contig", "start", "end"]])
    assert report["written"] == {"regions": 3, "contigs": 0, "missing": 0}
    assert report["samples"][0]["regions"] == 3


@pytest.mark.parametrize("kind", ["logistic", "hist-gradient-boosting"])
def test_every_kind_of_classifier_finds_it(made: Path, tmp_path: Path, kind: str) -> None:
    classifier, bed = tmp_path / "m.safetensors", tmp_path / "viral.bed"
    train = ["train", made / "train.zarr", "--labels", made / "labels.tsv", "--classifier", kind]
    assert vnp(*train, "-o", classifier, "--folds", 4) == 0
    predict = ["predict", made / "run.zarr", "--classifier", classifier, "--sample", "one"]
    assert vnp(*predict, "-o", tmp_path / "calls", "--bed", bed) == 0
    lines = [line.split("\t") for line in bed.read_text().splitlines()]
    [(start, end)] = [(int(a), int(b)) for name, a, b, *_ in lines if name == "planted"]
    assert abs(start - INSERT[0]) <= SEGMENT
    assert abs(end - INSERT[1]) <= SEGMENT


def test_viral_contigs_are_written_with_their_numbered_ids(
    made: Path, tmp_path: Path, predict: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    fasta = tmp_path / "viral.fa"
    assert predict("--sample", "one", "--fasta-out", fasta, "--contigs", made / "one.fa.gz") == 0
    written = read_fasta(fasta)
    original = gzip.decompress((made / "one.fa.gz").read_bytes()).decode().split(">")[1:]
    sequences = [entry.split("\n")[1].upper() for entry in original]
    assert written == {"phage": sequences[1], "phage_2": sequences[3], "short": sequences[4]}
    assert "viral_segments=" in fasta.read_text().splitlines()[0]
    assert "has not the content" not in caplog.text
    contigs = pandas.read_csv(tmp_path / "calls/one/contigs.tsv", sep="\t")
    assert set(contigs[contigs.call == "virus"].contig) == set(written)
    # What is written goes into a store again and is called alike.
    assert vnp("init", tmp_path / "again.zarr", "--recipe", "demo") == 0
    assert vnp("append", tmp_path / "again.zarr", fasta) == 0


def test_with_several_samples_ids_begin_with_the_sample(
    made: Path, tmp_path: Path, predict: Callable[..., int]
) -> None:
    # The files in the other order, one of them unpacked: they are told apart by name.
    (tmp_path / "one.fa").write_bytes(gzip.decompress((made / "one.fa.gz").read_bytes()))
    files = ["--contigs", made / "two.fa", tmp_path / "one.fa"]
    bed, fasta = tmp_path / "viral.bed", tmp_path / "viral.fa"
    assert predict("--fasta-out", fasta, "--bed", bed, *files) == 0
    assert list(read_fasta(fasta)) == ["two|phage", "one|phage", "one|phage_2", "one|short"]
    contigs = [line.split("\t")[0] for line in bed.read_text().splitlines()]
    assert contigs == ["one|planted", "one|phage", "one|phage_2", "two|phage"]


def test_viral_contigs_that_no_file_has_are_named(
    made: Path,
    tmp_path: Path,
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    phage = read_fasta_of(made / "two.fa")["phage"]
    part = write_fasta(tmp_path / "part.fa", [("phage", phage), ("new", "ACGT" * 10)])
    fasta = tmp_path / "viral.fa"
    wrong = ["--sample", "one", "--contigs", part, "--bed", tmp_path / "v.bed", "--save", "kept"]
    assert predict("--fasta-out", fasta, *wrong) == 1
    assert "phage has 3,000 bases, and that of sample one at least 5,000" in capsys.readouterr().err
    assert not fasta.exists()
    assert not (tmp_path / "v.bed").exists()
    assert [kept.name for kept in open_store(made / "run.zarr").schema.scores] == ["kept"]
    assert predict("--fasta-out", fasta, "--contigs", made / "two.fa", "--json") == 3
    told = capsys.readouterr()
    assert "none of the files is that of sample one (one.fa.gz)" in told.err
    assert "3 viral contigs in none of the files" in told.err
    report = json.loads(told.out)
    assert not report["complete"]
    assert report["written"]["missing"] == 3
    assert list(read_fasta(fasta)) == ["two|phage"]
    table = pandas.read_csv(tmp_path / "calls/missing_contigs.tsv", sep="\t")
    assert table.contig.tolist() == ["phage", "phage_2", "short"]
    edited = ["--sample", "two", "--contigs", part, "--force"]
    assert predict("--fasta-out", fasta, *edited) == 0
    assert "has not the content of sample two" in capsys.readouterr().err
    assert list(read_fasta(fasta)) == ["phage"]
    assert not (tmp_path / "calls/missing_contigs.tsv").exists(), "of the run before"


def read_fasta_of(path: Path) -> dict[str, str]:
    return {entry.split(" ")[0]: entry.splitlines()[1] for entry in path.read_text().split(">")[1:]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fasta-out", "v.fa"], "name the files that were appended with --contigs (one.fa.gz, "),
        (["--contigs", "two.fa"], "--contigs names where the sequences for --fasta-out come from"),
        (["--bed", "two.fa"], "two.fa exists already"),
        (["--bed", "a", "--gff", "a"], "a is named for two outputs"),
        (["--bed", "none/a.bed"], "none is not a directory"),
        (["--bed", "one.d", "--force"], "one.d is a directory"),
        (
            ["--fasta-out", "two.fa", "--contigs", "two.fa", "--force"],
            "is one of the files to read",
        ),
        (["--fasta-out", "v.fa", "--contigs", "kinds.json"], "is the file of none of the samples"),
        (["--smooth", "4"], "an odd number"),
        (["--enter", "0.3"], "0 <= leave <= enter <= 1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_scoring(
    made: Path,
    tmp_path: Path,
    predict: Callable[..., int],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(made)
    Path("one.d").mkdir(exist_ok=True)
    before = sorted(made.iterdir())
    assert predict(*arguments) == 2
    assert message in capsys.readouterr().err
    assert sorted(made.iterdir()) == before
    assert not (tmp_path / "calls").exists()


def test_mates_are_one_sample(tmp_path: Path) -> None:
    rng = random.Random(1)
    reads = [virus(rng, 150) for _ in range(4)]
    for mate in (1, 2):
        write_fasta(tmp_path / f"r_{mate}.fa", [(f"r{n}", read) for n, read in enumerate(reads)])
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("sample\tfile\tfile2\npairs\tr_1.fa\tr_2.fa\n")
    store = tmp_path / "run.zarr"
    assert vnp("init", store, "--recipe", "demo", "--segment-length", "whole") == 0
    assert vnp("append", store, "--sheet", sheet) == 0
    samples = open_store(store).schema.samples
    files = [str(tmp_path / f"r_{mate}.fa") for mate in (1, 2)]
    [source] = match_files(files, samples)
    assert source.files == tuple(files)
    assert source.sample.name == "pairs"


def test_outputs_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "bed")
    (tmp_path / "hard").hardlink_to(tmp_path / "x")
    with pytest.raises(UsageError, match="named for two outputs"):
        CallFiles(bed=tmp_path / "bed", gff=tmp_path / "link").check()
    for role in ({"inputs": [tmp_path / "x"]}, {"outputs": [tmp_path / "x"]}):
        with pytest.raises(UsageError, match="files to read|two outputs"):
            CallFiles(bed=tmp_path / "hard", force=True).check(**role)
    with pytest.raises(UsageError, match="is a directory; name a file"):
        CallFiles(bed=Path()).check()


def test_a_folder_of_tables_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, and the tables go into a folder"):
        tables_folder(tmp_path / "run.zarr", tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is a named pipe"):
        tables_folder(tmp_path / "run.zarr", tmp_path / "pipe")
