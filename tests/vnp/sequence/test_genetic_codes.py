"""Every NCBI translation table against Biopython's own translation, and stores made by one."""

from __future__ import annotations

import json
import random
import subprocess
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from Bio import BiopythonWarning
from Bio.Seq import Seq

from store.convert import convert_store
from store.errors import NotAStoreError, UsageError
from store.io.ragged import Ragged
from store.open import create_store, open_store
from store.repair import verify_store
from store.schema import Model, Schema, from_attribute, to_attribute
from tests.rows import HeldClaim, expected
from tests.vnp.sequence import slow_rules
from vnp.cli.main import main
from vnp.sequence.append import append_file
from vnp.sequence.frames import FRAMES, nucleotides, proteins, scan
from vnp.sequence.genetic_codes import CODES, codon_table, remark, translate_alike

ROOT = Path(__file__).parents[3]
MODEL = Model("small", 8)
# Codons that end a frame, as NCBI lists them; in 27, 28 and 31 each is an amino acid as well.
STOPS = {
    1: "TAA TAG TGA",
    2: "AGA AGG TAA TAG",
    4: "TAA TAG",
    6: "TGA",
    11: "TAA TAG TGA",
    14: "TAG",
    15: "TAA TGA",
    16: "TAA TGA",
    22: "TAA TCA TGA",
    23: "TAA TAG TGA TTA",
    27: "",
    28: "",
    31: "",
    33: "TAG",
}


def kept(sequence: str, code: int) -> dict[str, tuple[str, str]]:
    """Protein and nucleotide of each frame that is a record, of the whole sequence."""
    bases = np.frombuffer(sequence.encode(), np.uint8)
    start, end = np.array([0]), np.array([len(sequence)])
    found = scan(bases, start, end, genetic_code=code)
    _, frame = np.nonzero(found.kept)
    start, end = np.repeat(start, len(frame)), np.repeat(end, len(frame))
    protein = proteins(found, start, end, frame)
    nucleotide = nucleotides(bases, start, end, frame, protein.lengths)
    return {
        FRAMES[f]: (protein[i].decode(), nucleotide[i].decode())
        for i, f in enumerate(frame.tolist())
    }


def by_biopython(sequence: str, code: int) -> dict[str, str]:
    """Stop-free proteins of the six frames; codons with other letters than ACGT are cut out."""
    strands = {"F": Seq(sequence), "R": Seq(sequence).reverse_complement()}
    result = {}
    for frame in FRAMES:
        text = str(strands[frame[0]])[int(frame[1]) - 1 :]
        codons = [text[i : i + 3] for i in range(0, len(text) - 2, 3)]
        clear = "".join(codon for codon in codons if set(codon) <= set("ACGT"))
        protein = str(Seq(clear).translate(table=code))
        if protein and "*" not in protein:
            result[frame] = protein
    return result


@pytest.mark.parametrize("code", CODES)
def test_every_table_translates_as_biopython_does(code: int) -> None:
    rng = random.Random(code)
    records = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiopythonWarning)  # codons that are stop and amino acid
        for _ in range(150):
            letters = rng.choice(["ACGT", "CGT", "ACGTN", "ACGTRYK"])
            sequence = "".join(rng.choices(letters, k=rng.randrange(3, 70)))
            found = kept(sequence, code)
            assert {frame: protein for frame, (protein, _) in found.items()} == by_biopython(
                sequence, code
            )
            records += len(found)
        for letters in ((a, b, c) for a in "ACGT" for b in "ACGT" for c in "ACGT"):
            codon = "".join(letters)
            assert {f: p for f, (p, _) in kept(codon, code).items()} == by_biopython(codon, code)
    assert records > 100


def test_there_are_the_tables_of_ncbi() -> None:
    assert (*range(1, 7), *range(9, 17), *range(21, 34)) == CODES
    assert {code: " ".join(codon_table(code).stops) for code in STOPS} == STOPS


@pytest.mark.parametrize("code", [0, 7, 8, 17, 34, 99])
def test_a_number_that_is_no_table_is_refused(code: int) -> None:
    with pytest.raises(UsageError, match=f"unknown genetic code {code}; .* 1, 2, 3, .* 33"):
        codon_table(code)


