"""A small store with contigs of several segments and kept scores, and a server on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np

from store.io.ragged import from_items
from store.location import Location
from store.open import create_store
from store.store import Store
from tests import rows
from vnp.view.live import LiveStore
from vnp.view.page import Page
from vnp.view.serve import listen, make_server
from vnp.view.server import make_app

HOSTILE = "<script>alert(1)</script>\"'&amp;../../etc/passwd<img/src=//evil.example/x>"

TOKEN = "t0ken-" + "x" * 37
PAGE = Page({"/": (b"<!DOCTYPE html><title>page</title>", "text/html")}, "default-src 'none'")


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Browser:
    """Asks a server on loopback, and keeps its cookies."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    def get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
    ) -> Answer:
        asked = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
        if self.cookies:
            asked["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(
                method,
                f"{path}?{urlencode(params)}" if params else path,
                skip_host=True,
                skip_accept_encoding=True,
            )
            for name, value in asked.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        for kept in answer.headers.get_all("set-cookie", []):
            name, _, value = kept.partition(";")[0].partition("=")
            self.cookies[name] = value
        return Answer(answer.status, answer.headers, text)


class Listener:
    """A stream of events: the newest of each part."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines
        self.parts: dict[str, Any] = {}

    def until(self, there: Callable[[dict[str, Any]], Any]) -> None:
        """Read until the parts are there, and as they should be, a minute at most."""
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(KeyError):  # it has not come yet
                if there(self.parts):
                    return
            line = self._lines.readline()
            assert line, "the stream has ended"
            assert time.monotonic() < end, "it did not come"
            if line.startswith(b"data: "):
                self.parts |= json.loads(line[6:])

    def rest(self) -> bytes:
        """All that comes until the server ends the stream."""
        return bytes(self._lines.read())


@contextlib.contextmanager
def listening(browser: Browser, path: str = "/api/events") -> Iterator[Listener]:
    """A stream of events, from its first line on."""
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", browser.port), timeout=60) as connection:
        connection.sendall(asked.encode())
        with connection.makefile("rb") as lines:
            assert b"200" in lines.readline()
            yield Listener(lines)


def parts_of(answer: Answer) -> list[Any]:
    """Parts of a stream that has ended."""
    return [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]


@contextlib.contextmanager
def served(live: LiveStore, *, page: Page = PAGE, token: str = TOKEN) -> Iterator[Browser]:
    """Serve in a thread; the browser has been nowhere yet."""
    listening = listen(0)
    server = make_server(make_app(live, page, token=token), ended=live.close)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    live.start()
    thread.start()
    try:
        yield Browser(listening.getsockname()[1])
    finally:
        live.close()
        server.should_exit = True
        thread.join()
        listening.close()


def until(there: Callable[[], Any], what: str) -> Any:
    """Wait until something is there, a minute at most."""
    end = time.monotonic() + 60
    while not (found := there()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)
    return found


def append(
    store: Store, name: str, count: int, *, contig: str = "contig", length: int = 2500
) -> None:
    """Append a sample whose contigs have five segments of one record each."""
    with store.appending() as appending:
        numbers = np.arange(count)
        batch = replace(
            rows.batch(name, 0, count),
            contig=from_items([f"{contig}_{number // 5}".encode() for number in numbers]),
            segment=(numbers % 5 + 1).astype(np.int32),
            start=numbers % 5 * 500,
            end=numbers % 5 * 500 + 500,
            contig_length=np.full(count, length),
        )
        appending.write(batch)
        appending.commit(
            name,
            contigs=-(-count // 5) + 2,
            contigs_without_records=2,
            segments=count,
            bases=500 * count,
            content=name,
            source=f"{name}.fa",
        )


def keep_scores(store: Store, name: str = "kept") -> None:
    """Keep scores of all rows: whole contigs viral, then not, in turn."""
    viral = np.where(np.arange(store.n_rows) // 5 % 2 == 0, 0.9, 0.2).astype(np.float32)
    store.save_scores(
        name,
        digest="sha256:abc",
        values=np.stack([1 - viral, viral], axis=1),
        rows=[(0, store.n_rows)],
        replace=True,
    )


def make_store(path: Location) -> Store:
    """Make a store of two samples, every block filled, with kept scores."""
    store = create_store(path, models=rows.MODELS, segment_length=500, block_rows=16)
    append(store, "first", 70)
    append(store, "second", 30, contig=HOSTILE)
    for model in rows.MODELS:
        for block in range(store.n_blocks):
            rows.publish(store, model.name, block)
    keep_scores(store)
    return store


@contextlib.contextmanager
def opened(store: Store) -> Iterator[Browser]:
    """A browser that opened the address of another store."""
    with served(LiveStore(store, umap=False)) as browser:
        assert browser.get(f"/?token={TOKEN}").status == 200
        yield browser


def map_of(client: Browser) -> Any:
    def made() -> Any:
        found = client.get("/api/map").json()
        return None if found["pending"] else found

    return until(made, "the map")["map"]
