"""A participant's view of the others: who is alive, and whose files are read again."""

from __future__ import annotations

import os

import pytest

from store.claims.heartbeat import Heartbeat
from store.claims.liveness import Verdict
from store.claims.participant import Participant
from store.claims.process import Identity


def identity(name):
    return Identity(host=name, boot="b", pid_ns="n", pid=7, started=1, job=None)


@pytest.fixture
def participant(tmp_path):
    """A participant with a clock of its own, which each look moves on by ten seconds."""
    participant, now = Participant(tmp_path, interval=5.0), [0.0]
    participant.liveness._clock = lambda: now[0]

    def others():
        participant._look_again = 0.0
        now[0] += 10.0
        return [beat.worker for beat in participant.others()]

    participant.now, participant.look = now, others
    return participant


def test_others_are_those_seen_to_move(participant, tmp_path):
    assert participant.look() == []  # no file of anybody yet
    moving, still = (Heartbeat(tmp_path, identity=identity(name)) for name in "ab")
    moving.beat()
    still.beat()
    participant.heartbeat.beat()
    assert participant.look() == []  # not seen to move yet
    moving.report({"model": "small", "record_seconds": 0.25})
    moving.beat()
    participant.heartbeat.beat()
    assert participant.look() == [moving.worker]
    assert participant.others()[0].progress == {"model": "small", "record_seconds": 0.25}
    assert participant._look_again > 0  # the same list for now
    moving.stop()
    assert participant.look() == []


def test_workers_that_left_are_not_read_again(participant, tmp_path, monkeypatch):
    ended, silent = (Heartbeat(tmp_path, identity=identity(name)) for name in "ab")
    ended.beat()
    ended.stop()
    silent.beat()
    for _ in range(8):
        assert participant.look() == []
    read = []
    monkeypatch.setattr(
        participant.liveness, "verdict", lambda worker, **_: read.append(worker) or Verdict.UNKNOWN
    )
    participant.look()
    assert read == []  # one for good, the other for a lease


def test_a_pipe_among_the_heartbeats_holds_nobody_up(participant, tmp_path):
    (tmp_path / "workers").mkdir()
    os.mkfifo(tmp_path / "workers" / ("d" * 32))
    (tmp_path / "workers" / ("e" * 32)).mkdir()
    assert participant.look() == participant.look() == []
