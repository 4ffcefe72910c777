"""What ``vnp launch`` refuses before anything is started."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.rows import filled_store
from vnp.cli.main import main


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line of a command that ends with 2."""
    assert main(["launch", *map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    return line


def test_without_ray_one_line_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    line = refused(capsys, "ray", tmp_path / "run.zarr", "--workers", 2)
    advice = "pip install 'vnp[ray]'"
    assert line.endswith(f"vnp launch ray needs ray, which is not installed: {advice}")


@pytest.mark.parametrize("gpus", ["1.5", "2.25"])
def test_a_share_that_ray_cannot_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gpus: str
) -> None:
    path = tmp_path / "run.zarr"
    line = refused(capsys, "ray", path, "--workers", 2, "--gpus-per-worker", gpus)
    assert f"{gpus} GPUs a worker" in line


def test_a_cluster_that_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")

    def init(**options: Any) -> None:
        raise ConnectionError(f"Failed to connect to {options['address']}\nand much more")

    monkeypatch.setattr(ray, "init", init)
    store = filled_store(tmp_path / "run.zarr", rows=40)
    store.reopen("small", 0)
    line = refused(capsys, "ray", store.path, "--workers", 2, "--address", "h:1")
    assert "no Ray cluster answers at h:1" in line
    assert "(Failed to connect to h:1)" in line
    line = refused(capsys, "ray", store.path, "--workers", 2)
    assert "ray start --head" in line


def test_an_engine_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["launch", "rya", "run.zarr"])
    assert end.value.code == 2
    assert "ray" in capsys.readouterr().err
