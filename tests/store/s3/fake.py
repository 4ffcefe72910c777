"""An S3 server in memory under the code that speaks to obstore, and faults at chosen requests.

Requests cost microseconds here, so each one of a long scenario can be the last before a kill, or
fail with or without its effect. Processes are played: each has an identity of its own, and one that
was killed sends nothing more and is known to be gone.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from obstore import exceptions

from store import layout
from store.claims import heartbeat, liveness, participant
from store.claims.process import Identity
from store.s3 import objects, probe
from tests.store.faulty_backend import Stopped

SLOW_DOWN = "non-2xx status code: 503 <Code>SlowDown</Code>"
DENIED = "non-2xx status code: 403 <Code>AccessDenied</Code>"


class FakeServer:
    """Objects by bucket, location and key, with S3's conditions."""

    exceptions = exceptions

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, at: str, key: str, content: bytes, *, mode: Any, use_multipart: bool) -> Any:
        assert not use_multipart
        name = f"{at}/{key}"
        with self._lock:
            held = self.objects.get(name)
            if mode == "create" and held is not None:
                raise exceptions.AlreadyExistsError("non-2xx status code: 412")
            if isinstance(mode, dict) and (held is None or _etag(held) != mode["e_tag"]):
                raise exceptions.PreconditionError("non-2xx status code: 412")
            self.objects[name] = bytes(content)
        return {"e_tag": _etag(content)}

    def get(self, at: str, key: str, *, options: Any = None) -> Any:
        content = self._held(at, key)
        options = options or {}
        if options.get("if_none_match") == _etag(content):
            raise exceptions.NotModifiedError("non-2xx status code: 304")
        size = len(content)
        meta = {"size": size, "e_tag": _etag(content)}
        return _Answer(
            meta, content[-options["range"]["suffix"] :] if "range" in options else content
        )

    def head(self, at: str, key: str) -> Any:
        return {"e_tag": _etag(self._held(at, key))}

    def delete(self, at: str, key: str) -> None:
        with self._lock:
            self.objects.pop(f"{at}/{key}", None)

    def list(self, at: str, folder: str | None, *, offset: str | None, chunk_size: int) -> Any:
        start = f"{at}/{folder}/" if folder else f"{at}/"
        names = sorted(name for name in list(self.objects) if name.startswith(start))
        keys = [name.removeprefix(f"{at}/") for name in names]
        page = [{"path": key} for key in keys if offset is None or key > offset][:chunk_size]
        return iter([page] if page else [])

    def list_with_delimiter(self, at: str, folder: str) -> Any:
        start = f"{at}/{folder}/"
        below = {
            name.removeprefix(start).partition("/")[0]
            for name in self.objects
            if name.startswith(start)
        }
        return {"common_prefixes": [f"{folder}/{name}" for name in sorted(below)]}

    def _held(self, at: str, key: str) -> bytes:
        if f"{at}/{key}" not in self.objects:
            raise FileNotFoundError("non-2xx status code: 404 <Code>NoSuchKey</Code>")
        return self.objects[f"{at}/{key}"]


@dataclass
class _Answer:
    meta: dict[str, Any]
    content: bytes

    def bytes(self) -> bytes:
        return self.content


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


@dataclass
class Process:
    """What happens to the requests of one process; ``at`` is the one that goes wrong."""

    at: int = -1  # counted from 0
    after: bool = False  # its effect is done all the same
    error: BaseException | None = None  # raised; `Stopped` ends the process
    lasting: bool = False  # all later requests go wrong too, without effect
    requests: int = 0
    came: bool = False
    dead: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            if self.dead:
                raise Stopped("sent after the stop")
            here = self.requests == self.at
            late = self.lasting and self.came
            self.requests += 1
            self.came = self.came or here
        if late or (here and not self.after):
            self._fail()
        answer = call()
        if here:
            self._fail()
        return answer

    def _fail(self) -> None:
        assert self.error is not None
        self.dead = isinstance(self.error, Stopped)
        raise self.error


@dataclass
class Stage:
    """One server, and the processes that have come and gone."""

    server: FakeServer
    number: int = 0
    gone: set[int] = field(default_factory=set)
    _patch: pytest.MonkeyPatch = field(default_factory=pytest.MonkeyPatch)

    @contextmanager
    def process(self, process: Process) -> Iterator[Process]:
        """Be a process; it is gone afterwards."""
        self.number += 1
        me = Identity("host", "boot", "ns", self.number, started=1, job=None)
        probe._trusted.clear()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(objects, "send", process.send)
                patch.setattr(participant, "identify", lambda: me)
                yield process
        finally:
            self.gone.add(me.pid)


@contextmanager
def stage() -> Iterator[Stage]:
    """Put a server in memory under `store.s3.objects`."""
    made = Stage(FakeServer())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "COLUMN_CHUNK_ROWS", 8)  # several chunks a column, and fast
        patch.setattr(objects, "bucket_of", lambda place, timeout: str(place))
        patch.setattr(objects.Objects, "_library", made.server)
        patch.setattr(objects, "wait", lambda _seconds: None)
        patch.setattr(liveness, "is_gone", lambda other, me: other.pid in made.gone)
        patch.setattr(heartbeat.Heartbeat, "start", heartbeat.Heartbeat.beat)
        yield made
