"""Every request fails, loses its answer, or is the last before a kill: nothing is lost.

The scenario is that of `tests.store.test_faults`, with claims of its own and two columns of chunks
past the end; requests are counted below everything, those of claims and heartbeats too.
"""

from __future__ import annotations

from typing import Any

import pytest
from obstore import exceptions

from store.claims.participant import Participant
from store.errors import StoreError
from store.location import S3Location
from store.open import create_store, open_store
from store.schema import Model
from store.store import Store
from tests.rows import append, embeddings
from tests.store.faulty_backend import Stopped
from tests.store.s3.fake import DENIED, SLOW_DOWN, Process, Stage, stage
from tests.store.test_faults import SCORES, Certified, R, assert_nothing_lost, facts

PLACE = S3Location("bucket", "run.zarr")


def create() -> Store:
    return create_store(PLACE, models=[Model("small", 8)], segment_length=500, block_rows=R)


def fill(store: Store, promised: Certified) -> None:
    with Participant(store.sidecar.room) as worker:
        for model in store.schema.models:
            store.pin_provenance(model.name, {"name": model.name})
            for block in store.open_blocks(model.name).tolist():
                claim = worker.claims.try_claim(model.name, block)
                assert claim is not None
                with claim:
                    store.publish(claim, embeddings(store, model.name, block))
                promised[model.name, block] = len(embeddings(store, model.name, block))


def scenario(promised: Certified) -> None:
    """Do whatever is not done yet."""
    try:
        store = open_store(PLACE)
    except StoreError:
        store = create()
    if store.schema.sample("a") is None:
        append(store, "a", 11)
    fill(store, promised)
    if store.schema.sample("b") is None:
        append(store, "b", 9)  # into the block of the tail, and beyond it
    if all(model.name != "late" for model in store.schema.models):
        store.add_model(Model("late", 4))
    fill(store, promised)
    rows = [(0, store.n_rows)]
    for digest in ("sha256:1", "sha256:2"):
        values = SCORES[: store.n_rows] * int(digest[-1])
        store.save_scores("phage", digest=digest, values=values, rows=rows, replace=True)


def known(store: Store) -> dict[str, Any]:
    """Facts, but for who has made what."""
    return {
        name: value[:2] if isinstance(value, tuple) and isinstance(value[2], str) else value
        for name, value in facts(store).items()
    }


def undisturbed() -> tuple[dict[str, Any], int]:
    with stage() as made:
        with made.process(Process()) as process:
            scenario(Certified())
        with made.process(Process()):
            store = open_store(PLACE)
            assert list(store.verify()) == []
            return known(store), process.requests


def disturb(made: Stage, process: Process, promised: Certified) -> bool:
    """Run the scenario; whether it ended by an error."""
    try:
        with made.process(process):
            scenario(promised)
    except (OSError, Stopped, StoreError):
        return True
    return False


def check(made: Stage, promised: Certified, wanted: dict[str, Any], what: str) -> None:
    """What is there is right, and the next process finishes the rest."""
    with made.process(Process()):
        try:
            store = open_store(PLACE)
        except StoreError:
            assert not promised
        else:
            assert_nothing_lost(store, promised)
        scenario(promised)
        store = open_store(PLACE)
        assert known(store) == wanted, what
        damage = [finding for finding in store.verify() if finding.is_damage]
        assert damage == [], what


def faults(error: type[BaseException], text: str, **how: Any) -> Any:
    return lambda at: Process(at, error=error(text), **how)


FATAL = {
    "killed": faults(Stopped, "killed"),
    "denied": faults(exceptions.PermissionDeniedError, DENIED),
    "down": faults(exceptions.GenericError, SLOW_DOWN, lasting=True),
    "down, the last answer lost": faults(
        exceptions.GenericError, "no answer", lasting=True, after=True
    ),
}
PASSING = {
    "slow down": faults(exceptions.GenericError, SLOW_DOWN),
    "answer lost": faults(exceptions.GenericError, "no answer", after=True),
}
STEPS = {"killed": 1, "answer lost": 3}  # of the others every seventh request, each another


@pytest.mark.slow
@pytest.mark.parametrize("kind", FATAL)
def test_whatever_request_is_the_last_nothing_is_lost(kind: str) -> None:
    wanted, requests = undisturbed()
    assert requests > 150
    for at in range(list(FATAL).index(kind), requests, STEPS.get(kind, 7)):
        promised = Certified()
        with stage() as made:
            process = FATAL[kind](at)
            ended = disturb(made, process, promised)
            # A worker does without a heartbeat or a release that fails; not without its life.
            assert process.came
            assert ended or kind != "killed"
            check(made, promised, wanted, f"{kind} at request {at}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", PASSING)
def test_a_request_that_fails_once_is_not_noticed(kind: str) -> None:
    wanted, requests = undisturbed()
    for at in range(0, requests, STEPS.get(kind, 7)):
        with stage() as made:
            process = PASSING[kind](at)
            assert not disturb(made, process, Certified()), f"{kind} at request {at}"
            assert process.came
            with made.process(Process()):
                store = open_store(PLACE)
                assert known(store) == wanted, f"{kind} at request {at}"
                assert list(store.verify()) == [], f"{kind} at request {at}"
