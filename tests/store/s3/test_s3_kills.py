"""Processes that are killed at a request to a real server; their like are found dead by /proc.

`tests.store.s3.test_s3_faults` does it at every request, in memory; here it is the real thing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from store.location import S3Location
from store.open import create_store, open_store
from store.s3 import objects
from store.schema import Model
from tests.rows import append, batch, expected
from tests.store.s3.test_s3_faults import fill
from tests.store.test_faults import Certified

pytestmark = pytest.mark.slow


def work(place: S3Location) -> None:
    store = open_store(place)
    if store.schema.sample("b") is None:
        append(store, "b", 30)
    fill(store, Certified())


def killed(place: S3Location, at: int) -> None:
    """Work, and kill this very process before a request."""
    made = 0
    send = objects.send

    def count(verb: str, key: str, call: Callable[[], Any]) -> Any:
        nonlocal made
        made += 1
        if made > at:
            os.kill(os.getpid(), signal.SIGKILL)
        return send(verb, key, call)

    objects.send = count
    work(place)


@pytest.mark.usefixtures("moto")
def test_killed_processes_lose_nothing(place: S3Location) -> None:
    store = create_store(place, models=[Model("small", 8)], segment_length=500, block_rows=16)
    append(store, "a", 20)
    context = multiprocessing.get_context("spawn")
    ended = []
    for at in (3, 12, 25, 40, 65, 75, 85, 95, 1000):
        process = context.Process(target=killed, args=(place, at))
        process.start()
        process.join(60)
        ended.append(process.exitcode)
        store = open_store(place)
        assert store.n_rows in (20, 50)
        assert [found for found in store.verify() if found.is_damage] == []
        filled = store.filled("small")
        assert (store.read("small")[filled] == expected(store, "small")[filled]).all()
    assert ended[0] == -signal.SIGKILL
    assert ended[-1] == 0
    assert store.certify("small").complete
    ids = store.column("id").tolist()
    assert ids == [*batch("a", 0, 20).id.tolist(), *batch("b", 0, 30).id.tolist()]
