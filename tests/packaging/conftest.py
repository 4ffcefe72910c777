"""The sdist and the wheel, built once from a tree in which tutorials and developers left files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("vnp", "store", "packaging")
FILES = ("CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml", ".gitignore")
LEFT_BY_OTHERS = (
    "run.zarr/zarr.json",
    "run.zarr.vnp/claims/x.json",
    "run.h5",
    "run.report.html",
    "run.predictions/lambda/calls.tsv",
    "run_mqc.json",
    ".venv/lib/x.py",
    "build/x",
    "dist/old.whl",
    "reports/x.html",
    "sample.fa.gz",
    "weights/esm2_3b/model.safetensors",
    "docs/notebooks/first.zarr/zarr.json",
    "tests/x.py",
    "vnp/run.zarr/zarr.json",
    "vnp/__pycache__/x.pyc",
    "store/run.h5",
)


@dataclass(frozen=True, slots=True)
class Built:
    """What hatchling made."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    pytest.importorskip("hatchling")
    tree = tmp_path_factory.mktemp("tree")
    for folder in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    for file in FILES:
        shutil.copy(ROOT / file, tree / file)
    for name in LEFT_BY_OTHERS:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("left by others")
    dist = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-d", str(dist)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Built(next(dist.glob("*.tar.gz")), next(dist.glob("*.whl")))
