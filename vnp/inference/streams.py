"""Three streams of a CUDA device and the events between them; on the CPU, the same without effect.

The CPU has no streams: work is done when the call returns, so an event has nothing to wait for. It
lets the pipeline run, and be tested, anywhere.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import AbstractContextManager
from typing import Protocol, cast

import torch
from torch import Tensor


class Event(Protocol):
    """A point in a stream."""

    def record(self) -> None:
        """Mark this point of the current stream."""
        ...

    def wait(self) -> None:
        """Let the current stream wait for the mark."""
        ...

    def synchronize(self) -> None:
        """Let the host wait for the mark."""
        ...

    def query(self) -> bool:
        """Whether the mark has passed."""
        ...

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to a later one, both timed and passed."""
        ...


class _HostEvent:
    """The mark of work that is done by the time it is made."""

    def __init__(self) -> None:
        self._at = 0.0

    def record(self) -> None:
        self._at = time.perf_counter()

    def wait(self) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event: Event) -> float:
        assert isinstance(end_event, _HostEvent)
        return 1000 * (end_event._at - self._at)


class Streams:
    """Where copies in, computation and copies out run beside each other.

    Parameters
    ----------
    device
        A CUDA device or the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"
        self._streams: list[torch.cuda.Stream] = []
        if self._cuda:
            self._streams = [torch.cuda.Stream(device) for _ in range(3)]  # type: ignore[no-untyped-call]

    @property
    def copy_in(self) -> AbstractContextManager[object]:
        """Work on the stream of copies to the device."""
        return self._stream(0)

    @property
    def compute(self) -> AbstractContextManager[object]:
        """Work on the stream of kernels."""
        return self._stream(1)

    @property
    def copy_out(self) -> AbstractContextManager[object]:
        """Work on the stream of copies to the host."""
        return self._stream(2)

    def event(self, *, timed: bool = False) -> Event:
        """Make an event."""
        if not self._cuda:
            return _HostEvent()
        return cast("Event", torch.cuda.Event(enable_timing=timed))  # type: ignore[no-untyped-call]

    def pinned(self, shape: int | tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Make a host buffer that the device can copy to and from by itself."""
        return torch.empty(shape, dtype=dtype, pin_memory=self._cuda)

    def synchronize(self) -> None:
        """Wait for everything on the device."""
        if self._cuda:
            torch.cuda.synchronize(self.device)

    def release_memory(self) -> None:
        """Give freed memory back to the device."""
        if self._cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()

    def _stream(self, number: int) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._streams[number]) if self._cuda else contextlib.nullcontext()
