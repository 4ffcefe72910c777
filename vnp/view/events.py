"""What changes, told to every open page: only the newest of each part, at each page's own pace.

Any thread publishes; pages are served by the one thread of the event loop. A page that reads
slowly misses what was overtaken meanwhile, and nothing queues up for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

MOST_PAGES = 64  # that listen at a time
_QUIET_SECONDS = 15.0  # after which a page is sent a sign of life
SLOWEST_SECONDS = 30.0  # that a page may take to read a message before it is given up

HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


class Events:
    """Parts of the overview by name, and the pages that want to know when one changes.

    Parameters
    ----------
    awake
        Called whenever a page begins to listen.
    """

    def __init__(self, awake: Callable[[], None] = lambda: None) -> None:
        self._awake = awake
        self._lock = threading.Lock()
        self._parts: dict[str, tuple[int, str]] = {}  # number of the change, and the part as JSON
        self._changes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pages: set[asyncio.Event] = set()
        self._over = False

    @property
    def pages(self) -> int:
        """Pages that listen."""
        return len(self._pages)

    def publish(self, parts: Mapping[str, Any]) -> None:
        """Tell all pages of parts; those that are as they were are not told again."""
        texts = {name: json.dumps(value, allow_nan=False) for name, value in parts.items()}
        with self._lock:
            changed = [
                name for name, text in texts.items() if self._parts.get(name, (0, ""))[1] != text
            ]
            if not changed:
                return
            self._changes += 1
            self._parts |= {name: (self._changes, texts[name]) for name in changed}
        self._wake()

    def close(self) -> None:
        """End all streams, and those that begin later."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        for page in self._pages:
            page.set()

    def _since(self, change: int) -> tuple[int, str]:
        """Newest change, and the parts that changed after another as one JSON object, or ""."""
        with self._lock:
            new = {name: text for name, (at, text) in self._parts.items() if at > change}
            body = ",".join(f"{json.dumps(name)}:{text}" for name, text in new.items())
            return self._changes, f"{{{body}}}" if new else ""

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Serve one page, as an ASGI application, until it leaves, stalls or all is over."""
        self._loop = asyncio.get_running_loop()
        if len(self._pages) >= MOST_PAGES:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            body = b'{"error": "too many pages are open"}'
            await send({"type": "http.response.body", "body": body})
            return
        told = asyncio.Event()
        told.set()
        self._pages.add(told)
        self._awake()
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._serve(told, gone, send)
        except (TimeoutError, OSError):
            pass  # it stalled, or went away while it was written to
        finally:
            self._pages.discard(told)
            gone.cancel()

    async def _serve(self, told: asyncio.Event, gone: asyncio.Future[None], send: Send) -> None:
        seen, text = 0, b"retry: 2000\n\n"
        while not self._over and not gone.done():
            message = {"type": "http.response.body", "body": text, "more_body": True}
            await asyncio.wait_for(send(message), SLOWEST_SECONDS)
            waiting = asyncio.ensure_future(told.wait())
            await asyncio.wait(
                (waiting, gone), timeout=_QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            waiting.cancel()
            told.clear()
            seen, parts = self._since(seen)
            text = f"data: {parts}\n\n".encode() if parts else b": still here\n\n"
        if not gone.done():
            await send({"type": "http.response.body", "body": b""})


async def until_gone(receive: Receive) -> None:
    """Wait until a browser does not wait any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
