"""Requests over a real connection that fail on the way, and servers that cannot be trusted."""

from __future__ import annotations

import pytest

from store.errors import UsageError
from store.location import S3Location
from store.open import create_store, open_store
from store.s3 import objects, probe
from store.s3.objects import Objects
from tests.rows import MODELS, append, expected
from tests.store.s3 import servers
from tests.store.s3.proxy import (
    CLOSED,
    ERROR,
    LOST,
    LOST_SILENTLY,
    PASS,
    SILENT,
    SLOW_DOWN,
    every,
    proxy,
)
from tests.store.s3.test_s3_faults import fill
from tests.store.test_faults import Certified


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "wait", lambda _seconds: None)
    monkeypatch.setattr(probe, "_trusted", set())


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 2])
def test_what_fails_on_the_way_is_neither_lost_nor_done_twice(
    moto: str, place: S3Location, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    plan = every(3, (LOST, SLOW_DOWN, ERROR, LOST, CLOSED), first=first)
    with proxy(moto, plan) as (endpoint, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        store = create_store(place, models=MODELS, segment_length=500, block_rows=16)
        append(store, "a", 20)
        fill(store, Certified())
        append(store, "b", 30)
        fill(store, Certified())
        lost = [line for line in seen if line.startswith("PUT") and line.endswith(LOST)]
    assert len(lost) > 10
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    store = open_store(place)
    assert [sample.name for sample in store.schema.samples] == ["a", "b"]
    for model in MODELS:
        assert store.certify(model.name).complete
        assert (store.read(model.name) == expected(store, model.name)).all()
    assert list(store.verify()) == []
    names = store.sidecar.room.names("claims/small")
    epochs = [int(name.split(".")[1]) for name in names if not name.endswith("released")]
    assert max(epochs) == 2, "only the tail was claimed twice; no claim was lost to its own echo"


def test_a_lost_answer_to_a_claim_leaves_it_to_its_owner(
    moto: str, place: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(moto, lambda number, _: LOST if number == 0 else PASS) as (endpoint, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert Objects(place).create("claims/m/1", b"mine, and nobody else's") is not None
        assert Objects(place).create("claims/m/1", b"another's") is None
    assert [line.split()[0] for line in seen] == ["PUT", "PUT", "GET", "PUT"]


@pytest.mark.parametrize("fate", [SILENT, LOST_SILENTLY])
def test_a_request_without_an_answer_is_given_up_and_made_again(
    moto: str, place: S3Location, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    with proxy(moto, lambda number, _: fate if number in (0, 3) else PASS) as (endpoint, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        objects = Objects(place, timeout="1s")
        etag = objects.create("key", b"generation 1")
        assert etag is not None
        assert objects.etag("key") == etag
        found = objects.get("key")
        assert found is not None
        assert found.content == b"generation 1"
    # Of the one that was made, its echo is read before it is known as ours.
    again = ["PUT", "PUT", "GET"] if fate == LOST_SILENTLY else ["PUT", "PUT"]
    assert [line.split()[0] for line in seen][: len(again)] == again


def test_a_lost_answer_to_a_swap_is_found_out(
    moto: str, place: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    etag = Objects(place).create("root", b"generation 1")
    assert etag is not None
    with proxy(moto, lambda number, _: LOST if number == 0 else PASS) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        made = Objects(place).swap("root", b"generation 2", etag)
        assert made == Objects(place).etag("root")
        assert Objects(place).swap("root", b"generation 3", etag) is None


@pytest.mark.parametrize(
    ("header", "said"), [("if-none-match", "If-None-Match"), ("if-match", "If-Match")]
)
def test_a_server_that_ignores_a_condition_is_refused(
    moto: str,
    place: S3Location,
    monkeypatch: pytest.MonkeyPatch,
    header: str,
    said: str,
) -> None:
    # Moto does not look at signatures, which cover the header that is dropped.
    with proxy(moto, lambda *_: PASS, without=frozenset({header})) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(UsageError, match=f"ignores {said}.*Nothing is written there"):
            create_store(place, models=MODELS, segment_length=500)
        assert Objects(place).names("") == []
        assert Objects(place.with_name("run.zarr.vnp")).names("") == []


@pytest.mark.parametrize("fate", [ERROR, SLOW_DOWN, CLOSED])
def test_a_server_that_never_answers_is_named_without_the_keys(
    moto: str, place: S3Location, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    with proxy(moto, lambda *_: fate) as (endpoint, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(OSError, match=f"GET {place}/zarr.json: ") as caught:
            open_store(place)
    assert len(seen) == 10
    assert servers.SECRET not in str(caught.value)
    assert servers.KEY_ID not in str(caught.value)
