"""How the threads of a worker hand blocks over, and how they end together."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK = 0.1  # seconds between two looks at whether the worker ends


class Stopped(Exception):  # noqa: N818 - an order, not an error
    """The worker was told to stop; blocks that are not done are dropped."""


class NothingYetError(Exception):
    """Nothing was handed over in the time given."""


class Shutdown:
    """Whether a worker ends before everything is done, and why; ``stop`` is set from outside."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._abandoned = threading.Event()
        self._error: BaseException | None = None

    @property
    def stopped(self) -> bool:
        """Whether the worker was told to stop."""
        return self._stop.is_set()

    @property
    def abandoned(self) -> bool:
        """Whether an error leaves no block that could still be finished."""
        return self._abandoned.is_set()

    @property
    def requested(self) -> bool:
        """Whether nothing new is to be begun."""
        return self.stopped or self.abandoned

    def wait(self, seconds: float) -> None:
        """Sleep, unless told to stop."""
        self._stop.wait(seconds)

    def abandon(self) -> None:
        """End every thread as soon as it looks."""
        self._abandoned.set()

    def note(self, error: BaseException) -> None:
        """Keep the first error of another thread for the main one."""
        self._error = self._error or error

    def raise_error(self) -> None:
        """Raise the error that was kept, if any."""
        if self._error is not None:
            raise self._error


class HandOver(Generic[T]):
    """A bounded queue between two threads that gives way when the worker ends."""

    def __init__(self, size: int, shutdown: Shutdown) -> None:
        self._size = size
        self._shutdown = shutdown
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Hand an item over when there is room; False if the worker ends before."""
        with self._changed:
            while len(self._items) >= self._size:
                if self._shutdown.requested:
                    return False
                self._changed.wait(_LOOK)
            self._items.append(item)
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> T | None:
        """Take the next item; None when nothing more comes, NothingYetError after a timeout."""
        with self._changed:
            while not self._items:
                if self._closed or self._shutdown.abandoned:
                    return None
                notified = self._changed.wait(_LOOK if timeout is None else timeout)
                if timeout is not None and not notified:
                    raise NothingYetError
            item = self._items.popleft()
            self._changed.notify_all()
            return item
