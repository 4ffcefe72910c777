"""Which process a worker is, and when it is gone for sure."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

from store.claims.heartbeat import new_worker
from store.claims.liveness import Verdict
from store.claims.process import Identity, identify, is_gone
from tests.store.claims.claiming import ELSEWHERE


def test_identity_survives_json():
    for identity in (identify(), ELSEWHERE):
        assert Identity.from_json(json.loads(json.dumps(dataclasses.asdict(identity)))) == identity


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
def test_anything_else_is_not_an_identity(found):
    assert Identity.from_json(found) is None


def test_identity_names_the_scheduler_job(monkeypatch):
    schedulers = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "RAY_JOB_ID")
    for key in (*schedulers, "KUBERNETES_POD_NAME"):
        monkeypatch.delenv(key, raising=False)
    for key in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(key, raising=False)
    assert identify().job is None
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert identify().job == "slurm:4711"
    assert str(identify()).endswith("(slurm:4711)")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    assert identify().job == "slurm:4711"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert identify().job == "slurm:4700_0"


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
        "import dataclasses, json, sys; from store.claims.process import identify;"
        "print(json.dumps(dataclasses.asdict(identify())), flush=True); sys.stdin.read()"
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