def test_code_1_is_that_of_the_slow_rules() -> None:
    rng = random.Random(1)
    for _ in range(100):
        sequence = "".join(rng.choices("ACGTN", k=rng.randrange(3, 90)))
        slow = {
            record["id"].removeprefix("c_chunk_1"): (record["protein"], record["nucleotide"])
            for record in slow_rules.records("c", sequence, len(sequence))
        }
        assert kept(sequence, 1) == slow


def test_code_11_gives_the_records_of_code_1() -> None:
    ours, bacterial = codon_table(1), codon_table(11)
    for name in ("flags", "forward", "reverse"):
        assert getattr(ours, name) == getattr(bacterial, name)
    assert translate_alike(1, 11)
    assert not translate_alike(1, 4)
    assert translate_alike(77, 77), "numbers of a file that is newer than this vnp"
    assert not translate_alike(77, 1)
    assert "the records are the same" in remark(11)
    assert (remark(1), remark(4)) == ("", "")
    assert "every stop codon is an amino acid too" in remark(27)


def test_what_the_codes_of_phages_read_otherwise() -> None:
    assert "F1" not in kept("ATGTGAGCA", 1)
    assert kept("ATGTGAGCA", 4)["F1"][0] == "MWA"
    assert "F1" not in kept("ATGTAGGCA", 1)
    assert kept("ATGTAGGCA", 15)["F1"][0] == "MQA"
    assert kept("TGCTCACAT", 4)["R1"][0] == "MWA", "on the other strand too"
    assert "F1" not in kept("ATGAGAGCA", 2), "AGA is R in 1, and a stop of vertebrate mitochondria"
    assert kept("CTG", 1)["F1"][0] == "L"
    assert kept("CTG", 12)["F1"][0] == "S"


# -- stores ---------------------------------------------------------------------------------------


def genes(path: Path) -> Path:
    """Contigs with TGA in every forward frame and no other stop on either strand."""
    rng = random.Random(4)
    text = []
    for number in range(6):
        parts = ["".join(rng.choices("CG", k=10 + number % 3)) for _ in range(7)]
        text.append(f">c{number}\n{'TGA'.join(parts)}\n")
    path.write_text("".join(text))
    return path


def proteins_of(path: Path) -> list[str]:
    column = open_store(path).column("protein")
    assert isinstance(column, Ragged)
    return column.decode()


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_store_keeps_its_code(tmp_path: Path, suffix: str) -> None:
    fasta = genes(tmp_path / "g.fa")
    found = {}
    for code in (1, 4, 11):
        path = tmp_path / f"code{code}{suffix}"
        create_store(path, models=[MODEL], segment_length=500, block_rows=8, genetic_code=code)
        append_file(open_store(path), str(fasta))
        opened = open_store(path)
        assert opened.schema.genetic_code == code
        assert not [each for each in verify_store(opened) if each.is_damage]
        found[code] = proteins_of(path)
    assert found[11] == found[1]
    assert len(found[4]) > len(found[1])
    assert any("W" in protein for protein in found[4])


@pytest.mark.parametrize(("from_", "to"), [(".zarr", ".h5"), (".h5", ".zarr")])
def test_a_copy_has_the_code(tmp_path: Path, from_: str, to: str) -> None:
    path = tmp_path / f"run{from_}"
    create_store(path, models=[MODEL], segment_length=500, block_rows=8, genetic_code=15)
    append_file(open_store(path), str(genes(tmp_path / "g.fa")))
    convert_store(open_store(path), tmp_path / f"copy{to}")
    assert open_store(tmp_path / f"copy{to}").schema == open_store(path).schema
    other = tmp_path / f"other{to}"
    create_store(other, models=[MODEL], segment_length=500, block_rows=8)
    with pytest.raises(UsageError, match="another genetic code"):
        convert_store(open_store(path), other)


