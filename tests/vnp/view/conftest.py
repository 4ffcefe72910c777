"""A store that is served, and browsers that ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.store import Store
from tests.vnp.view.stores import (
    Browser,
    make_store,
    opened,
    until,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that no test changes."""
    return make_store(tmp_path_factory.mktemp("shared") / "run.zarr")


@pytest.fixture(scope="module")
def client(shared: Store) -> Iterator[Browser]:
    """A browser that opened the address of the shared store, whose contigs are indexed."""
    with opened(shared) as browser:
        until(lambda: browser.get("/api/overview").json()["classifier"], "the calls")
        yield browser


@pytest.fixture
def stranger(client: Browser) -> Browser:
    """A browser that has been nowhere yet."""
    return Browser(client.port)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "run.zarr")
