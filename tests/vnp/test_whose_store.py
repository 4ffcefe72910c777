"""Another `store` on the path than vnp's own: one clear error, naming the file and the way out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def error_of_import(folder: Path, *, code: str = "import vnp", path: Path = ROOT) -> str:
    """Last line of the error of a Python that runs in a folder."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PYTHONPATH": str(path)},
    )
    return result.stderr.strip().rpartition("\n")[2]


def test_a_store_py_in_the_working_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.py").write_text("raise SystemExit('run by mistake')\n")
    said = error_of_import(tmp_path)
    assert said.startswith("vnp.whose_store.WrongStoreError: vnp needs its own package 'store'")
    assert str(tmp_path / "store.py") in said
    assert str(ROOT / "store") in said
    assert "rename that file" in said
    imported = error_of_import(tmp_path, code="import sys; sys.modules['store'] = sys\nimport vnp")
    assert "WrongStoreError" in imported, "one that was imported before"


def test_a_command_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "store.py").write_text("raise SystemExit('run by mistake')\n")
    done = subprocess.run(
        [sys.executable, "-m", "vnp", "status", "x.zarr"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("vnp: error: vnp needs its own package 'store'")
    assert "off PYTHONPATH" in line


def test_a_folder_called_store_that_is_no_package_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert error_of_import(tmp_path, code="import vnp; vnp.open") == ""


@pytest.mark.parametrize(
    ("content", "way_out"), [("", "pip uninstall store"), (None, "install vnp again")]
)
def test_a_package_that_was_installed_over_ours_is_told(
    tmp_path: Path, content: str | None, way_out: str
) -> None:
    """The package `store` of PyPI has an empty __init__.py."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "vnp", site / "vnp", ignore=shutil.ignore_patterns("__pycache__"))
    if content is not None:
        (site / "store").mkdir()
        (site / "store/__init__.py").write_text(content)
    code = f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\nimport vnp"
    if content is None:  # not the editable installation's either
        library = "p.startswith(sys.base_prefix) and 'site-packages' not in p"
        code = f"import sys; sys.path = [{str(site)!r}, *(p for p in sys.path if {library})]"
        code += "\nimport vnp"
    said = error_of_import(tmp_path, code=code, path=site)
    assert "WrongStoreError" in said
    assert way_out in said
