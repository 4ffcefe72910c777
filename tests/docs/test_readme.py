"""The README's Python is run as it stands, on the store of its first command."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from vnp.cli.main import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, flags=re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    path = str(folder / "run.zarr")
    assert main(["init", path, "--recipe", "demo"]) == 0
    assert main(["append", path, str(ROOT / "vnp/data/lambda_phage.fa.gz")]) == 0
    assert main(["embed", path]) == 0
    return folder


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs(
    snippet: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "scanpy" in snippet:
        pytest.importorskip("scanpy")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages say of themselves is theirs
        exec(compile(snippet, "README.md", "exec"), {})


def test_the_readme_shows_the_two_commands() -> None:
    assert "make embed STORE=run.zarr" in README
    assert "make test" in README
    assert len(SNIPPETS) >= 3
