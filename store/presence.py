"""A process that takes part in a store: its heartbeat, its view of the others, its claims."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from store.claims import Claims
from store.heartbeat import INTERVAL, LEASE, Heartbeat, Liveness, new_worker
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
        self.claims = Claims(
            sidecar,
            worker=self.worker,
            identity=identity,
            liveness=Liveness(sidecar, lease=lease, identity=identity),
        )

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
