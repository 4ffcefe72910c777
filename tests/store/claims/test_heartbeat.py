"""Signs of life, and what others conclude from them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

from store.claims.heartbeat import Heartbeat, new_worker, read_beat, read_beats
from store.claims.liveness import Liveness, Verdict
from store.claims.process import Identity, identify, is_gone
from store.errors import UsageError

ELSEWHERE = Identity(host="node7", boot="b", pid_ns="pid:[1]", pid=4711, started=99, job="slurm:12")


class Clock:
    """A monotonic clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watcher(tmp_path, clock):
    return Liveness(tmp_path, lease=60.0, clock=clock)


def far_heartbeat(tmp_path) -> Heartbeat:
    return Heartbeat(tmp_path, identity=ELSEWHERE)


def look(watcher, heartbeat):
    return watcher.verdict(heartbeat.worker, identity=heartbeat.identity)


def test_file_tells_who_how_far_and_that_it_ended(tmp_path):
    with Heartbeat(tmp_path, interval=3600) as heartbeat:
        first = read_beat(tmp_path, heartbeat.worker)
        heartbeat.report({"model": "esm2", "records": 12, "rate": 3.5})
        heartbeat.beat()
        second = read_beat(tmp_path, heartbeat.worker)
    last = read_beat(tmp_path, heartbeat.worker)
    assert (first.counter, second.counter, last.counter) == (1, 2, 3)
    assert first.identity == identify()
    assert first.progress == {}
    assert second.progress == last.progress == {"model": "esm2", "records": 12, "rate": 3.5}
    assert [first.ended, second.ended, last.ended] == [False, False, True]
    assert first.interval == 3600
    assert read_beats(tmp_path) == [last]


def test_thread_beats_by_itself(tmp_path):
    with Heartbeat(tmp_path, interval=0.001) as heartbeat:
        while read_beat(tmp_path, heartbeat.worker).counter < 5:
            pass


def test_thread_survives_a_file_system_that_fails_for_a_while(tmp_path, caplog):
    with Heartbeat(tmp_path, interval=0.001) as heartbeat:
        workers = tmp_path / "workers"
        (workers / heartbeat.worker).unlink()
        workers.rename(tmp_path / "gone")
        workers.write_bytes(b"in the way")
        while not caplog.records:
            pass
        workers.unlink()
        while read_beat(tmp_path, heartbeat.worker) is None:
            pass
    assert "no sign of life" in caplog.records[0].message


def test_stop_twice_is_fine_and_nothing_beats_afterwards(tmp_path):
    heartbeat = Heartbeat(tmp_path, interval=0.001)
    heartbeat.start()
    heartbeat.stop()
    heartbeat.stop()
    assert read_beat(tmp_path, heartbeat.worker).ended


def test_progress_must_fit(tmp_path):
    heartbeat = Heartbeat(tmp_path)
    with pytest.raises(UsageError, match="must stay under"):
        heartbeat.report({"text": "x" * 4000})
    heartbeat.beat()
    assert read_beat(tmp_path, heartbeat.worker).progress == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"worker": "other"}'])
def test_damaged_file_is_no_beat(tmp_path, content):
    heartbeat = far_heartbeat(tmp_path)
    heartbeat.beat()
    (tmp_path / "workers" / heartbeat.worker).write_bytes(content)
    (tmp_path / "workers" / "not-a-worker").write_bytes(b"{}")
    assert read_beat(tmp_path, heartbeat.worker) is None
    assert read_beats(tmp_path) == []
    assert read_beats(tmp_path / "nowhere") == []


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


def test_reading_time_is_no_standstill(tmp_path):
    """The clock that runs while a slow file system answers does not count."""
    heartbeat = far_heartbeat(tmp_path)
    heartbeat.beat()
    ticks = iter(range(0, 100_000, 10))  # each question of the time takes 10 s
    watcher = Liveness(tmp_path, lease=60.0, clock=lambda: float(next(ticks)))
    look(watcher, heartbeat)  # asks at 0 and 10
    look(watcher, heartbeat)  # asks at 20 and 30: between 10 and 20 it stood still
    assert watcher._watched[heartbeat.worker].still == 10


def test_missing_file_is_a_standstill_and_no_proof(tmp_path, clock, watcher):
    heartbeat = far_heartbeat(tmp_path)
    for _ in range(12):
        assert look(watcher, heartbeat) is Verdict.UNKNOWN
        clock.now += 5
    assert look(watcher, heartbeat) is Verdict.SILENT


def test_vanished_file_is_a_standstill(tmp_path, clock, watcher):
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


def test_identity_survives_json():
    for identity in (identify(), ELSEWHERE):
        assert Identity.from_json(json.loads(json.dumps(identity.to_json()))) == identity


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        {},
        {"host": "h"},
        {"host": "h", "pid": 0},
        {"host": "h", "pid": -1},
        {"host": "h", "pid": "1"},
        {"host": "h", "pid": True},
        {"host": 1, "pid": 5},
    ],
)
def test_anything_else_is_no_identity(found):
    assert Identity.from_json(found) is None


def test_identity_names_the_scheduler_job(monkeypatch):
    for key in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "KUBERNETES_POD_NAME"):
        monkeypatch.delenv(key, raising=False)
    assert identify().job is None
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert identify().job == "slurm:4711"
    assert str(identify()).endswith("(slurm:4711)")


linux = pytest.mark.skipif(identify().boot is None, reason="needs Linux's /proc")


@linux
def test_running_process_is_not_gone():
    me = identify()
    assert not is_gone(me, me=me)


@linux
def test_same_pid_with_another_start_time_is_gone():
    me = identify()
    earlier = dataclasses.replace(me, started=me.started - 1)
    assert is_gone(earlier, me=me)
    assert not is_gone(dataclasses.replace(me, started=None), me=me)


@linux
@pytest.mark.parametrize(
    "changed",
    [{"host": "other"}, {"boot": "other"}, {"boot": None}, {"pid_ns": "pid:[1]"}, {"pid_ns": None}],
)
def test_nothing_is_known_of_processes_elsewhere(changed):
    me = identify()
    dead = dataclasses.replace(me, started=me.started - 1)
    assert not is_gone(dataclasses.replace(dead, **changed), me=me)
    assert not is_gone(dead, me=dataclasses.replace(me, **changed))
    if None in changed.values():  # two unknowns are not the same
        both = dataclasses.replace(me, **changed)
        assert not is_gone(dataclasses.replace(dead, **changed), me=both)


@linux
def test_life_of_a_process(tmp_path, clock, watcher):
    """Running, stopped, zombie, reaped: gone from the third on, heartbeat or not."""
    code = (
        "import json, sys; from store.claims.process import identify;"
        "print(json.dumps(identify().to_json()), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        child = Identity.from_json(json.loads(process.stdout.readline()))
        me = identify()
        assert child.pid == process.pid
        assert not is_gone(child, me=me)

        process.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        assert not is_gone(child, me=me)
        worker = new_worker()
        assert watcher.verdict(worker, identity=child) is Verdict.UNKNOWN

        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not reaped
        assert is_gone(child, me=me)
        process.wait()
    assert is_gone(child, me=me)
    clock.now += 5
    assert watcher.verdict(worker, identity=child) is Verdict.GONE


@pytest.mark.parametrize("wrong", [0, -1.0])
def test_times_must_be_positive(tmp_path, wrong):
    with pytest.raises(UsageError):
        Heartbeat(tmp_path, interval=wrong)
    with pytest.raises(UsageError):
        Liveness(tmp_path, lease=wrong)
