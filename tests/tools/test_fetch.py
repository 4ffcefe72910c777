"""Downloads from a server that does other things than it should."""

from __future__ import annotations

import hashlib
import io
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from store.errors import DataError
from tools.reproducing import fetch as fetching
from tools.reproducing.fetch import Pinned, fetch

CONTENT = bytes(range(256)) * 8


class Server:
    """Serves one address; each answer is written by ``answer``."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda _: None
        self.asked = 0
        self.url = ""

    def pinned(self, size: int | None) -> Pinned:
        digest = hashlib.sha256(CONTENT).hexdigest()
        return Pinned(PurePosixPath("x.bin"), "weights", self.url, size, "sha256", digest)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "_SPARE", 0)
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            served.answer(self)

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        served.url = f"http://127.0.0.1:{listening.server_port}/x.bin"
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield served
        finally:
            listening.shutdown()
            thread.join()


def complaint(server: Server, folder: Path, size: int | None) -> str:
    with pytest.raises(DataError) as raised:
        fetch([server.pinned(size)], folder, room=0, say=str)
    return str(raised.value)


def head(handler: BaseHTTPRequestHandler, length: str = "", reason: str = "OK") -> None:
    handler.send_response(200, reason)
    if length:
        handler.send_header("Content-Length", length)
    handler.end_headers()


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("told", [False, True])
def test_no_more_is_kept_than_a_file_may_have(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, told: bool
) -> None:
    monkeypatch.setattr(fetching, "_MOST", len(CONTENT))
    monkeypatch.setattr(fetching, "_CHUNK", 1000)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, str(len(CONTENT) + 1) if told else "")
        handler.wfile.write(CONTENT + b"!")

    server.answer = answer
    said = complaint(server, tmp_path, size)
    if told and size:
        assert "has 2,049 bytes there, not the 2,048 of the pinned file" in said
    else:
        assert "sends more than 2,048 bytes" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", ["abc", "-5", "1_0", "9" * 5000])
def test_a_length_that_is_not_a_number(server: Server, tmp_path: Path, length: str) -> None:
    server.answer = lambda handler: head(handler, length)
    assert "has a length that is not a number: " in complaint(server, tmp_path, None)


def test_a_byte_at_a_time_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_TRIES", 4)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        have = int(handler.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        handler.send_response(206 if have else 200)
        handler.send_header("Content-Length", str(len(CONTENT) - have))
        handler.end_headers()
        handler.wfile.write(CONTENT[have : have + 1])

    server.answer = answer
    assert "ended after 4 of 2,048 bytes" in complaint(server, tmp_path, len(CONTENT))
    assert server.asked == 4
    assert (tmp_path / "x.bin.part").read_bytes() == CONTENT[:4]


def test_words_of_a_server_are_escaped(server: Server, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(403, "no \x1b[2J\x07way")
        handler.end_headers()

    server.answer = answer
    assert "answers 403 no \\x1b[2J\\x07way: " in complaint(server, tmp_path, None)


def test_a_read_that_stalls_keeps_what_came() -> None:
    class Stalled:
        def __init__(self) -> None:
            self.parts: list[Any] = [b"one", b"two"]

        def read1(self, _size: int) -> Any:
            if not self.parts:
                raise TimeoutError
            return self.parts.pop(0)

    file = io.BytesIO()
    assert not fetching._copy(Stalled(), file, Path("x"), room=100)
    assert file.getvalue() == b"onetwo"


@pytest.mark.parametrize("target", ["http://b.example/x", "ftp://b.example/x"])
def test_no_redirect_leaves_https(target: str) -> None:
    follow = fetching._Redirects().redirect_request
    request = urllib.request.Request("https://a.example/x")
    with pytest.raises(DataError, match="which is not https"):
        follow(request, io.BytesIO(), 302, "Found", {}, target)
    found = follow(request, io.BytesIO(), 302, "Found", {}, "https://b.example/y")
    assert found is not None
    assert found.full_url == "https://b.example/y"
