"""``vnp run``: from a file to virus calls in one go, and again without doing anything twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import store
from vnp.classify.files import Card, save_classifier
from vnp.classify.mlp import Mlp
from vnp.cli.main import main

pytestmark = pytest.mark.slow

DEMO = ("--recipe", "demo")
OUTPUTS = {"fa": "--fasta-out", "bed": "--bed", "gff": "--gff"}


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "demo.safetensors"
    save_classifier(Mlp(224).eval(), Card(224, 512, ""), path)
    return path


@pytest.fixture
def reads(tmp_path: Path) -> Path:
    path = tmp_path / "reads.fa"
    path.write_text("".join(f">read_{n}\n{'ATGGCCGATACC' * (n + 5)}\n" for n in range(6)))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["run", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_from_file_to_calls_and_again(
    tmp_path: Path, reads: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = tmp_path / "run.zarr", tmp_path / "calls"
    arguments = [path, reads, "--classifier", classifier, "-o", output, "--recipe", "demo"]
    arguments += ["--segment-length", "whole", "--device", "cpu"]
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["init"]["segment_length"] == 0
    assert result["append"][0]["sample"]["contigs"] == 6
    assert result["embed"]["complete"]
    assert f"embed: {2 * result['embed']['rows']} embeddings in " in err, "of two models"
    assert result["predict"]["complete"]
    table = output / "reads" / "prediction_results.txt"
    calls = table.read_text()
    assert calls.startswith("Sequence_ID\tPrediction\tscore1\tscore2\nread_0_chunk_1F1\t")
    assert "vnp append" in err
    n_rows = store.open(path).n_rows

    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    again = json.loads(out)
    assert again["append"][0]["skipped"]
    assert again["embed"]["workers"] == []
    assert table.read_text() == calls
    assert store.open(path).n_rows == n_rows


def test_calls_flow_on_as_from_predict(
    tmp_path: Path, reads: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, files = tmp_path / "run.zarr", {kind: tmp_path / f"viral.{kind}" for kind in OUTPUTS}
    options = [word for kind, flag in OUTPUTS.items() for word in (flag, files[kind])]
    options += ["--min-region", 0, "--enter", 0.5, "--save", "demo"]
    first = [path, reads, "--classifier", classifier, *DEMO, "--device", "cpu"]
    code, out, err = run(capsys, *first, *options, "--json")
    assert code == 0, err
    result = json.loads(out)["predict"]
    assert result["rule"]["min_region"] == 0
    assert [scores.name for scores in store.open(path).schema.scores] == ["demo"]
    called = {kind: file.read_text() for kind, file in files.items()}
    assert called["fa"].count(">") == result["written"]["contigs"]

    code, _, err = run(capsys, *first, *options)
    assert (code, "exists already" in err, "vnp append" in err) == (2, True, False), "at once"
    code, _, err = run(capsys, *first, *options, "--force")
    assert code == 0, err
    assert {kind: file.read_text() for kind, file in files.items()} == called

    calls = ["predict", path, "--classifier", classifier, "--contigs", reads, "--force"]
    assert main([*map(str, [*calls, *options]), "--device", "cpu"]) == 0
    assert {kind: file.read_text() for kind, file in files.items()} == called


def test_only_what_is_said_of_a_store_must_be_so(
    tmp_path: Path, reads: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.zarr"
    assert main(["init", str(path), *DEMO, "--segment-length", "300"]) == 0
    rest = [path, reads, "--classifier", classifier, "--device", "cpu"]
    code, _, err = run(capsys, *rest, "--code", 1)
    assert code == 0, err
    code, _, err = run(capsys, *rest, "--recipe", "virnucpro")
    assert (code, "holds demo_dnabert_s, demo_esm2, not dnabert_s" in err) == (2, True)


def test_a_stage_that_fails_ends_it(
    tmp_path: Path, reads: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.zarr"
    bad = tmp_path / "bad.fa"
    bad.write_text(">c\nMKVLLE\n")
    code, _, err = run(capsys, path, bad, "--classifier", classifier, "--recipe", "demo")
    assert code == 1
    assert "bad.fa, record 1" in err
    assert "vnp append ended with exit code 1" in err
    assert "vnp embed" not in err
    code, _, err = run(capsys, path, reads, bad, "--classifier", classifier, "--sample", "two")
    assert (code, "--sample names one sample" in err) == (2, True)
    other = [path, reads, "--classifier", classifier, "--segment-length", "300"]
    code, _, err = run(capsys, *other, "--recipe", "demo")
    assert (code, "500 bp segments, not 300 bp segments" in err) == (2, True)
    code, _, err = run(capsys, path, reads, "--classifier", classifier, *DEMO, "--code", "4")
    assert (code, "was made for genetic code 1, not 4" in err) == (2, True)
    new = [tmp_path / "new.zarr", bad, "--classifier", classifier, *DEMO, "--code", "4"]
    assert run(capsys, *new)[0] == 1
    assert store.open(tmp_path / "new.zarr").schema.genetic_code == 4


def test_an_interrupted_stage_ends_it_with_what_was_done(
    tmp_path: Path,
    reads: Path,
    classifier: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vnp.embed.supervisor.embed_store", interrupted)
    path = tmp_path / "run.zarr"
    arguments = [path, reads, "--classifier", classifier, "--recipe", "demo", "--json"]
    code, out, err = run(capsys, *arguments)
    result = json.loads(out)
    assert (code, result["exit_code"]) == (130, 130)
    assert result["append"][0]["sample"]["contigs"] == 6
    assert "embed" not in result
    assert "vnp embed ended with exit code 130; run the same command to carry on" in err


def test_a_store_without_rows_says_why(
    tmp_path: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, stops = str(tmp_path / "run.zarr"), tmp_path / "stops.fa"
    predict = ["predict", path, "--classifier", str(classifier)]
    assert main(["init", path, *DEMO]) == 0
    for why in ("no rows yet: append a sample", "no rows: sample stops has no records"):
        capsys.readouterr()
        assert main(["embed", path]) == 0
        assert f"the store has {why}\n" in capsys.readouterr().out
        assert main(predict) == 0
        assert f"nothing scored: {why}\n" in capsys.readouterr().out
        assert main(["bench", path]) == 2
        assert f"run.zarr has {why}\n" in capsys.readouterr().err
        stops.write_text(f">a\n{'CTAACTAACTAA' * 9}TTAGTTAGTTAG\n")
        assert main(["append", path, str(stops), "--existing", "skip"]) == 0
