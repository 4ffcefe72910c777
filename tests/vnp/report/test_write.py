"""The report replaces neither what it reads nor, without --force, what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vnp.classify.classify_files import publish
from vnp.cli.main import main


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A store, a classifier and regions to report."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "run.zarr", "--recipe", "demo"]) == 0
    publish(Path("in.pth"), 224)
    Path("known.bed").write_text("c1\t0\t100\n")
    Path("a_samples_mqc.json").symlink_to("known.bed")
    Path("in.json").write_text("the card")
    options = ["--classifier", "in.pth", "--regions", "known.bed", "--no-umap"]
    return ["report", "run.zarr", *options, "--device", "cpu"]


@pytest.mark.parametrize(
    "output", ["in.pth", "in.json", "./known.bed", "a_samples_mqc.json", "a.html"]
)
def test_what_is_read_is_not_replaced(
    arguments: list[str], output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("in.pth", "in.json", "known.bed")
    before = [Path(name).read_bytes() for name in names]
    multiqc = ["--multiqc"] if output == "a.html" else []
    assert main([*arguments, "-o", output, "--force", *multiqc]) == 2
    assert "is one of the files to read" in capsys.readouterr().err
    assert [Path(name).read_bytes() for name in names] == before
    assert not Path("a.html").exists()


@pytest.mark.parametrize("name", ["samples", "scores"])
def test_files_for_multiqc_are_replaced_only_by_force(
    arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Path(f"b_{name}_mqc.json")
    kept.write_text("precious")
    options = ["-o", "b.html", "--multiqc"]
    assert main([*arguments, *options]) == 2
    assert f"{kept} exists already" in capsys.readouterr().err
    assert kept.read_text() == "precious"
    assert not Path("b.html").exists()
    assert main([*arguments, *options, "--force"]) == 0
    assert "precious" not in kept.read_text()


def test_what_lies_beside_the_store_is_rewritten(arguments: list[str]) -> None:
    assert main([*arguments, "--multiqc"]) == 0
    assert main([*arguments, "--multiqc"]) == 0
    assert Path("run.zarr.report_samples_mqc.json").exists()
