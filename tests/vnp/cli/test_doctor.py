"""``vnp doctor`` reports what it finds: nothing that is wrong with a store or machine ends it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.io import files, optional
from store.open import create_store
from store.schema import Model
from tests.rows import filled_store
from vnp.cli.main import main

ROOT = Path(__file__).parents[3]


def doctor(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[Any]]:
    code = main(["doctor", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert said.err == ""
    return code, json.loads(said.out)


def problems(checks: list[Any]) -> dict[str, str]:
    return {check["what"]: check["found"] for check in checks if check["state"] == "problem"}


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_a_missing_or_damaged_store_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / f"run.{kind}"
    code, checks = doctor(capsys, path)
    assert code == 1
    assert "is not a vnp store" in problems(checks)["store"]
    filled_store(path, rows=40)
    assert "store" not in problems(doctor(capsys, path)[1])
    damaged = path / "zarr.json" if kind == "zarr" else path
    damaged.write_bytes(b"{" + damaged.read_bytes()[:100])
    code, checks = doctor(capsys, path)
    assert code == 1
    assert str(path) in problems(checks)["store"]
    assert any(check["what"] == "torch" for check in checks), "the rest is reported all the same"


def test_a_store_that_cannot_be_written_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    opened = os.open

    def full(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(28, os.strerror(28), str(path))
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(files.os, "open", full)
    code, checks = doctor(capsys, store.path)
    assert code == 1
    said = problems(checks)["file system"]
    assert "run.zarr.vnp" in said
    assert "Free some space" in said
    assert any(check["what"] == "disk" for check in checks)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())  # tmp_path is closed to other users
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_store_is_read_and_reported(open_folder: Path) -> None:
    store = filled_store(open_folder / "run.zarr", rows=40)

    def as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
        # As root first: another user may not be able to read the packages.
        code = """
import contextlib, io, os, sys
from vnp.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(sys.argv[1:])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )

    run = as_nobody("doctor", str(store.path))
    assert run.returncode == 1
    assert run.stderr == ""
    assert "run.zarr.vnp" in run.stdout
    assert "Permission denied" in run.stdout
    for command in ("status", "verify"):
        run = as_nobody(command, str(store.path))
        assert (run.returncode, run.stderr) == (0, "")
    (store.sidecar.path).chmod(0o700)  # nobody may even look into the sidecar
    (store.path / "obs").chmod(0o700)
    for command in ("status", "verify"):
        run = as_nobody(command, str(store.path))
        assert run.returncode == 1
        assert "Permission denied" in run.stderr
        assert "Traceback" not in run.stderr
        assert "Errno" not in run.stderr
    assert "Traceback" not in as_nobody("doctor", str(store.path)).stderr


def test_a_library_that_cannot_be_imported_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def broken(name: str, package: str | None = None) -> Any:
        if name == "anndata":
            raise RuntimeError("cannot cache function: no locator available")
        if name == "h5py":
            raise OSError("libhdf5.so.310: cannot open shared object file")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    code, checks = doctor(capsys)
    found = {check["what"]: check for check in checks}
    assert found["anndata"]["state"] == "note"
    assert "no locator available" in found["anndata"]["found"]
    assert found["h5py"]["state"] == "problem"
    assert "libhdf5.so.310" in found["h5py"]["found"]
    assert code == 1


def test_weights_of_every_kind_of_model_are_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    path, weights = tmp_path / "run.zarr", tmp_path / "weights"
    models = [
        Model("hf_org_dna_layer1", 8, "hf:ORG/DNA@input=nucleotide,layer=1"),
        Model("ankh_base", 768),
        Model("ankh_large_layer3", 1536, "ankh_large@layer=3"),
        Model("esm2_3b_layer24", 2560, "esm2_3b@layer=24"),
        Model("imported", 8),
    ]
    create_store(path, models=models, segment_length=500)
    for name in ("DNA", "ankh_base"):
        (weights / name).mkdir(parents=True)
        (weights / name / "config.json").write_text("{}")
    (weights / "DNA" / "model.safetensors").write_bytes(b"")
    checks = {each["what"]: each for each in doctor(capsys, path, "--weights", weights)[1]}
    found = {what[11:]: each for what, each in checks.items() if what.startswith("weights of ")}
    assert list(found) == [model.name for model in models[:-1]]
    assert found["hf_org_dna_layer1"]["state"] == "ok"
    assert found["hf_org_dna_layer1"]["found"] == str(weights / "DNA")
    assert "it holds no weights" in found["ankh_base"]["found"]
    assert "hf download ElnaggarLab/ankh-large" in found["ankh_large_layer3"]["found"]
    assert "esm2_t36_3B_UR50D" in found["esm2_3b_layer24"]["found"]
    create_store(tmp_path / "plain.zarr", models=[Model("esm2_3b", 2560)], segment_length=500)
    checks = doctor(capsys, tmp_path / "plain.zarr")[1]
    said = next(each["found"] for each in checks if each["what"] == "weights of esm2_3b")
    assert said.startswith("not here: it is not in the Hugging Face cache; ")


def test_extras_are_listed_with_what_they_are_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional, "is_installed", lambda name: name not in {"starlette", "umap"})
    checks = {each["what"]: each for each in doctor(capsys)[1]}
    view, umap, faiss = (checks[f"extra {name}"] for name in ("view", "umap", "faiss"))
    assert view["state"] == "note"
    advice = "pip install 'vnp[view]'"
    assert view["found"] == f"starlette is not installed: {advice}, for vnp view"
    assert (umap["state"], faiss["state"]) == ("note", "ok")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = {"embed", "read", "all", "test", "docs", "slurm"}  # slurm: vnp imports nothing of it
    named = {what.removeprefix("extra ") for what in checks if what.startswith("extra ")}
    assert named == set(project["optional-dependencies"]) - own
