"""Workers on hosts of their own, with clocks that stand still, for tests of claims."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings

from store.claims.claims import Claims
from store.claims.heartbeat import Heartbeat
from store.claims.process import Identity

ELSEWHERE = Identity(host="node7", boot="b", pid_ns="pid:[1]", pid=4711, started=99, job="slurm:12")
BOUNDED = settings(deadline=None, derandomize=True, max_examples=80)


class Clock:
    """A monotonic clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Worker:
    """A worker on a host of its own, so that only heartbeats tell of it."""

    heartbeat: Heartbeat
    claims: Claims
    clock: Clock

    def let_lease_pass(self, *models: str) -> None:
        """Look on while nobody beats."""
        for _ in range(15):
            self.clock.now += 5
            for model in models or ("m",):
                self.claims.states(model)


def far_heartbeat(tmp_path) -> Heartbeat:
    return Heartbeat(tmp_path, identity=ELSEWHERE)
