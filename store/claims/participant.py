"""A process at work on a store: its heartbeat, its view of the others, its claims."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Self

from store.claims.claims import Claims
from store.claims.heartbeat import INTERVAL, Beat, Heartbeat, new_worker, workers
from store.claims.liveness import LEASE, Liveness, Verdict
from store.claims.process import identify
from store.claims.room import Room


class Participant:
    """Heartbeat and claims of the calling process; a context manager around its work.

    One that is never entered has no heartbeat and leaves no file: enough to look at claims.
    ``place`` is the room beside the store, or its directory (``run.zarr.vnp``). ``interval``
    seconds lie between two heartbeats; another worker counts as dead after ``lease`` seconds
    without one.
    """

    def __init__(
        self, place: Room | Path, *, interval: float = INTERVAL, lease: float = LEASE
    ) -> None:
        self.worker = new_worker()
        identity = identify()
        self.heartbeat = Heartbeat(place, interval=interval, worker=self.worker, identity=identity)
        self.liveness = Liveness(place, lease=lease, identity=identity)
        self.claims = Claims(place, worker=self.worker, identity=identity, liveness=self.liveness)
        self._place = place
        self._others: list[Beat] = []
        self._skipped: dict[str, float] = {}  # worker -> not looked at until then
        self._look_again = 0.0  # a time of the monotonic clock, as above

    def others(self) -> list[Beat]:
        """Last heartbeats of the other workers that this process has seen to be alive.

        Files of silent workers are read again once a lease, those of workers that have left never.
        Looking takes at most a tenth of the time.
        """
        began = time.monotonic()
        if began < self._look_again:
            return self._others
        self._others = []
        for name in workers(self._place):
            if name == self.worker or self._skipped.get(name, 0.0) > began:
                continue
            verdict = self.liveness.verdict(name, identity=None)
            if verdict is Verdict.LIVE and (beat := self.liveness.last_beat(name)) is not None:
                self._others.append(beat)
            elif verdict is Verdict.SILENT:
                self._skipped[name] = began + self.liveness.lease
            elif verdict.stale:
                self._skipped[name] = math.inf
        ended = time.monotonic()
        self._look_again = ended + max(self.heartbeat.interval, 9 * (ended - began))
        return self._others

    def __enter__(self) -> Self:
        self.heartbeat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.claims.release_all()
        self.heartbeat.stop()
