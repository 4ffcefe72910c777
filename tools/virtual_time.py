"""Processes in virtual time: many of them in one thread, each running ordinary code that waits.

A process is a greenlet. When it waits, the next one in the order of time goes on, so a thousand
hours pass in as long as the code between the waits computes. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet


class VirtualTime:
    """A clock, and the processes that wait for it."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self._hub = greenlet(self._run)
        self._due: list[tuple[float, int, greenlet]] = []
        self._number = 0

    def start(self, process: Callable[[], Any], *, after: float = 0.0) -> None:
        """Begin a process; it runs once `run` is called."""
        self._push(self.now + after, greenlet(process, parent=self._hub))

    def wait(self, seconds: float) -> None:
        """Have the calling process wait."""
        self._number += 1
        me = getcurrent()
        due = (self.now + max(seconds, 0.0), self._number, me)
        # Straight to the next one, not by way of the hub: half the switches.
        self.now, _, process = heapq.heappushpop(self._due, due)
        if process is not me:
            process.switch()

    def sleep_until_woken(self) -> None:
        """Have the calling process wait until another one wakes it."""
        self._hub.switch()

    def wake(self, process: greenlet) -> None:
        """Let a waiting process go on."""
        self._push(self.now, process)

    def run(self) -> None:
        """Run until no process waits for the clock any more."""
        self._hub.switch()

    def _push(self, at: float, process: greenlet) -> None:
        self._number += 1
        heapq.heappush(self._due, (at, self._number, process))

    def _run(self) -> None:
        while self._due:
            self.now, _, process = heapq.heappop(self._due)
            process.switch()


class Queue:
    """A hand-over of at most so many things between processes."""

    def __init__(self, time: VirtualTime, most: int) -> None:
        self._time = time
        self._most = most
        self._things: deque[Any] = deque()
        self._waiting: deque[greenlet] = deque()

    def put(self, thing: Any) -> None:
        """Hand a thing over; wait while there are as many as may be."""
        while len(self._things) >= self._most:
            self._wait()
        self._things.append(thing)
        self._wake()

    def take(self) -> Any:
        """Take the next thing; wait until there is one."""
        while not self._things:
            self._wait()
        thing = self._things.popleft()
        self._wake()
        return thing

    def _wait(self) -> None:
        self._waiting.append(getcurrent())
        self._time.sleep_until_woken()

    def _wake(self) -> None:
        while self._waiting:
            self._time.wake(self._waiting.popleft())


@dataclass(slots=True)
class Server:
    """Answers requests in the order they come, each after its service and a latency."""

    time: VirtualTime
    free: float = 0.0  # when all that was asked so far is served
    busy: float = 0.0  # seconds of service so far
    requests: dict[str, int] = field(default_factory=dict)
    longest_wait: float = 0.0  # that a request stood in the queue

    def ask(
        self, kind: str, *, service: float, latency: float, times: int = 1, concurrent: int = 1
    ) -> None:
        """Have the calling process wait for ``times`` requests, one after the other.

        Or for ``concurrent`` times as many, of which so many are on their way at a time.
        """
        self.requests[kind] = self.requests.get(kind, 0) + times * concurrent
        now = self.time.now
        begins = max(now, self.free)
        self.longest_wait = max(self.longest_wait, begins - now)
        self.free = begins + service * times * concurrent
        self.busy += service * times * concurrent
        # A third of a latency varies, with a long tail.
        varied = latency * times * (0.7 + 0.3 * self.time.random.expovariate(1.0))
        self.time.wait(self.free - now + varied)
