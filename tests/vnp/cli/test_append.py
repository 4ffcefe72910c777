"""``vnp append``: many files, sample sheets, what is skipped, checked, and said."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest

from store.open import open_store
from vnp.cli.main import main

RANDOM = random.Random(3)


def dna(bases: int, letters: str = "CGT") -> str:
    """Without A no frame has a stop, on either strand."""
    return "".join(RANDOM.choices(letters, k=bases))


def fasta(path: Path, *, contigs: int = 3, bases: int = 900) -> Path:
    path.write_text("".join(f">{path.stem}{n}\n{dna(bases)}\n" for n in range(contigs)))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "run.zarr"
    assert main(["init", str(path), "--recipe", "demo"]) == 0
    return path


def names(store: Path) -> list[str]:
    return [sample.name for sample in open_store(store).schema.samples]


def vnp(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_many_files_are_a_sample_each(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [fasta(tmp_path / f"{name}.fa") for name in "abc"]
    assert vnp("append", store, "--json", *files) == 0
    report = json.loads(capsys.readouterr().out)
    assert [each["sample"]["name"] for each in report["samples"]] == ["a", "b", "c"]
    assert names(store) == ["a", "b", "c"]
    assert vnp("append", store, *files, "--existing", "skip") == 0


def test_a_failure_says_which_samples_are_in(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [fasta(tmp_path / f"{name}.fa") for name in "abc"]
    files[1].write_text(">x\nAC!T\n")
    assert vnp("append", store, *files) == 1
    said = capsys.readouterr().err
    assert "in the store: a; not appended: b, c; mend the input" in said
    assert f"{files[1]}, record 1, line 2" in said
    assert names(store) == ["a"]
    fasta(files[1])
    assert vnp("append", store, *files, "--existing", "skip") == 0
    assert names(store) == ["a", "b", "c"]


def test_nothing_is_appended_when_a_file_is_not_there(store: Path, tmp_path: Path) -> None:
    assert vnp("append", store, fasta(tmp_path / "a.fa"), tmp_path / "none.fa") == 1
    assert vnp("append", store, tmp_path / "a.fa", tmp_path / "a.fa") == 2
    assert vnp("append", store) == 2
    assert names(store) == []


def test_a_sheet_names_samples_and_pairs(store: Path, tmp_path: Path) -> None:
    reads = [f"@r{n} {{0}}:N:0\n{dna(150)}\n+\n{'I' * 150}\n" for n in range(3)]
    for mate in "12":
        (tmp_path / f"r{mate}.fq").write_text("".join(each.format(mate) for each in reads))
    fasta(tmp_path / "c.fa")
    sheet = tmp_path / "samples.tsv"
    sheet.write_bytes("\ufeffsample\tfile\tfile2\r\nx\tr1.fq\tr2.fq\r\ny\tc.fa\t\r\n".encode())
    assert vnp("append", store, "--sheet", sheet) == 0
    made = open_store(store)
    assert [(each.name, each.source) for each in made.schema.samples] == [
        ("x", "r1.fq r2.fq"),
        ("y", "c.fa"),
    ]
    first = made.schema.samples[0]
    assert (first.contigs, first.bases) == (6, 900)
    ids = {each.rpartition(b"_chunk_")[0] for each in made.column("id", 0, first.stop).tolist()}
    assert ids <= {f"r{n}/{mate}".encode() for n in range(3) for mate in "12"}
    assert vnp("append", store, "--sheet", sheet, "--existing", "skip") == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Sample\tfile\nx\ta.fa\n", "unknown column 'Sample': is it sample?"),
        ("sample\tfile\nx\tnone.fa\n", "there is no such file"),
        ("sample\tfile\nx\ta.fa\nx\ta.fa\n", "line 3: x is the name of an earlier sample too"),
        ("sample\tfile\nx y\ta.fa\n", "line 2: sample name 'x y'"),
        ("sample\tfile\nw\ta.fa\nx \ta.fa\n", "line 3: sample name 'x '"),
        ("sample\tfile\nx\t\n", "line 2: the column file is empty"),
        ("sample\tfile\n", "names no sample"),
    ],
)
def test_a_sheet_that_is_wrong_is_refused_before_anything_is_written(
    store: Path, tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta(tmp_path / "a.fa")
    (tmp_path / "s.tsv").write_text(content)
    assert vnp("append", store, "--sheet", tmp_path / "s.tsv") in (1, 2)
    assert message in capsys.readouterr().err
    assert names(store) == []


def test_unusable_records_are_skipped_and_named(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.fa"
    path.write_text(f">=ok\n{dna(900)}\n>bad\nACG*T\n>\nACGT\n>none\n>more\n{dna(900)}\n")
    assert vnp("append", store, path) == 1
    assert names(store) == []
    capsys.readouterr()
    assert vnp("append", store, path, "--invalid", "skip", "--json") == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["unusable_records"] == 3
    assert report["sample"]["contigs"] == 2
    assert "3 records cannot be used and were skipped" in told.err
    table = Path(report["unusable_records_file"]).read_text().splitlines()
    assert table[0] == "file\trecord\tline\tid\treason"
    assert [line.split("\t")[1:4] for line in table[1:]] == [
        ["2", "4", "bad"],
        ["3", "", ""],
        ["4", "", "none"],
    ]
    without = Path(report["contigs_without_records_file"] or os.devnull).read_text()
    assert "\t=ok" not in without


def test_check_lists_every_problem_and_writes_nothing(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = fasta(tmp_path / "good.fa", contigs=2), tmp_path / "bad.fa"
    bad.write_text(f">a\n{dna(100)}\n>b\nAC!\n>c\nA?C\n>d\n{dna(300)}\n>e\n--\n")
    before = sorted(path for path in store.rglob("*"))
    assert vnp("append", store, "--check", "--json", good, bad) == 1
    found = json.loads(capsys.readouterr().out)
    one, two = found["samples"]
    assert one["problems"] == 0
    assert one["lengths"] == {"shortest": 900, "median": 900, "longest": 900, "n50": 900}
    assert [(each["record"], each["line"]) for each in two["named"]] == [(2, 4), (3, 6), (5, 10)]
    assert (two["contigs"], found["problems"]) in {(1, 3), (2, 3)}
    assert names(store) == []
    assert sorted(path for path in store.rglob("*")) == before
    assert vnp("append", store, "--check", good) == 0
    assert "nothing was written" in capsys.readouterr().out


def test_rna_gives_the_records_of_its_dna_and_says_so(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fasta(tmp_path / "dna.fa")
    rna = tmp_path / "rna.fa"
    rna.write_text(
        "".join(
            line if line.startswith(">") else line.replace("T", "U")
            for line in path.read_text().splitlines(keepends=True)
        )
    )
    assert vnp("append", store, path) == 0
    assert vnp("append", store, rna) == 1
    assert "holds the same sequences as sample dna" in capsys.readouterr().err
    assert vnp("append", store, rna, "--allow-same-content") == 0
    assert "sample rna is RNA" in capsys.readouterr().err
    made = open_store(store)
    one, two = made.schema.samples
    assert (one.uracils, two.uracils) == (0, rna.read_text().count("U"))
    for name in ("nucleotide", "protein", "id"):
        left, right = (made.column(name, each.start, each.stop).tolist() for each in (one, two))
        assert left == right


def test_ambiguous_letters_are_told_and_much_of_them_warned_of(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, vague = fasta(tmp_path / "clean.fa"), tmp_path / "vague.fa"
    vague.write_text(f">a\n{dna(450)}{'N' * 50}\n")
    assert vnp("append", store, clean) == 0
    assert "warning" not in capsys.readouterr().err
    assert vnp("append", store, vague, "--json") == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["sample"]["ambiguous"] == 50
    assert report["ambiguous_share"] == 0.1
    assert report["dropped_codons_share"] == pytest.approx(52 / 498, abs=0.01)
    assert "warning: sample vague: 10.00% of the letters are ambiguous" in told.err
    assert vnp("append", store, vague, "--check", "--json") == 1, "its sequences are there"
    [checked] = json.loads(capsys.readouterr().out)["samples"]
    assert checked["ambiguous_share"] == 0.1


def test_a_pipe_needs_a_name_and_is_recognised_by_its_content(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = fasta(tmp_path / "a.fa").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/fd/63", "-"):
        assert vnp("append", store, path) == 2
        assert "--sample" in capsys.readouterr().err

    def piped(data: bytes) -> None:
        stream = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr("sys.stdin", stream)

    piped(content)
    assert vnp("append", store, "-", "--sample", "x") == 0
    for name in ("x", "y"):
        piped(content)
        assert vnp("append", store, "-", "--sample", name, "--existing", "skip", "--json") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["skipped"] is True
    piped(content.replace(b"G", b"C"))
    assert vnp("append", store, "-", "--sample", "x", "--existing", "skip") == 1
    assert "with another content" in capsys.readouterr().err
    assert names(store) == ["x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b">a\rACGT\r>b\rAC\r", "tr '\\r' '\\n'"),
        (">a\nACGT\n".encode("utf-16"), "UTF-16 text (convert it: iconv"),
        (">abcdef\nACGT\n".encode("utf-16-le"), "UTF-16 text; convert it: iconv"),
        (gzip.compress(gzip.compress(b">a\nACGT\n", mtime=0), mtime=0), "gunzip"),
        (gzip.compress(b"PK\x03\x04 zip in gzip", mtime=0), "unzip"),
        (b"\xfd7zXZ\x00....", "xz -dk"),
    ],
)
def test_what_is_packed_or_written_otherwise_is_named_with_the_command_that_helps(
    store: Path, tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.fa").write_bytes(content)
    assert vnp("append", store, tmp_path / "a.fa") == 1
    assert message in capsys.readouterr().err
    assert names(store) == []


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_is_named(
    store: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta(tmp_path / "a.fa")
    with tarfile.open(tmp_path / "a.tar", mode) as archive:  # type: ignore[call-overload]
        archive.add(tmp_path / "a.fa", "a.fa")
    assert vnp("append", store, tmp_path / "a.tar") == 1
    assert "tar -xf" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "mode"), [("a.bam", "wb"), ("a.cram", "wc")])
def test_reads_of_a_bam_file_are_those_of_samtools_fasta(
    store: Path, tmp_path: Path, name: str, mode: str
) -> None:
    pysam = pytest.importorskip("pysam")
    sequences = [dna(150) for _ in range(4)]
    flags = [0x4D, 0x8D, 0x10, 0x100]  # unmapped mates, a reverse read, a secondary alignment
    header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": "ref", "LN": 1000}]}
    options = [b"no_ref=1"] if mode == "wc" else []  # CRAM without a reference at hand
    with pysam.AlignmentFile(
        str(tmp_path / name), mode, header=header, format_options=options
    ) as file:
        for number, (sequence, flag) in enumerate(zip(sequences, flags, strict=True)):
            read = pysam.AlignedSegment()
            read.query_name = f"r{number // 2}"
            read.query_sequence = sequence
            read.flag = flag
            if not flag & 4:
                read.reference_id, read.reference_start, read.cigar = 0, 5, [(0, 150)]
            file.write(read)
    reverse = sequences[2].translate(str.maketrans("ACGT", "TGCA"))[::-1]
    (tmp_path / "b.fa").write_text(
        f">r0/1\n{sequences[0]}\n>r0/2\n{sequences[1]}\n>r1\n{reverse}\n"
    )
    assert vnp("append", store, tmp_path / name) == 0
    assert vnp("append", store, tmp_path / "b.fa", "--allow-same-content") == 0
    made = open_store(store)
    one, two = made.schema.samples
    assert (one.contigs, one.content) == (3, two.content)
    for name in ("id", "nucleotide"):
        left, right = (made.column(name, each.start, each.stop).tolist() for each in (one, two))
        assert left == right
    assert one.start < one.stop


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_store_made_for_an_input_that_is_refused_is_not_left(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, bad, good = tmp_path / f"new{suffix}", tmp_path / "bad.fa", fasta(tmp_path / "good.fa")
    bad.write_text(">a\nAC!\n")
    before = sorted(tmp_path.iterdir())
    create = ("--create", "--recipe", "demo", "--segment-length", "300")
    assert vnp("append", path, bad, *create) == 1
    assert sorted(tmp_path.iterdir()) == before
    assert vnp("append", path, good, bad, *create) == 1
    assert names(path) == ["good"], "what was appended stays"
    assert vnp("append", path, bad, *create) == 1
    assert names(path) == ["good"]
    assert vnp("append", path, bad, "--create", "--recipe", "demo") == 2, "another segment length"
    capsys.readouterr()


def test_what_is_in_the_way_of_a_store_is_said_once_and_not_in_a_circle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, foreign = tmp_path / "empty.zarr", tmp_path / "foreign.zarr"
    empty.mkdir()
    foreign.mkdir()
    (foreign / "notes").write_text("mine")
    fasta(tmp_path / "a.fa")
    assert vnp("append", empty, tmp_path / "a.fa") == 1
    assert f"an empty directory); make one with 'vnp init {empty}'" in capsys.readouterr().err
    assert vnp("append", foreign, tmp_path / "a.fa") == 1
    assert "init" not in (said := capsys.readouterr().err)
    assert "a directory without zarr.json" in said
    assert vnp("init", foreign, "--recipe", "demo") == 2
    assert "append" not in (said := capsys.readouterr().err)
    assert "a directory with other files in it: choose another path" in said
    assert vnp("init", empty, "--recipe", "demo") == 0
    assert vnp("init", empty, "--recipe", "demo") == 2
    assert "exists already, as a vnp store: append to it" in capsys.readouterr().err
    assert (foreign / "notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("@r0 2\nCGT\n+\nIII\n", "has 1 read and"),
        ("@r1 2\nCGT\n+\nIII\n@r0 2\nCGT\n+\nIII\n", "in another order"),
        (None, "both files of the read pairs"),
    ],
)
def test_files_that_are_no_pairs_are_refused(
    store: Path,
    tmp_path: Path,
    second: str | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "r1.fq").write_text("@r0/1\nCGT\n+\nIII\n@r1/1\nCGT\n+\nIII\n")
    (tmp_path / "r2.fq").write_text(second or "")
    mate = "r1.fq" if second is None else "r2.fq"
    (tmp_path / "s.tsv").write_text(f"sample\tfile\tfile2\nx\tr1.fq\t{mate}\n")
    assert vnp("append", store, "--sheet", tmp_path / "s.tsv") == 1
    assert message in capsys.readouterr().err
    assert names(store) == []


def test_check_needs_no_store_and_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = fasta(tmp_path / "one.fa"), tmp_path / "two.fa"
    two.write_bytes(one.read_bytes())
    before = sorted(tmp_path.iterdir())
    create = ("--create", "--recipe", "demo", "--json")
    new = tmp_path / "new.zarr"
    assert vnp("append", new, "--check", one, two, tmp_path / "none.fa", tmp_path, *create) == 2
    assert vnp("append", new, "--check", one, two, tmp_path / "none.fa", *create) == 1
    found = json.loads(capsys.readouterr().out)
    reasons = [[each["reason"] for each in sample["named"]] for sample in found["samples"]]
    assert reasons == [
        [],
        ["it holds the same sequences as one, given before it"],
        ["there is no such file"],
    ]
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_is_taken_for_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "plain")
    assert vnp("init", tmp_path / "link.zarr", "--recipe", "demo") == 2
    assert list((tmp_path / "plain").iterdir()) == []
    (tmp_path / "good.zarr").symlink_to(tmp_path / "elsewhere.zarr")
    assert vnp("init", tmp_path / "good.zarr", "--recipe", "demo") == 0
    assert vnp("status", tmp_path / "good.zarr") == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--segment-length 300", "holds 500 bp segments, not 300 bp segments"),
        ("--recipe virnucpro", "holds demo_dnabert_s, demo_esm2, not dnabert_s, esm2_3b"),
        ("--code 4", "genetic code 1, not 4"),
    ],
)
def test_what_a_store_is_said_to_be_is_never_ignored(
    options: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, file = tmp_path / "run.zarr", fasta(tmp_path / "a.fa")
    assert vnp("init", path, "--recipe", "demo") == 0
    assert vnp("append", path, file, *options.split()) == 2
    assert said in capsys.readouterr().err
    assert vnp("append", path, file, "--check", *options.split()) == 2
    assert said in capsys.readouterr().err
    assert names(path) == []
    same = ("--recipe", "demo", "--segment-length", "500", "--code", "1")
    assert vnp("append", path, file, *same) == 0


def test_segments_of_another_length_than_published_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = fasta(tmp_path / "a.fa")
    for length, told in (("400", True), ("300", False), ("500", False), ("whole", False)):
        for words in (["init"], ["append", file, "--create"]):
            path = tmp_path / f"{words[0]}_{length}.zarr"
            rest = [*words[1:], "--recipe", "demo", "--segment-length", length]
            capsys.readouterr()
            assert vnp(words[0], path, *rest) == 0
            said = capsys.readouterr().err
            assert ("published classifiers are for segments of 300 and 500 bp" in said) is told
