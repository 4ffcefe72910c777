"""A proxy before an S3 server that answers some requests wrongly: slow, 500, 503, or not at all."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# What becomes of a request: it passes; or is not made, and the answer is a status; or it is made
# and the connection closes without an answer; or the connection closes at once; or nothing comes,
# whether or not it was made.
PASS, ERROR, SLOW_DOWN, LOST, CLOSED = "pass", "500", "503", "lost", "closed"
SILENT, LOST_SILENTLY = "silent", "lost silently"

Plan = Callable[[int, str], str]  # number and method of a request -> what becomes of it


@contextmanager
def proxy(
    endpoint: str, plan: Plan, *, without: frozenset[str] = frozenset()
) -> Iterator[tuple[str, list[str]]]:
    """Run before ``endpoint``; yield the endpoint to use, and a log of requests that grows.

    Headers ``without`` are dropped: so a server is played that ignores conditions.
    """
    target = urlsplit(endpoint)
    seen: list[str] = []
    lock = threading.Lock()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                fate = plan(len(seen), self.command)
                seen.append(f"{self.command} {self.path} {fate}")
            if fate in (ERROR, SLOW_DOWN):
                code = "InternalError" if fate == ERROR else "SlowDown"
                text = f"<Error><Code>{code}</Code></Error>".encode()
                self.reply(int(fate), [("Content-Length", str(len(text)))], text)
                return
            if fate == SILENT:
                over.wait()
            if fate in (CLOSED, SILENT):
                self.close_connection = True
                return
            upstream = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
            try:
                # The signature covers the host as the client named it.
                headers = {k: v for k, v in self.headers.items() if k.lower() not in without}
                upstream.request(self.command, self.path, body=body or None, headers=headers)
                found = upstream.getresponse()
                text = found.read()
                if fate == LOST_SILENTLY:
                    over.wait()
                if fate in (LOST, LOST_SILENTLY):
                    self.close_connection = True
                    return
                dropped = ("transfer-encoding", "connection", "content-length")
                kept = [(k, v) for k, v in found.getheaders() if k.lower() not in dropped]
                length = found.getheader("Content-Length") if self.command == "HEAD" else None
                kept.append(("Content-Length", length or str(len(text))))
                self.reply(found.status, kept, text)
            finally:
                upstream.close()

        def reply(self, status: int, headers: list[tuple[str, str]], text: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing of connections that a client has closed."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def every(step: int, fates: tuple[str, ...], *, first: int = 0) -> Plan:
    """Return a plan by which every ``step``-th request goes wrong, each in the next way."""

    def plan(number: int, _method: str) -> str:
        at, rest = divmod(number - first, step)
        return fates[at % len(fates)] if number >= first and rest == 0 else PASS

    return plan
