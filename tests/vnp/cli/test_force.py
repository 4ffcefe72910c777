"""An output that a user names is never replaced without --force, by any command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vnp.classify.classify_files import publish
from vnp.cli.main import main


@pytest.mark.parametrize(
    "command",
    [
        ["export", "STORE", "--to", "OUT.npy"],
        ["report", "STORE", "-o", "OUT.html"],
        ["train", "STORE", "--labels", "labels.tsv", "-o", "OUT.safetensors"],
        ["predict", "STORE", "--classifier", "in.pth", "--bed", "OUT.bed"],
        ["predict", "STORE", "--classifier", "in.pth", "--gff", "OUT.gff3"],
        [
            "predict",
            "STORE",
            "--classifier",
            "in.pth",
            "--contigs",
            "a.fa",
            "--fasta-out",
            "OUT.fa",
        ],
        ["classifier", "convert", "in.pth", "OUT.safetensors"],
        ["dataset", "--input", "viral", "v.gb", "--input", "x", "x.gb", "-o", "OUT.dir"],
    ],
    ids=lambda command: " ".join(word for word in command if word[0] != "O"),
)
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_an_existing_output_is_refused(
    command: list[str], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "run.zarr"
    assert main(["init", str(store), "--recipe", "demo"]) == 0
    [name] = [word for word in command if word.startswith("OUT")]
    output = tmp_path / name
    if kind == "file":
        output.write_text("precious")
    elif kind == "folder":
        output.mkdir()
    else:
        output.symlink_to(tmp_path / "nowhere")
    command = [str(store) if word == "STORE" else word for word in command]
    command = [str(output) if word == name else word for word in command]
    capsys.readouterr()
    assert main(command) == 2
    assert f"{output} exists already" in (said := capsys.readouterr().err)
    assert "--force" in said
    if kind == "file":
        assert output.read_text() == "precious"


@pytest.mark.parametrize(
    "command",
    [
        "export STORE --to OUT.npy",
        "report STORE -o OUT.html",
        "train STORE --labels labels.tsv -o OUT.safetensors",
        "predict STORE --classifier in.pth --bed OUT.bed",
        "predict STORE --classifier in.pth -o OUT.dir",
        "run STORE a.fa --classifier in.pth --gff OUT.gff3",
        "classifier convert in.pth OUT.safetensors",
        "dataset --input viral v.gb --input x x.gb -o OUT.dir",
        "residues STORE --model demo_esm2 --ids x -o OUT.h5",
        "append STORE a.fa --report OUT.tsv",
        "append OUT.zarr a.fa --create --recipe demo",
        "init OUT.zarr --recipe demo",
        "convert STORE OUT.h5",
        "status STORE --log-file OUT.log",
    ],
)
@pytest.mark.parametrize("link", [False, True])
def test_no_output_lies_inside_a_store(
    command: str,
    link: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "run.zarr"
    assert main(["init", str(store), "--recipe", "demo"]) == 0
    Path("a.fa").write_text(">a\nATGGCCGATACC\n")
    publish(Path("in.pth"), 224)
    Path("link").symlink_to(store / "obs")
    before = sorted(store.rglob("*"))
    place = "link" if link else f"{store}/obs"
    words = command.replace("STORE", str(store)).replace("OUT", f"{place}/out").split()
    capsys.readouterr()
    assert main(words) == 2
    assert f"lies inside the store {store}" in capsys.readouterr().err
    assert sorted(store.rglob("*")) == before
    assert not Path(f"{store}.predictions").exists()
