"""Workers on hosts of their own, for tests of claims."""

from __future__ import annotations

import pytest

from store.claims.claims import Claims
from store.claims.heartbeat import Heartbeat
from store.claims.liveness import Liveness
from store.claims.process import Identity
from tests.store.claims.claiming import Clock, Worker


@pytest.fixture
def make_worker(tmp_path):
    def make(host: str, **options) -> Worker:
        identity = Identity(host=host, boot=host, pid_ns="n", pid=7, started=1, job=None)
        heartbeat = Heartbeat(tmp_path, identity=identity)
        heartbeat.beat()
        clock = Clock()
        claims = Claims(
            tmp_path,
            worker=heartbeat.worker,
            identity=identity,
            liveness=Liveness(tmp_path, lease=60.0, identity=identity, clock=clock),
            **options,
        )
        return Worker(heartbeat, claims, clock)

    return make


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watcher(tmp_path, clock):
    return Liveness(tmp_path, lease=60.0, clock=clock)
