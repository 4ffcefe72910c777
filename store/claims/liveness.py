"""Judging whether other workers live, by watching their heartbeat files.

A watcher times, on its own monotonic clock, how long a file's content does not change. No clock of
another host and no file time enters, so clocks may be wrong by years.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from store.claims.heartbeat import Beat, is_worker, parse_beat, read_content
from store.claims.process import Identity, identify, is_gone
from store.claims.room import Room, room_of
from store.errors import UsageError

LEASE = 60.0  # seconds without a beat after which a worker counts as dead


class Verdict(Enum):
    """What a watcher concludes about a worker."""

    LIVE = "live"  # seen to move, less than a lease ago
    UNKNOWN = "unknown"  # not seen to move, but watched for less than a lease
    ENDED = "ended"  # left in good order
    GONE = "gone"  # its process, on this machine, does not exist any more
    SILENT = "silent"  # no sign of life for a whole lease

    @property
    def stale(self) -> bool:
        """Whether the worker's claims may be taken over."""
        return self in (Verdict.ENDED, Verdict.GONE, Verdict.SILENT)


@dataclass(slots=True)
class _Watch:
    """What a watcher remembers of one worker."""

    content: bytes | None  # the heartbeat file as last seen; None: never seen
    beat: Beat | None  # what it says
    looked: float  # when the last look ended, on the watcher's clock
    still: float = 0.0  # seconds for which the content has been seen not to change
    moved: bool = False  # whether it was ever seen to move
    final: Verdict | None = None  # a verdict that no later look can change


class Liveness:
    """Watches workers; one object per process, kept for as long as the process runs.

    A worker counts as dead after ``lease`` seconds without a sign of life, on a monotonic
    ``clock``. Between two looks at most a third of the lease is counted: a watcher that was itself
    frozen, perhaps together with the worker (a suspended job, a paused machine), finds that its
    clock ran on, and must look several times more before it calls a worker dead. A heartbeat file
    is read again only after a sixtieth of the lease.
    """

    def __init__(
        self,
        place: Room | Path,
        *,
        lease: float = LEASE,
        identity: Identity | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if lease <= 0:
            raise UsageError(f"a lease of {lease} s is not possible: give more than 0")
        self.lease = lease
        self._room = room_of(place)
        self._me = identity if identity is not None else identify()
        self._clock = clock
        self._watched: dict[str, _Watch] = {}
        self._lock = threading.Lock()

    def verdict(self, worker: str, *, identity: Identity | None) -> Verdict:
        """Look at a worker and judge it; ``identity`` is its process according to its claim.

        Text that is not a worker's id names a claim whose owner cannot be read; it has no heartbeat
        file, so it is silent after a lease.
        """
        with self._lock:
            watch = self._look(worker, identity)
            if watch.final is not None:
                return watch.final
            if watch.still >= self.lease:
                return Verdict.SILENT
            return Verdict.LIVE if watch.moved else Verdict.UNKNOWN

    def last_beat(self, worker: str) -> Beat | None:
        """Last heartbeat of a worker that was looked at; None once it has left."""
        with self._lock:
            watch = self._watched.get(worker)
            return watch.beat if watch else None

    def _look(self, worker: str, identity: Identity | None) -> _Watch:
        watch = self._watched.get(worker)
        before = self._clock()
        if watch is not None and (
            watch.final is not None or before - watch.looked < self.lease / 60
        ):
            return watch
        content = read_content(self._room, worker) if is_worker(worker) else None
        # Timed from the end of one look to the beginning of the next, so that slow reads of the
        # file never count as silence.
        after = self._clock()
        beat = parse_beat(worker, content)
        if watch is None:
            watch = self._watched[worker] = _Watch(content, beat, looked=after)
        elif content is not None and content != watch.content:
            watch.content, watch.beat = content, beat
            watch.moved = True
            watch.still = 0.0
        else:  # a missing or unreadable file is not a sign of life
            watch.still += min(before - watch.looked, self.lease / 3)
        watch.looked = after
        if identity is None and beat is not None:
            identity = beat.identity
        if beat is not None and beat.ended:
            watch.final = Verdict.ENDED
        elif identity is not None and is_gone(identity, me=self._me):
            watch.final = Verdict.GONE
        if watch.final is not None:
            watch.content = watch.beat = None  # there may be thousands
        return watch
