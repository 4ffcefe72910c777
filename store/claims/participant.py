"""A process at work on a store: its heartbeat, its view of the others, its claims.

There may be a thousand others, and the files of ten thousand that were killed. So each process
watches only some, those that follow it in the ring of all ids::

    0a..  3f..  [51.. me]  72..  9c..  d0..      sorted ids of workers/
                           ----window---->       at most WINDOW of them

Ids are random, so the window is a fair sample of all. What is found dead in it is removed, and the
window moves on: together the processes tidy up all of them, and none of them reads many.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from itertools import islice
from pathlib import Path
from typing import Self

from store.claims.claims import Claims
from store.claims.files import is_model
from store.claims.heartbeat import (
    INTERVAL,
    Beat,
    Heartbeat,
    new_worker,
    read_beat,
    remove_beat,
    workers,
)
from store.claims.liveness import LEASE, Liveness, Verdict
from store.claims.process import identify
from store.claims.room import Room, room_of

WINDOW = 16  # other workers that one process watches
_PAUSE = 4  # heartbeats between two looks at them


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
        self.each_stands_for = 1.0  # workers that one of the window stands for
        self._place = room_of(place)
        self._others: list[Beat] = []
        self._skipped: dict[str, float] = {}  # worker -> not looked at until then
        self._look_again = 0.0  # a time of the monotonic clock, as above

    def others(self, *, early: bool = False) -> list[Beat]:
        """Last heartbeats of the other workers in the window that were seen to be alive.

        It looks every few heartbeats, which takes at most a tenth of the time; files of dead
        workers that cannot be removed yet are read again once a lease. ``early``: who has time now
        looks a little before it is due, and need not when there is none.
        """
        began = time.monotonic()
        pause = _PAUSE * self.heartbeat.interval
        if began < self._look_again - (pause / 2 if early else 0.0):
            return self._others
        self._others = []
        for name in self._window(WINDOW, now=began):
            verdict = self.liveness.verdict(name, identity=None)
            if verdict is Verdict.LIVE and (beat := self.liveness.last_beat(name)) is not None:
                self._others.append(beat)
            elif verdict.stale and not self._tidy(name, verdict):
                self._skipped[name] = began + self.liveness.lease
        ended = time.monotonic()
        self._look_again = ended + max(pause, 9 * (ended - began))
        return self._others

    def tidy(self, most: int = WINDOW) -> int:
        """Remove heartbeat files of workers that one look shows to be dead; return how many.

        It looks at the next ``most``. For processes that do not stay; `others` does it as well.
        """
        done = 0
        for name in self._window(most, now=time.monotonic()):
            verdict = self.liveness.verdict(name, identity=None)
            done += verdict.stale and self._tidy(name, verdict)
        return done

    def _window(self, most: int, *, now: float) -> list[str]:
        """Ids that follow ours, without those to skip; at most so many."""
        names = workers(self._place)
        self._skipped = {name: self._skipped[name] for name in names if name in self._skipped}
        at = bisect_left(names, self.worker)
        ring = names[at + (names[at : at + 1] == [self.worker]) :] + names[:at]
        chosen = list(islice((n for n in ring if self._skipped.get(n, 0.0) <= now), most))
        self.each_stands_for = max(1.0, (len(ring) - len(self._skipped)) / max(len(chosen), 1))
        return chosen

    def _tidy(self, worker: str, verdict: Verdict) -> bool:
        """Remove the file of a dead worker whose claims are settled; whether it is gone.

        Of a worker that was killed a missing file says what a silent one says. One that ended says
        that its claims are free at once, so it stays for as long as there may be any.
        """
        beat = read_beat(self._place, worker)
        if beat is None:
            return False  # gone already, or not what a worker writes
        last = self.liveness.last_beat(worker)
        if verdict is Verdict.SILENT and (last is None or beat.counter != last.counter):
            return False  # it moves again
        if self.claims.knows_unsettled(worker) or self._left_behind(beat):
            return False
        return remove_beat(self._place, worker)

    def _left_behind(self, beat: Beat) -> bool:
        """Whether a worker that ended could not release a claim, which still owns its block."""
        left = beat.progress.get("unreleased")
        for entry in left if isinstance(left, list) else []:
            match entry:
                case [str(model), int(block)] if is_model(model):
                    state = self.claims.owner(model, block)
                    if state is not None and state.worker == beat.worker and state.verdict:
                        return True
        return False

    def __enter__(self) -> Self:
        self.heartbeat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.claims.release_all()
        if held := self.claims.held:
            self.heartbeat.report({"unreleased": [[each.model, each.block] for each in held]})
        self.heartbeat.stop(remove=self.claims.settled)
