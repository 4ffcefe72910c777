"""Weights on their way from files to a device: read ahead by threads, through pinned buffers.

A thread reads a piece of a file's pages into a pinned buffer, from which the device copies it by
itself while the thread reads the next piece. So neither a whole model nor a whole tensor is copied
on the host, and several cores read at once; one core alone reads a few GB a second.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

_THREADS = 4
_WINDOW = 1 << 30  # bytes on the device that nobody has asked for yet
_PIECE = 16 << 20  # bytes of a pinned buffer, of which each thread has two


class Upload(Mapping[str, Tensor]):
    """Tensors on a device, by name; those that follow in order are loaded ahead.

    What is asked for once is handed over, and loaded again if asked for again. At most ``window``
    bytes are ahead: what nobody asks for does not fill the device. Leave it as a context manager.

    Parameters
    ----------
    tensors
        On the host, mapped from files, in about the order in which they will be asked for.
    device
        Where to.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        device: torch.device,
        *,
        threads: int = _THREADS,
        window: int = _WINDOW,
        piece: int = _PIECE,
    ) -> None:
        self._tensors, self._device = tensors, device
        self._window, self._piece = window, piece
        self._left = deque(tensors)  # not begun
        self._ahead: dict[str, Future[Tensor]] = {}
        self._bytes = 0  # of these
        self._own = threading.local()  # a thread's buffers and stream
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="upload")
        self._read_ahead()

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __getitem__(self, name: str) -> Tensor:
        """A tensor on the device, in its file's dtype."""
        tensor = self._tensors[name]
        future = self._ahead.pop(name, None)
        if future is None:  # out of order, or not for the first time
            return self._pool.submit(self._load, tensor).result()
        self._bytes -= tensor.nbytes
        self._read_ahead()
        return future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._ahead.clear()
        self._left.clear()

    def _read_ahead(self) -> None:
        while self._left and (not self._ahead or self._bytes < self._window):
            name = self._left.popleft()
            tensor = self._tensors[name]
            self._bytes += tensor.nbytes
            self._ahead[name] = self._pool.submit(self._load, tensor)

    def _load(self, tensor: Tensor) -> Tensor:
        """Copy one tensor, piece by piece."""
        made = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
        # As bytes: pieces of any dtype fit the same buffers.
        source = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        target = made.reshape(-1).view(torch.uint8)
        if self._device.type != "cuda":
            target.copy_(source)
            return made
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._own.buffers = [
                torch.empty(self._piece, dtype=torch.uint8, pin_memory=True) for _ in range(2)
            ]
        stream = self._own.stream
        # Memory that ``made`` was given may still be read by what was asked of the device before.
        stream.wait_stream(torch.cuda.current_stream(self._device))
        events: list[torch.cuda.Event | None] = [None, None]
        with torch.cuda.stream(stream):
            for number, start in enumerate(range(0, len(source), self._piece)):
                event, buffer = events[number % 2], self._own.buffers[number % 2]
                if event is not None:
                    event.synchronize()
                piece = source[start : start + self._piece]
                staged = buffer[: len(piece)]
                staged.copy_(piece)
                target[start : start + self._piece].copy_(staged, non_blocking=True)
                event = events[number % 2] = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
        stream.synchronize()
        return made
