"""Servers are told apart, and those that ignore conditions are refused: the programs themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from store.errors import UsageError
from store.location import S3Location
from store.open import create_store, open_store
from store.s3 import probe
from store.s3.objects import Objects
from tests.rows import MODELS
from tests.store.s3 import servers


@pytest.fixture(autouse=True)
def _untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_trusted", set())


def refused(place: S3Location) -> None:
    """A store cannot be made there, and nothing is left of the attempt."""
    with pytest.raises(UsageError, match=r"ignores If-None-Match.*Nothing is written there"):
        create_store(place, models=MODELS, segment_length=500)
    assert Objects(place).names("") == []
    assert Objects(place.with_name("run.zarr.vnp")).names("") == []


@pytest.mark.slow
@pytest.mark.skipif(not servers.has_rclone(), reason="needs rclone 1.65 or newer: serve s3")
def test_rclone_is_refused(
    place: S3Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.rclone(tmp_path) as endpoint:
        for name, value in servers.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        refused(place)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("s3rver") is None, reason="needs s3rver: npm install -g s3rver")
def test_s3rver_is_refused(
    place: S3Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.s3rver(tmp_path) as endpoint:
        for name, value in servers.environment(endpoint, servers.S3RVER_KEYS).items():
            monkeypatch.setenv(name, value)
        refused(place)


def test_stores_of_one_name_at_two_servers_have_digests_of_their_own(
    moto: str, place: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(place, models=MODELS, segment_length=500)
    here = store.sidecar.digests
    assert open_store(place).sidecar.digests == here
    for other in (place.with_name("other.zarr"), S3Location("public", place.key)):
        beside = create_store(other, models=MODELS, segment_length=500)
        assert beside.sidecar.digests != here
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "https://s3.example.org")
        there = store.sidecar.digests
        assert there != here
        assert there.parent == here.parent
        monkeypatch.setenv(name, f"{moto}/")
        assert store.sidecar.digests == here
