"""A block on its way through a worker: on the device, then with its rows."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vnp.embed.jobs import Job
from vnp.inference.encoder import Run


@dataclass(frozen=True, slots=True)
class Result:
    """A block whose rows are there."""

    job: Job
    embedded: NDArray[np.float32]  # (records embedded, dim), without copies
    seconds: float


class Once:
    """Sets an event, at the first call only: one block in hand asks for one more."""

    def __init__(self, event: threading.Event) -> None:
        self._event: threading.Event | None = event

    def __call__(self) -> None:
        """Ask."""
        if self._event is not None:
            self._event.set()
        self._event = None


@dataclass(slots=True)
class Block:
    """A block that was given to an encoder."""

    job: Job
    began: float  # when it was submitted
    want_next: Once
    run: Run | None = None  # on a device that takes more than one block
    ended: float | None = None  # when its last row was there
