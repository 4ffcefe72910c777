"""What ``vnp status`` asks of a bucket: several requests at a time, and their number is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Event

import pytest

from store.claims.heartbeat import read_beats
from store.claims.participant import Participant
from store.open import create_store
from store.s3.objects import TALLY
from store.schema import Model
from store.store import Store
from tests.rows import append, embeddings
from tests.store.s3.fake import Process, stage
from tests.store.s3.test_s3_faults import PLACE
from vnp.embed.status import StoreStatus, read_status

BLOCKS = 10


def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    from store.s3 import objects

    send = objects.send

    def count(verb: str, key: str, call):  # type: ignore[no-untyped-def]
        TALLY.add(verb)
        return send(verb, key, call)

    monkeypatch.setattr(objects, "send", count)


def looked(store: Store) -> tuple[StoreStatus, Counter[str]]:
    before = Counter(TALLY.requests)
    status = read_status(store, precisions=True)
    return status, TALLY.requests - before


def test_requests_are_few_and_made_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, two_at_a_time: Callable[[str, str], Event]
) -> None:
    with stage() as made, made.process(Process()):
        counting(monkeypatch)
        models = [Model("small", 4), Model("other", 4)]
        store = create_store(
            PLACE, models=models, segment_length=500, block_rows=1, mixed_precision=True
        )
        append(store, "a", BLOCKS)
        store.pin_provenance("small", {"name": "small"})
        workers = [Participant(store.sidecar.room) for _ in range(BLOCKS)]
        for block, worker in enumerate(workers):
            worker.heartbeat.start()
            claim = worker.claims.try_claim("small", block)
            assert claim is not None
            precision = "float32" if block < 3 else "bfloat16"
            store.publish(claim, embeddings(store, "small", block), {"precision": precision})
            assert worker.claims.try_claim("other", block) is not None
        folders = ("obs/certificate_small/", "claims/other/")
        met = [two_at_a_time("GET", folder) for folder in folders]
        status, requests = looked(store)
        # Of each block its certificate, or its claim and the owner's heartbeat, which is read again
        # for the progress; the listings of flags, claims and heartbeats; the appender's lock.
        assert requests == {"LIST": 7, "HEAD": 3, "GET": 1 + 4 * BLOCKS}
        assert all(event.is_set() for event in met)
        small, other = status.models
        assert small.precisions == {"bfloat16": 7, "float32": 3}
        assert (other.claimed, other.open_blocks) == (BLOCKS, BLOCKS)
        beats = two_at_a_time("GET", "workers/")
        assert len(read_beats(store.sidecar.room)) == BLOCKS
        assert beats.is_set()
