"""``vnp embed --certify``: the end of a run whose workers an engine started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.vnp.cli.test_cli import EXAMPLE, run

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A demo store with small blocks and the example appended."""
    path = tmp_path / "run.zarr"
    assert run("init", path, "--recipe", "demo", "--block-rows", "16").returncode == 0
    assert run("append", path, EXAMPLE).returncode == 0
    return path


def test_certify_starts_no_worker_and_tells_what_stands(store: Path) -> None:
    result = run("embed", store, "--certify", "--json")
    assert result.returncode == 3, result.stderr
    report = json.loads(result.stdout)
    assert report["certified"] == {"demo_dnabert_s": 0, "demo_esm2": 0}
    assert report["workers"] == []
    assert run("embed", store).returncode == 0
    result = run("embed", store, "--certify")
    assert result.returncode == 0, result.stderr
    assert "complete: every row is certified" in result.stdout
    assert run("embed", store, "--certify", "--workers", 2).returncode == 2
    assert run("embed", store, "--certify", "--model", "nonsense").returncode == 2


def test_certify_opens_again_what_no_longer_stands(store: Path) -> None:
    assert run("embed", store).returncode == 0
    chunk = store / "obsm/X_demo_esm2/c.1.0"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-1])
    result = run("embed", store, "--certify", "--model", "demo_dnabert_s")
    assert result.returncode == 0, result.stderr
    result = run("embed", store, "--certify")
    assert result.returncode == 3
    assert "demo_esm2 block 1 was filled but" in result.stdout
    assert "demo_esm2 block 1 is open again" in result.stderr
    assert "fills the rest" in result.stdout
    assert run("worker", store).returncode == 0
    assert run("embed", store, "--certify").returncode == 0
    assert chunk.read_bytes() == sound
