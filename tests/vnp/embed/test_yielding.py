"""The last blocks are left to workers that are done with them sooner."""

from __future__ import annotations

import os

import pytest

from store.claims.heartbeat import Beat, Heartbeat
from store.claims.liveness import Verdict
from store.claims.participant import Participant
from store.claims.process import Identity
from store.open import create_store
from store.schema import Model
from tests.rows import append
from tests.vnp.embed.stub_worker import StubEncoder
from vnp.embed.jobs import BlockSource
from vnp.embed.yielding import others_finish, pace_of


def beat(**progress):
    return Beat("f" * 32, None, 1, ended=False, interval=5.0, progress=progress)


def test_pace_is_of_the_same_model_and_a_number():
    assert pace_of(beat(model="small", record_seconds=0.5), "small") == 0.5
    assert pace_of(beat(model="wide", record_seconds=0.5), "small") is None
    assert pace_of(beat(model="small", record_seconds=2), "small") == 2.0
    odd_ones = (None, "1", float("nan"), float("inf"), 0, -1.0, [1], {}, True, 10**400, 5e-324)
    for odd in odd_ones:
        assert pace_of(beat(model="small", record_seconds=odd), "small") is None
    assert pace_of(beat(), "small") is None


@pytest.mark.parametrize(
    ("paces", "blocks"),
    [
        ([], 0),
        ([10.0, 6.0, 30.0], 0),  # one of 6 s has a block in hand: it would not end sooner
        ([5.0], 1),
        ([5.1], 1),  # about half
        ([1.0], 9),
        ([1.0, 5.0, 20.0], 10),
    ],
)
def test_blocks_that_others_finish_meanwhile(paces, blocks):
    assert others_finish(10.0, paces) == blocks


def source_of(tmp_path, others, *, clock=lambda: 0.0):
    store = create_store(
        tmp_path / "run.zarr", models=[Model("small", 8)], segment_length=500, block_rows=16
    )
    append(store, "a", 70)  # five blocks
    store.sidecar.make()
    presence = Participant(store.sidecar.path)
    return BlockSource(
        store,
        claims=presence.claims,
        models=("small",),
        encoder_of=StubEncoder,
        say=print,
        others=lambda: others,
        clock=clock,
    )


def test_a_slow_worker_leaves_the_last_blocks_and_takes_them_if_the_others_die(tmp_path):
    others = []
    source = source_of(tmp_path, others)
    assert source.next() is not None  # it knows no pace yet, of nobody
    source.told("small", records=16, seconds=16.0)
    assert source.pace("small") == 1.0
    assert source.next() is not None  # there is nobody else
    others.append(beat(model="small", record_seconds=0.4))
    assert source.next() is not None  # the other would do one of the three that are left
    others.append(beat(model="small", record_seconds=0.5))
    assert source.next() is None  # two that are left, two are done sooner by others
    assert not source.exhausted
    assert source.next() is None
    others.clear()
    assert [source.next() is not None for _ in range(3)] == [True, True, False]


def test_it_does_not_wait_longer_than_it_would_have_taken(tmp_path):
    now = [100.0]
    others = [beat(model="small", record_seconds=0.01)]  # alive, but stuck
    source = source_of(tmp_path, others, clock=lambda: now[0])
    assert source.next() is not None
    source.told("small", records=16, seconds=16.0)
    assert source.next() is None
    now[0] += 15.9
    assert source.next() is None
    now[0] += 0.2
    for _ in range(4):
        assert source.next() is not None
    assert source.next() is None


def test_a_fast_worker_leaves_nothing(tmp_path):
    others = [beat(model="small", record_seconds=seconds) for seconds in (0.9, 1.0, 1.1, 50.0)]
    source = source_of(tmp_path, others)
    for _ in range(5):
        assert source.next() is not None
        source.told("small", records=16, seconds=16.0)
    assert source.next() is None


def test_a_block_with_few_records_to_embed_tells_no_pace(tmp_path):
    source = source_of(tmp_path, [])
    source.told("small", records=0, seconds=1.0)
    source.told("small", records=16, seconds=0.0)
    source.told("small", records=3, seconds=12.0)  # of 16; mostly what any block takes
    assert source.pace("small") is None
    source.told("small", records=4, seconds=12.0)
    assert source.pace("small") == 3.0


def identity(name):
    return Identity(host=name, boot="b", pid_ns="n", pid=7, started=1, job=None)


@pytest.fixture
def presence(tmp_path):
    """A presence with a clock of its own, which each look moves on by ten seconds."""
    presence, now = Participant(tmp_path, interval=5.0), [0.0]
    presence.liveness._clock = lambda: now[0]

    def others():
        presence._look_again = 0.0
        now[0] += 10.0
        return [beat.worker for beat in presence.others()]

    presence.now, presence.look = now, others
    return presence


def test_others_are_those_seen_to_move(presence, tmp_path):
    assert presence.look() == []  # no file of anybody yet
    moving, still = (Heartbeat(tmp_path, identity=identity(name)) for name in "ab")
    moving.beat()
    still.beat()
    presence.heartbeat.beat()
    assert presence.look() == []  # not seen to move yet
    moving.report({"model": "small", "record_seconds": 0.25})
    moving.beat()
    presence.heartbeat.beat()
    assert presence.look() == [moving.worker]
    assert pace_of(presence.others()[0], "small") == 0.25
    assert presence._look_again > 0  # the same list for now
    moving.stop()
    assert presence.look() == []


def test_workers_that_left_are_not_read_again(presence, tmp_path, monkeypatch):
    ended, silent = (Heartbeat(tmp_path, identity=identity(name)) for name in "ab")
    ended.beat()
    ended.stop()
    silent.beat()
    for _ in range(8):
        assert presence.look() == []
    read = []
    monkeypatch.setattr(
        presence.liveness, "verdict", lambda worker, **_: read.append(worker) or Verdict.UNKNOWN
    )
    presence.look()
    assert read == []  # one for good, the other for a lease


def test_a_pipe_among_the_heartbeats_holds_nobody_up(presence, tmp_path):
    (tmp_path / "workers").mkdir()
    os.mkfifo(tmp_path / "workers" / ("d" * 32))
    (tmp_path / "workers" / ("e" * 32)).mkdir()
    assert presence.look() == presence.look() == []
