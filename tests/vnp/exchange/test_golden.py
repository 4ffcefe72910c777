"""The golden check: it passes what is the same computation and names what is not."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vnp
from store.errors import StoreError
from store.io.ragged import concatenate
from vnp.cli.main import main
from vnp.exchange.golden import compare, read_reference
from vnp.exchange.virnucpro_files import ResultFileError
from vnp.inference import esm2
from vnp.inference.encoder import Encoder
from vnp.inference.load import load_encoder
from vnp.inference.ops import torch as plain
from vnp.models import registry
from vnp.sequence.fastx import ContigReader
from vnp.sequence.records import record_batches

pytestmark = pytest.mark.slow

DEMO = registry.recipe("demo")
NUCLEOTIDE, PROTEIN = (spec.name for spec in DEMO)
CODONS = ("ATGGCC", "GATACC", "GCAAAG", "AACGTC", "CTGGAA", "GGTCCA")


def load(model: str) -> Encoder:
    return load_encoder(model, device="cpu", precision="float32", threads=1)


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    """Contigs with stop-free frames of many lengths."""
    generator = np.random.default_rng(7)
    contigs = ("".join(generator.choice(CODONS, n)) for n in generator.integers(5, 60, 12))
    path = tmp_path / "reference.fa"
    path.write_text("".join(f">contig_{n} x\n{text}\n" for n, text in enumerate(contigs)))
    return path


Embedded = tuple[list[str], dict[str, torch.Tensor]]


@pytest.fixture
def embed(fasta: Path) -> Callable[[], Embedded]:
    """Embeds the file now: ids and rows of every record, in an order of their own."""

    def embedded() -> Embedded:
        with ContigReader(fasta) as reader:
            batches = [batch.rows for batch in record_batches(reader, segment_length=500)]
        names = concatenate([rows.id for rows in batches]).decode()
        nucleotide = concatenate([rows.nucleotide for rows in batches])
        protein = concatenate([rows.protein for rows in batches])
        order = np.random.default_rng(3).permutation(len(names))
        rows = {}
        for spec in DEMO:
            encoder = load(spec.name)
            values = encoder.embed(encoder.tokenise(nucleotide, protein))
            rows[spec.name] = torch.from_numpy(values[order])
        return [names[index] for index in order], rows

    return embedded


def merged(path: Path, embedded: Embedded) -> Path:
    """Write the published tool's merged file."""
    names, rows = embedded
    torch.save({"ids": names, "data": torch.cat([rows[NUCLEOTIDE], rows[PROTEIN]], dim=1)}, path)
    return path


def doctor(
    capsys: pytest.CaptureFixture[str], golden: Path, fasta: Path
) -> tuple[int, dict[str, dict[str, Any]]]:
    capsys.readouterr()
    arguments = ["doctor", "--golden", golden, "--fasta", fasta, "--recipe", "demo", "--json"]
    # In float32, as the files are, whatever the processor would take.
    code = main([*map(str, arguments), "--device", "cpu", "--precision", "float32"])
    return code, {check["what"]: check for check in json.loads(capsys.readouterr().out)}


def test_the_same_computation_is_reproduced(
    tmp_path: Path, fasta: Path, embed: Callable[[], Embedded], capsys: pytest.CaptureFixture[str]
) -> None:
    code, checks = doctor(capsys, merged(tmp_path / "x_merged.pt", embed()), fasta)
    assert code == 0
    assert checks["golden"]["state"] == "ok"
    for model in (NUCLEOTIDE, PROTEIN):
        check = checks[f"golden {model}"]
        assert check["state"] == "ok"
        assert check["values"]["rows"] > 20
        assert check["values"]["lowest_cosine"] > 0.99999
        assert check["values"]["median_relative"] < 5e-4, "the rounding to float16 alone"


def test_every_feature_file_serves(
    tmp_path: Path, fasta: Path, embed: Callable[[], Embedded]
) -> None:
    names, rows = embed()
    dna, aa = tmp_path / "x_DNABERT_S.pt", tmp_path / "x_ESM.pt"
    listed = [
        {"label": name, "mean_representation": row.tolist()}
        for name, row in zip(names, rows[NUCLEOTIDE], strict=True)
    ]
    torch.save({"nucleotide": names, "data": listed}, dna)
    torch.save({"proteins": names, "data": list(rows[PROTEIN])}, aa)
    for path, model in ((dna, NUCLEOTIDE), (aa, PROTEIN)):
        report = compare(
            read_reference(path, models=DEMO), str(fasta), segment_length=500, load=load
        )
        assert [band.model for band in report.bands] == [model]
        assert report.reproduced


def _eos_in_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "pooled_span", lambda rule, length: (1, length))


def _no_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esm2, "TOKEN_DROPOUT_SCALE", 1.0)


