"""An optional library that cannot be imported costs its feature, in one line, and nothing else."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.errors import UsageError
from store.io import optional
from store.io.optional import MissingPackageError, available, require, why_not
from store.open import open_store
from tests.rows import filled_store
from vnp.report.projection import project

ERRORS = [
    RuntimeError("cannot cache function '_f': no locator available for file 'x.py'\nmore"),
    OSError("libomp.so.5: cannot open shared object file"),
    ImportError("numba needs NumPy 2.3 or less"),
    AttributeError("module 'numpy' has no attribute 'float_'"),
    ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite"),
    SystemError("initialization failed"),
]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Exception:
    real = importlib.import_module

    def fail(name: str, package: str | None = None) -> Any:
        if name in ("umap", "faiss", "h5py"):
            raise request.param
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", fail)
    monkeypatch.setattr(optional, "_said", set())
    return request.param


def test_the_reason_is_one_line(broken: Exception) -> None:
    with pytest.raises(MissingPackageError) as error:
        require("umap", for_what="the map")
    said = str(error.value)
    assert said.startswith("the map needs umap, which is installed, but cannot be imported (")
    assert type(broken).__name__ in said
    assert "\n" not in said
    assert "no such" not in (why_not("umap") or "")


def test_what_can_do_without_is_left_out_with_one_warning(
    broken: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    x = np.random.default_rng(1).normal(size=(60, 8))
    for _ in range(2):
        found = project(x)
        assert found is not None
        assert found.method == "PCA"
    assert len(caplog.messages) == 1
    assert type(broken).__name__ in caplog.messages[0]


def test_search_goes_on_without_faiss(broken: Exception, tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    hits = store.search(np.ones(28), 2)
    assert hits.rows.shape == (1, 2)
    with pytest.raises(UsageError, match="cannot be imported"):
        store.search(np.ones(28), 2, engine="faiss")


def test_an_hdf5_store_says_why_it_cannot_be_opened(broken: Exception, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=type(broken).__name__):
        open_store(tmp_path / "run.h5")


def test_what_is_not_installed_is_not_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert available("no_such_library", for_what="nothing") is None
    assert caplog.messages == []
    assert why_not("no_such_library") == "is not installed: pip install no_such_library"
    assert why_not("json") is None
