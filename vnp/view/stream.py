"""A search whose answer comes in parts, made in a thread and given up with its reader.

The parts are server-sent events, which no compression holds back. What cannot be searched at all
is an error before the first part; what fails later is a part with ``error``.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Generator
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.types import Receive, Scope, Send

from vnp.view.events import HEADERS, SLOWEST_SECONDS, until_gone
from vnp.view.search import Cancelled

Begin = Callable[[threading.Event], Generator[Any]]

_THREADS = 2  # one for the search whose turn it is, one for the first parts of others


class Searches:
    """Searches one at a time: each reads all embeddings.

    Parameters
    ----------
    failed
        What a reader is told of an error that comes after the first part.
    """

    def __init__(self, failed: Callable[[Exception], str]) -> None:
        self._failed = failed
        self._turn = asyncio.Semaphore(1)
        self._threads = CapacityLimiter(_THREADS)

    async def stream(self, begin: Begin, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Serve what a search yields, as an ASGI application, until it ends or its reader leaves.

        ``begin`` begins the search, which raises `Cancelled` soon after what it is given is set.
        The first part is sent at once, the others come in this search's turn.
        """
        gone = threading.Event()
        leaving = asyncio.ensure_future(until_gone(receive))
        leaving.add_done_callback(lambda _: gone.set())
        parts: Generator[Any] | None = None
        begun = False
        try:
            parts = await to_thread.run_sync(begin, gone, limiter=self._threads)
            first = await to_thread.run_sync(next, parts, limiter=self._threads)
            begun = True
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await _send(send, first)
            turn = asyncio.ensure_future(self._turn.acquire())
            try:
                await asyncio.wait((turn, leaving), return_when=asyncio.FIRST_COMPLETED)
                if turn.done() and not gone.is_set():
                    await self._send_all(send, parts)
            finally:
                if turn.done() and not turn.cancelled():
                    self._turn.release()
                turn.cancel()
            await send({"type": "http.response.body", "body": b""})
        except (TimeoutError, Cancelled):
            if not begun:
                raise
            # The reader stalls, or went away, or the server ends.
        finally:
            gone.set()
            leaving.cancel()
            if parts is not None:
                parts.close()

    async def _send_all(self, send: Send, parts: Generator[Any]) -> None:
        part: Any = {}
        while "error" not in part:
            try:
                part = await to_thread.run_sync(next, parts, None, limiter=self._threads)
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001 - told to the reader, whatever it is
                part = {"error": self._failed(error)}
            if part is None:
                return
            await _send(send, part)


async def _send(send: Send, part: Any) -> None:
    """Send a part; TimeoutError if the reader does not take it."""
    body = f"data: {json.dumps(part, allow_nan=False)}\n\n".encode("ascii")
    message = {"type": "http.response.body", "body": body, "more_body": True}
    await asyncio.wait_for(send(message), SLOWEST_SECONDS)
