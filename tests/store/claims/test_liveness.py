"""What watchers conclude from heartbeats about the workers that write them."""

from __future__ import annotations

import json

import pytest

from store.claims.liveness import Liveness, Verdict
from store.errors import UsageError
from tests.store.claims.claiming import far_heartbeat


def look(watcher, heartbeat):
    return watcher.verdict(heartbeat.worker, identity=heartbeat.identity)


def test_beating_worker_is_live_and_silent_after_a_lease(tmp_path, clock, watcher):
    heartbeat = far_heartbeat(tmp_path)
    heartbeat.beat()
    assert look(watcher, heartbeat) is Verdict.UNKNOWN
    clock.now += 5
    assert look(watcher, heartbeat) is Verdict.UNKNOWN
    heartbeat.beat()
    clock.now += 5
    assert look(watcher, heartbeat) is Verdict.LIVE
    for _ in range(11):
        clock.now += 5
        assert look(watcher, heartbeat) is Verdict.LIVE
    assert watcher._watched[heartbeat.worker].still == 55
    clock.now += 5
    assert look(watcher, heartbeat) is Verdict.SILENT
    heartbeat.beat()  # it was only frozen
    clock.now += 5
    assert look(watcher, heartbeat) is Verdict.LIVE


def test_one_long_gap_proves_nothing(tmp_path, clock, watcher):
    """A watcher that was frozen together with the worker must not wake up and call it dead."""
    heartbeat = far_heartbeat(tmp_path)
    heartbeat.beat()
    look(watcher, heartbeat)
    clock.now += 100_000
    assert look(watcher, heartbeat) is Verdict.UNKNOWN
    clock.now += 5
    heartbeat.beat()
    assert look(watcher, heartbeat) is Verdict.LIVE


def test_reading_time_does_not_count_as_silence(tmp_path):
    """The clock that runs while a slow file system answers does not count."""
    heartbeat = far_heartbeat(tmp_path)
    heartbeat.beat()
    ticks = iter(range(0, 100_000, 10))  # each question of the time takes 10 s
    watcher = Liveness(tmp_path, lease=60.0, clock=lambda: float(next(ticks)))
    look(watcher, heartbeat)  # asks at 0 and 10
    look(watcher, heartbeat)  # asks at 20 and 30: between 10 and 20 it stood still
    assert watcher._watched[heartbeat.worker].still == 10


def test_missing_file_is_silence_and_not_proof(tmp_path, clock, watcher):
    heartbeat = far_heartbeat(tmp_path)
    for _ in range(12):
        assert look(watcher, heartbeat) is Verdict.UNKNOWN
        clock.now += 5
    assert look(watcher, heartbeat) is Verdict.SILENT


def test_vanished_file_is_silence(tmp_path, clock, watcher):
    heartbeat = far_heartbeat(tmp_path)
    heartbeat.beat()
    look(watcher, heartbeat)
    (tmp_path / "workers" / heartbeat.worker).unlink()
    for _ in range(11):
        clock.now += 5
        assert look(watcher, heartbeat) is Verdict.UNKNOWN
    clock.now += 5
    assert look(watcher, heartbeat) is Verdict.SILENT


def test_ended_worker_is_stale_at_once(tmp_path, watcher):
    heartbeat = far_heartbeat(tmp_path)
    heartbeat.start()
    heartbeat.stop()
    assert look(watcher, heartbeat) is Verdict.ENDED
    assert look(watcher, heartbeat).stale


def test_file_names_from_claims_never_leave_the_directory(tmp_path, clock, watcher):
    (tmp_path / "workers").mkdir()
    (tmp_path / "secret").write_text(json.dumps({"worker": "../secret", "state": "ended"}))
    assert watcher.verdict("../secret", identity=None) is Verdict.UNKNOWN


@pytest.mark.parametrize("wrong", [0, -1.0])
def test_lease_must_be_positive(tmp_path, wrong):
    with pytest.raises(UsageError):
        Liveness(tmp_path, lease=wrong)