@pytest.mark.parametrize("fault", [_eos_in_the_mean, _no_scale])
def test_a_wrong_rule_on_one_side_is_found(
    fault: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    fasta: Path,
    embed: Callable[[], Embedded],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        fault(patched)
        path = merged(tmp_path / "x_merged.pt", embed())
    code, checks = doctor(capsys, path, fasta)
    assert code == 1
    assert checks[f"golden {PROTEIN}"]["state"] == "problem"
    assert "NOT reproduce" in checks["golden"]["found"]


def test_one_wrong_row_is_named(
    tmp_path: Path, fasta: Path, embed: Callable[[], Embedded], capsys: pytest.CaptureFixture[str]
) -> None:
    names, rows = embed()
    rows[NUCLEOTIDE][11] = rows[NUCLEOTIDE][12]
    code, checks = doctor(capsys, merged(tmp_path / "x_merged.pt", (names, rows)), fasta)
    assert code == 1
    assert checks[f"golden {NUCLEOTIDE}"]["values"]["worst"][0]["id"] == names[11]
    assert names[11] in checks[f"golden {NUCLEOTIDE}"]["found"]
    assert checks[f"golden {PROTEIN}"]["state"] == "ok"


def test_ids_on_one_side_only_are_counted(
    tmp_path: Path, fasta: Path, embed: Callable[[], Embedded], capsys: pytest.CaptureFixture[str]
) -> None:
    names, rows = embed()
    short = merged(
        tmp_path / "x_merged.pt", (names[5:], {model: row[5:] for model, row in rows.items()})
    )
    code, checks = doctor(capsys, short, fasta)
    assert code == 0
    assert checks["golden ids"]["found"].startswith("5 records of ")
    gone = merged(tmp_path / "y_merged.pt", (["gone_chunk_1F1", *names[1:]], rows))
    code, checks = doctor(capsys, gone, fasta)
    assert code == 1
    assert checks["golden"]["values"]["missing"] == ["gone_chunk_1F1"]


def test_another_file_is_refused_at_once(
    tmp_path: Path, fasta: Path, embed: Callable[[], Embedded], capsys: pytest.CaptureFixture[str]
) -> None:
    path = merged(tmp_path / "x_merged.pt", embed())
    other = tmp_path / "other.fa"
    other.write_text(f">other\n{'ATGGCC' * 30}\n")
    assert main(["doctor", "--golden", str(path), "--fasta", str(other), "--recipe", "demo"]) == 1
    assert "another segment length" in capsys.readouterr().err
    assert main(["doctor", "--golden", str(path)]) == 2
    assert "--fasta" in capsys.readouterr().err
    assert main(["doctor", "--golden", str(path), "--fasta", str(fasta)]) == 1
    assert "dnabert_s (768) + esm2_3b (2560)" in capsys.readouterr().err


class _Code:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list"),
        ({"weights": 1}, "its keys are weights"),
        ({"ids": "ab", "data": torch.zeros(2, 224)}, "not a list of record ids"),
        ({"ids": ["a"], "data": torch.zeros(2, 224)}, "1 id but 2 rows"),
        ({"ids": ["a", "a"], "data": torch.zeros(2, 224)}, "rows 1 and 2 are both called a"),
        ({"ids": ["a"], "data": torch.zeros(1, 223)}, "223 numbers a row"),
        ({"ids": ["a"], "data": torch.full((1, 224), torch.nan)}, "NaN"),
        ({"ids": [], "data": torch.zeros(0, 224)}, "no record at all"),
        ({"proteins": [], "data": []}, "no record at all"),
        (
            {"ids": ["a"], "data": "text"},
            "'data' is neither a list of rows nor a tensor, but a str",
        ),
        ({"ids": ["a"], "data": torch.zeros(1)}, r"shape \(1,\)"),
        (
            {"proteins": ["a", "b"], "data": [torch.zeros(128), torch.zeros(3)]},
            r"row 2 \(b\) is not a row of 128 numbers",
        ),
        ({"nucleotide": ["a"], "data": [{}]}, "has no mean_representation"),
        ({"ids": ["a"], "data": _Code()}, "nothing of it was executed"),
    ],
)
def test_files_that_are_not_a_reference(
    content: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    torch.save(content, path)
    with pytest.raises(ResultFileError, match=said):
        read_reference(path, models=DEMO)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("raw", [b"", b"text", pickle.dumps({"ids": []})[:9], b"PK\3\4 broken"])
def test_files_that_are_not_torch_files(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=r"bad\.pt"):
        read_reference(path, models=DEMO)
    with pytest.raises(ResultFileError, match=r"none\.pt does not exist"):
        read_reference(tmp_path / "none.pt", models=DEMO)


def test_a_reference_of_another_genetic_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code and segment length are those of the store that is named, or of the options."""
    fasta, path, golden = tmp_path / "a.fa", tmp_path / "run.zarr", tmp_path / "x.pt"
    letters = np.random.default_rng(2).choice(list("ACGT"), 12_000)
    fasta.write_text(f">c\n{''.join(letters)}\n")
    vnp.append(path, fasta, create=True, recipe="demo", genetic_code=4, segment_length=300)
    assert vnp.embed(path, in_process=True, device="cpu", precision="float32").complete
    vnp.export(path, golden)
    check = ["doctor", "--golden", golden, "--fasta", fasta, "--recipe", "demo", "--device", "cpu"]

    def checked(*options: object) -> dict[str, Any]:
        capsys.readouterr()
        main([*map(str, [*check, *options]), "--json"])
        checks = {each["what"]: each for each in json.loads(capsys.readouterr().out)}
        return dict(checks["golden"])

    for options in ([path], ["--code", 4, "--segment-length", 300]):
        found = checked(*options)
        assert found["state"] == "ok", found
        assert (found["values"]["missing"], found["values"]["extra"]) == ([], 0)
    assert checked("--segment-length", 300)["values"]["missing"], "of the standard code"
    assert checked(path, "--code", 1)["values"]["missing"], "the option goes first"
