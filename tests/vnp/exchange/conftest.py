"""Stores that the tests of exchange share, and warnings that are not ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.store import Store
from tests.vnp.exchange.embedding_forms import new_store
from tests.vnp.exchange.stores import demo


@pytest.fixture(autouse=True)
def _outside_warnings() -> Iterator[None]:
    """Ignore warnings of other packages about themselves; ours stay errors."""
    with warnings.catch_warnings():
        for module in ("anndata", "zarr", "faiss", "importlib"):
            warnings.filterwarnings("ignore", module=rf"{module}(\..*)?\Z")
        yield


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return demo(tmp_path_factory.mktemp("export") / "run.zarr")


@pytest.fixture(scope="module")
def gappy(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return demo(tmp_path_factory.mktemp("export") / "gaps.zarr", gaps=True)


@pytest.fixture(params=[".zarr", ".h5"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return new_store(tmp_path / f"run{request.param}")


@pytest.fixture
def plain(tmp_path: Path) -> Store:
    return new_store(tmp_path / "run.zarr")
