"""Eight processes at one store: every claim, block and commit has one owner.

They are spawned: obstore does not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from store.claims.participant import Participant
from store.errors import BusyError, UsageError
from store.io import bucket
from store.location import S3Location
from store.open import create_store, open_store
from store.s3.objects import Objects
from tests.rows import MODELS, append, embeddings, expected

pytestmark = pytest.mark.slow

PROCESSES = 8


def swap_in_turn(place: S3Location, number: int) -> int:
    """Add to a counter by swaps; how many were ours."""
    objects, made = Objects(place), 0
    while made < 5:
        found = objects.get("counter")
        assert found is not None
        count = int(found.content.split()[0])
        content = f"{count + 1} {number} {made}".encode()
        made += objects.swap("counter", content, found.etag) is not None
    return made


def publish_all(place: S3Location, _number: int) -> list[tuple[str, int, int]]:
    """Claim and publish what is open; the claims that were made here."""
    store = open_store(place)
    claimed = []
    with Participant(store.sidecar.room) as worker:
        for model in MODELS:
            store.pin_provenance(model.name, {"name": model.name})
            for block in range(store.n_blocks):
                claim = worker.claims.try_claim(model.name, block)
                if claim is None:
                    continue
                with claim:
                    if not store.is_filled(model.name, block):
                        store.publish(claim, embeddings(store, model.name, block))
                claimed.append((model.name, block, claim.epoch))
    return claimed


def append_own(place: S3Location, number: int) -> None:
    """Append a sample as soon as nobody else does."""
    store = open_store(place)
    while store.schema.sample(f"s{number}") is None:
        try:
            append(store, f"s{number}", 5 + number)
        except BusyError:
            store.refresh()


def race(work: partial[object]) -> list[object]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        return list(pool.map(work, range(PROCESSES)))


@pytest.mark.usefixtures("seaweed")
def test_eight_processes_at_seaweed(place: S3Location) -> None:
    store = create_store(place, models=MODELS, segment_length=500, block_rows=4)
    race(partial(append_own, place))
    store.refresh()
    assert store.n_rows == sum(5 + number for number in range(PROCESSES))
    assert sorted(sample.name for sample in store.schema.samples) == [
        f"s{number}" for number in range(PROCESSES)
    ]
    claims = [claim for found in race(partial(publish_all, place)) for claim in found]
    assert max(Counter(claims).values()) == 1, "an epoch has one owner"
    for model in MODELS:
        assert store.certify(model.name).complete
        assert (store.read(model.name) == expected(store, model.name)).all()
    assert list(store.verify()) == []


@pytest.mark.usefixtures("moto")
def test_eight_processes_at_moto(place: S3Location) -> None:
    objects = Objects(place)
    objects.put("counter", b"0")
    assert race(partial(swap_in_turn, place)) == [5] * PROCESSES
    found = objects.get("counter")
    assert found is not None
    assert int(found.content.split()[0]) == 5 * PROCESSES


def test_a_forked_process_is_told_instead_of_hanging(
    moto: str, place: S3Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Objects(place).etag("nothing") is None
    monkeypatch.setattr(bucket.os, "getpid", lambda: os.getppid())
    with pytest.raises(UsageError, match="spawn"):
        Objects(place).etag("nothing")
