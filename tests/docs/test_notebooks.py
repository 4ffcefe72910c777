"""The notebooks of docs/notebooks run from top to bottom; the stop button stops in order."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, where the kernel finds this vnp, and leaves nothing elsewhere."""
    for package in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(package)
    places = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT)}
    for name, place in places.items():
        monkeypatch.setenv(name, os.pathsep.join([place, *filter(None, [os.environ.get(name)])]))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def executed(notebook: Any, folder: Path) -> Any:
    """Run a notebook in a kernel of its own; an error of a cell is raised."""
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(folder)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages say of themselves is theirs
        return NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources=resources
        ).execute()


def text_of(notebook: Any) -> str:
    """Everything that the cells print and show, as text."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    shown = [out["data"].get("text/plain", "") for out in outputs if "data" in out]
    return "\n".join([*(out.get("text", "") for out in outputs), *shown])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, folder: Path) -> None:
    import nbformat

    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells), "no outputs"
    text = text_of(executed(notebook, folder))
    assert "'demo_esm2': " in text
    html = [out.get("data", {}).get("text/html", "") for cell in cells for out in cell.outputs]
    assert any("lambda_phage" in shown and "100.0%" in shown for shown in html), "the store's"


def test_there_are_two_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first-steps", "study"]


_INTERRUPTED = """
import os, signal
import vnp, vnp.embed.worker as worker
from importlib.resources import files

vnp.create("run.zarr", recipe="demo", block_rows=16)
vnp.append("run.zarr", files("vnp") / "data/lambda_phage.fa.gz")
before, publish = signal.getsignal(signal.SIGINT), worker.publish

def publish_and_press_stop(block):
    publish(block)
    worker.publish = publish
    os.kill(os.getpid(), signal.SIGINT)

worker.publish = publish_and_press_stop
try:
    vnp.embed("run.zarr", in_process=True)
except KeyboardInterrupt as error:
    print("interrupted:", error)
assert signal.getsignal(signal.SIGINT) is before
status = vnp.status("run.zarr")
assert 0 < status.rows_done < status.rows_wanted, status
assert not any(model.claimed + model.stale for model in status.models)
print("then complete:", vnp.embed("run.zarr", in_process=True).complete)
"""


def test_the_stop_button_stops_embedding_in_order(folder: Path) -> None:
    pytest.importorskip("nbformat")
    from nbformat.v4 import new_code_cell, new_notebook

    text = text_of(executed(new_notebook(cells=[new_code_cell(_INTERRUPTED)]), folder))
    assert "interrupted: vnp.embed stopped in order" in text
    assert "then complete: True" in text
    assert "100%" in text, "a bar, as in a notebook"
