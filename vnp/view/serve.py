"""Serve a store on this machine until it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import secrets
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from store.errors import UsageError
from vnp.report.page import escaped
from vnp.view.live import LiveStore
from vnp.view.page import Page
from vnp.view.server import make_app

HOST = "127.0.0.1"
PORT = 8470
_TRIED = 20  # ports, from the default one on
_ENDING_SECONDS = 3  # that answers on their way have once the server is to end
_CONNECTIONS = 256  # open at a time
_BACKLOG = 64
_REQUEST_SECONDS = 5.0  # that a connection has, twice at most, to send a whole request

_KEPT_BYTES = 4 << 20  # arrays that are larger are given back at once
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

log = logging.getLogger(__name__)


def listen(port: int | None) -> socket.socket:
    """Listen on a port of this machine alone; 0 is any free one, None the default or one near it.

    `UsageError` if it is taken, or not allowed.
    """
    ports = range(PORT, PORT + _TRIED) if port is None else [port]
    for each in ports:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((HOST, each))
            made.listen(_BACKLOG)
        except OSError as error:
            made.close()
            if error.errno == errno.EADDRINUSE and each != ports[-1]:
                continue
            taken = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
            what = f"port {each}" if port is not None else f"each of the ports {PORT} to {each}"
            raise UsageError(f"{what} {taken}; choose another with --port, 0 is any") from None
        return made
    raise AssertionError("there is a port to try")


def serve(
    live: LiveStore,
    page: Page,
    *,
    listening: socket.socket,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, which is then raised as KeyboardInterrupt.

    ``ready`` is called with the address, token and all, once it can be opened.
    """
    keep_freed_memory()
    token = secrets.token_urlsafe(32)
    server = make_server(make_app(live, page, token=token), ended=live.close)
    port = listening.getsockname()[1]
    live.start()
    try:
        ready(f"http://{HOST}:{port}/?token={token}")
        server.run(sockets=[listening])
    finally:
        live.close()
        listening.close()


def keep_freed_memory() -> None:
    """Have glibc keep some megabytes that are freed, for the next part of a question.

    Arrays of a question are some 100 kB. Given back to the system after each part, as they may be
    by default, their pages are made anew for the next, which doubles the time of a question.
    """
    with contextlib.suppress(AttributeError, OSError):  # another libc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)


def make_server(app: Starlette, *, ended: Callable[[], None]) -> uvicorn.Server:
    """Make a server that calls ``ended`` as soon as a signal tells it to end."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http=_Connection,
        loop="asyncio",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_ENDING_SECONDS,
    )
    return _Server(config, ended=ended)


class _Connection(H11Protocol):
    """Hangs up on whoever sends no whole request: others could not connect any more."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._seen: object = None  # the last request, at the last look
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(_REQUEST_SECONDS, self._look)

    def _look(self) -> None:
        request = self.cycle
        if request is None or (request.response_complete and request is self._seen):
            self.transport.close()
            return
        self._seen = request
        self._wait()


class _Server(uvicorn.Server):
    """Ends the streams of events as soon as it is told to end: they would go on for ever."""

    def __init__(self, config: uvicorn.Config, *, ended: Callable[[], None]) -> None:
        super().__init__(config)
        self._ended = ended

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take a terminal that closes as SIGTERM, unless that is to be ignored (nohup)."""
        here = threading.current_thread() is threading.main_thread()
        if not here or signal.getsignal(signal.SIGHUP) != signal.SIG_DFL:
            with super().capture_signals():
                yield
            return
        signal.signal(signal.SIGHUP, lambda _, frame: self.handle_exit(signal.SIGTERM, frame))
        try:
            with super().capture_signals():
                yield
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        threading.Thread(target=self._ended, name="ending").start()
        super().handle_exit(sig, frame)


@contextlib.contextmanager
def opened(address: str) -> Iterator[None]:
    """Open an address in the user's browser, by a file that only the user can read.

    As an argument of the browser the token would be seen by every user of the machine. A browser
    that is a program of the terminal runs beside the server.
    """
    with tempfile.NamedTemporaryFile("w", prefix="vnp-view-", suffix=".html") as file:
        shown = escaped(address)
        file.write(
            f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" '
            f'content="0;url={shown}"><a href="{shown}">vnp view</a>\n'
        )
        file.flush()

        def open_it() -> None:
            if not webbrowser.open(Path(file.name).as_uri()):
                log.warning("no browser can be opened here: open the address yourself")

        threading.Thread(target=open_it, name="browser", daemon=True).start()
        yield
