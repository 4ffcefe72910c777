"""A process that takes part in a store: its heartbeat, its view of the others, its claims."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from store.claims import Claims
from store.heartbeat import (
    INTERVAL,
    LEASE,
    Beat,
    Heartbeat,
    Liveness,
    Verdict,
    new_worker,
    read_beat,
    workers,
)
from store.identity import identify


class Presence:
    """Heartbeat and claims of the calling process; a context manager around its work.

    Parameters
    ----------
    sidecar
        The directory beside the store (``run.zarr.vnp``).
    interval
        Seconds between two heartbeats.
    lease
        Seconds of standstill after which another worker counts as dead.
    """

    def __init__(self, sidecar: Path, *, interval: float = INTERVAL, lease: float = LEASE) -> None:
        self.worker = new_worker()
        identity = identify()
        self.heartbeat = Heartbeat(
            sidecar, interval=interval, worker=self.worker, identity=identity
        )
        self.liveness = Liveness(sidecar, lease=lease, identity=identity)
        self.claims = Claims(sidecar, worker=self.worker, identity=identity, liveness=self.liveness)
        self._sidecar = sidecar
        self._others: list[Beat] = []
        self._left: set[str] = set()  # workers that will never move again
        self._read_again = 0.0  # when, on the monotonic clock

    def others(self) -> list[Beat]:
        """Last signs of life of the other workers that this process has seen to be alive.

        Files are read again only when they may have changed, and never once a worker has left.
        """
        now = time.monotonic()
        if now < self._read_again:
            return self._others
        names = set(workers(self._sidecar)) - self._left - {self.worker}
        self._others = []
        for beat in filter(None, (read_beat(self._sidecar, name) for name in sorted(names))):
            verdict = self.liveness.verdict(beat.worker, identity=beat.identity)
            if verdict in (Verdict.ENDED, Verdict.GONE):
                self._left.add(beat.worker)
            elif verdict is Verdict.LIVE:
                self._others.append(beat)
        self._read_again = now + self.heartbeat.interval
        return self._others

    def __enter__(self) -> Self:
        self.heartbeat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.claims.release_all()
        self.heartbeat.stop()
