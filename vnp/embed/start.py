"""Where the seconds go until a worker computes, told with ``--verbose``."""

from __future__ import annotations

import logging
import os
import time

from store.claims.process import identify

log = logging.getLogger(__name__)


class Start:
    """Says of each step of a worker's start, once, when it was done and what it took."""

    def __init__(self) -> None:
        self._last = 0.0
        self._said: set[str] = set()

    def __call__(self, step: str) -> None:
        """Say that a step is done."""
        if step in self._said:
            return
        self._said.add(step)
        now = process_age()
        log.debug("%6.2f s after the process began: %s (%.2f s)", now, step, now - self._last)
        self._last = now


def process_age() -> float:
    """Seconds since this process began; since this module was imported where none can tell."""
    ticks = identify().started
    if ticks is None:
        return time.monotonic() - _IMPORTED
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


_IMPORTED = time.monotonic()
