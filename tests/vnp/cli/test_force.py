"""An output that a user names is never replaced without --force, by any command."""

from __future__ import annotations

from pathlib import Path

import pytest

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