def test_a_file_made_anew_has_the_code(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    create_store(path, models=[MODEL], segment_length=500, block_rows=8, genetic_code=4)
    append_file(open_store(path), str(genes(tmp_path / "g.fa")))
    store = open_store(path)
    before = store.schema, proteins_of(path)
    for block in range(store.n_blocks):
        start, stop = store.block_bounds(block)
        store.pin_provenance(MODEL.name, {"name": MODEL.name})
        store.publish(HeldClaim(MODEL.name, block), expected(store, MODEL.name)[start:stop])
    copied = path.with_suffix(".copy")
    with h5py.File(path) as old, h5py.File(copied, "w") as new:  # its chunks lie elsewhere
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
    copied.replace(path)
    assert main(["verify", str(path), "--repair", "-q"]) == 0
    store = open_store(path)
    assert (store.schema, proteins_of(path)) == before
    assert store.certify(MODEL.name).complete


def test_the_standard_code_leaves_no_trace_and_others_need_a_newer_format() -> None:
    plain = to_attribute(Schema(16, 500, (MODEL,)))
    assert plain["format"] == 1
    assert "genetic_code" not in plain
    coded = to_attribute(Schema(16, 500, (MODEL,), genetic_code=4))
    assert (coded["format"], coded["genetic_code"]) == (2, 4), "format 1 is what older code takes"
    assert from_attribute(json.loads(json.dumps(coded)), where="x").genetic_code == 4
    assert from_attribute(plain, where="x").genetic_code == 1


def test_a_store_of_a_code_that_is_not_known_is_read_and_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    create_store(path, models=[MODEL], segment_length=500, genetic_code=77)
    with pytest.raises(UsageError, match="unknown genetic code 77"):
        append_file(open_store(path), str(genes(tmp_path / "g.fa")))
    for code in (0, 1000, -1, True):
        with pytest.raises(UsageError, match="genetic code"):
            create_store(tmp_path / "x.zarr", models=[MODEL], segment_length=500, genetic_code=code)
    with pytest.raises(NotAStoreError):
        open_store(tmp_path / "x.zarr")


# -- the command line -----------------------------------------------------------------------------


def test_init_status_and_append_name_the_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, fasta = str(tmp_path / "run.zarr"), str(genes(tmp_path / "g.fa"))
    assert main(["init", path, "--recipe", "demo", "--code", "34"]) == 2
    assert "unknown genetic code 34" in capsys.readouterr().err
    assert main(["init", path, "--recipe", "demo", "--code", "4"]) == 0
    assert "500 bp segments (genetic code 4); models" in capsys.readouterr().out
    again = ["init", path, "--recipe", "demo", "--if-missing"]
    assert main(again) == 2
    assert "was made for genetic code 4, not 1: give --code 4" in capsys.readouterr().err
    assert main([*again, "--code", "4"]) == 0
    assert main(["append", path, fasta, "--code", "1"]) == 2
    assert "for genetic code 4, not 1: leave --code out" in capsys.readouterr().err
    assert main(["append", path, fasta, "--check", "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)["samples"][0]["records"]
    assert main(["append", path, fasta]) == 0
    assert open_store(path).n_rows == checked
    capsys.readouterr()
    assert main(["status", path]) == 0
    assert "500 bp segments (genetic code 4), 4,096 rows a block" in capsys.readouterr().out
    assert main(["status", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["genetic_code"] == 4


def test_append_makes_a_store_of_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta = str(genes(tmp_path / "g.fa"))
    arguments = [fasta, "--create", "--recipe", "demo", "--code", "11"]
    assert main(["append", str(tmp_path / "run.zarr"), *arguments]) == 0
    assert "differs in its start codons only: the records are the same" in capsys.readouterr().err
    assert main(["append", str(tmp_path / "new.zarr"), *arguments, "--check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["samples"][0]["records"]
    store = open_store(tmp_path / "run.zarr")
    assert (store.schema.genetic_code, store.n_rows) == (11, found)


def test_make_hands_the_code_on() -> None:
    command = ["make", "--dry-run", "embed", "STORE=run.zarr", "CODE=15", "VENV=.none"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert '--code "$CODE"' in said
