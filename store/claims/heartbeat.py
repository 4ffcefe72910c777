"""Signs of life: the file a worker keeps moving, and how others judge it.

A worker rewrites ``workers/<uuid>`` every few seconds; the counter in it goes up each time. Whoever
wants to know whether the worker lives watches the file and times, on its own monotonic clock, how
long the content stands still. No clock of another host and no file time enters, so clocks may be
wrong by years. The same file tells `status` how far the worker is.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from store.claims.process import Identity, identify, is_gone
from store.errors import UsageError
from store.io.files import WriteError, make_dir, publish_replace
from store.io.json import parse_json

INTERVAL = 5.0  # seconds between two beats
LEASE = 60.0  # seconds without a beat after which a worker counts as dead

_SIZE = 4096  # bytes of a heartbeat file: one page, one write, never more space
_WORKER = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger(__name__)


def new_worker() -> str:
    """Return the id of a new worker: 32 hexadecimal digits. Never use one in two processes."""
    return uuid4().hex


def is_worker(text: object) -> bool:
    """Whether ``text`` is the id of a worker, and so safe as a file name."""
    return isinstance(text, str) and _WORKER.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat file says."""

    worker: str  # id of the worker
    identity: Identity | None  # whose process it is
    counter: int  # beats so far
    ended: bool  # the worker has left in good order
    interval: float  # seconds it means to leave between beats
    progress: dict[str, Any]  # whatever the worker last told about its work


class Heartbeat:
    """The calling worker's own sign of life, kept up by a daemon thread.

    Use it as a context manager around the work: the first beat is on disk before the body runs,
    and the worker counts as ended, its claims as stale, after it.

    Parameters
    ----------
    directory
        The side directory of the store (``run.zarr.vnp``).
    interval
        Seconds between beats; the lease of those who watch must be several times longer.
    worker, identity
        Who this is; a new worker in this process when not given.
    """

    def __init__(
        self,
        directory: Path,
        *,
        interval: float = INTERVAL,
        worker: str | None = None,
        identity: Identity | None = None,
    ) -> None:
        if interval <= 0:
            raise UsageError(f"a heartbeat every {interval} s is not possible: give more than 0")
        self.worker = worker if worker is not None else new_worker()
        self.identity = identity if identity is not None else identify()
        self.interval = interval
        self._directory = directory
        self._path = _path(directory, self.worker)
        self._counter = 0
        self._progress: dict[str, Any] = {}
        self._ended = False
        self._failing = False
        self._lock = threading.Lock()  # counter, progress and file belong together
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Beat once, then go on in a thread.

        Raises
        ------
        WriteError
            The heartbeat file cannot be made.
        """
        self.beat()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and say that the worker has ended. Safe to call more than once."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._ended:
            return
        self._ended = True
        try:
            self.beat()
        except WriteError as error:
            # The counter stands still from now on, which others will notice too, only later.
            _log.warning("cannot record the end of this worker: %s", error)

    def report(self, progress: Mapping[str, Any]) -> None:
        """Replace what the next beats tell about the work; small, and fit for JSON."""
        fresh = dict(progress)
        with self._lock:
            self._content(fresh)  # refuse here, not in the thread
            self._progress = fresh

    def beat(self) -> None:
        """Raise the counter and write the file; the thread does this by itself."""
        with self._lock:
            self._counter += 1
            content = self._content(self._progress)
            # Overwriting in place needs no space, so a full disk does not kill the worker's name.
            # A reader may catch a page half old, half new: then it differs from what he saw
            # before, and that is all he wants to know.
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.pwrite(fd, content, 0)
                finally:
                    os.close(fd)
            except FileNotFoundError:
                make_dir(self._path.parent, durable=False)
                make_dir(self._directory / "tmp", durable=False)
                publish_replace(self._directory / "tmp", self._path, [content], durable=False)
            except OSError as error:
                raise WriteError(f"{self._path}: {error.strerror}", errno=error.errno) from error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _content(self, progress: dict[str, Any]) -> bytes:
        text = json.dumps(
            {
                "counter": self._counter,
                "state": "ended" if self._ended else "running",
                "worker": self.worker,
                "interval": self.interval,
                "identity": self.identity.to_json(),
                "progress": progress,
            }
        ).encode()
        # The counter grows by a few digits over the years.
        if len(text) > _SIZE - 32:
            raise UsageError(
                f"the progress of a worker takes {len(text):,} bytes as JSON with its identity; "
                f"it must stay under {_SIZE - 32:,}"
            )
        return text.ljust(_SIZE - 1) + b"\n"

    def _run(self) -> None:
        while not self._stop.wait(self.interval):
            try:
                self.beat()
            except WriteError as error:
                if not self._failing:
                    _log.warning("no sign of life from this worker for now: %s", error)
                self._failing = True
            else:
                self._failing = False


def read_beat(directory: Path, worker: str) -> Beat | None:
    """Read one worker's heartbeat file; None when it is missing or unreadable."""
    content = _read(directory, worker)
    return _parse(worker, content) if content is not None else None


def workers(directory: Path) -> list[str]:
    """Ids of all workers there ever were, in order."""
    try:
        names = os.listdir(directory / "workers")
    except FileNotFoundError:
        return []
    return sorted(name for name in names if is_worker(name))


def read_beats(directory: Path) -> list[Beat]:
    """Read the heartbeat file of every worker there ever was, in the order of their ids."""
    beats = (read_beat(directory, name) for name in workers(directory))
    return [beat for beat in beats if beat is not None]


class Verdict(Enum):
    """What a watcher makes of a worker."""

    LIVE = "live"  # seen to move, less than a lease ago
    UNKNOWN = "unknown"  # not seen to move, but watched for less than a lease
    ENDED = "ended"  # left in good order
    GONE = "gone"  # its process, on this machine, does not exist any more
    SILENT = "silent"  # has stood still for a whole lease

    @property
    def stale(self) -> bool:
        """Whether the worker's claims may be taken over."""
        return self in (Verdict.ENDED, Verdict.GONE, Verdict.SILENT)


@dataclass(slots=True)
class _Watch:
    """What a watcher remembers of one worker."""

    content: bytes | None  # the heartbeat file as last seen; None: never seen
    looked: float  # when the last look ended, on the watcher's clock
    still: float  # seconds for which the content has been seen to stand still
    moved: bool  # whether it was ever seen to move
    final: Verdict | None  # a verdict that no later look can change


class Liveness:
    """Watches workers; one object per process, kept for as long as the process runs.

    Parameters
    ----------
    directory
        The side directory of the store.
    lease
        Seconds of standstill after which a worker counts as dead.
    identity
        Who watches; the calling process when not given.
    clock
        Monotonic clock in seconds.

    Notes
    -----
    Between two looks at most a third of the lease is counted. A watcher that was itself frozen,
    perhaps together with the worker (a suspended job, a paused machine), wakes up to a clock that
    ran on; it must then look several times more before it calls anybody dead.

    A heartbeat file is read again only after a sixtieth of the lease.
    """

    def __init__(
        self,
        directory: Path,
        *,
        lease: float = LEASE,
        identity: Identity | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if lease <= 0:
            raise UsageError(f"a lease of {lease} s is not possible: give more than 0")
        self.lease = lease
        self._directory = directory
        self._me = identity if identity is not None else identify()
        self._clock = clock
        self._watched: dict[str, _Watch] = {}
        self._lock = threading.Lock()

    def verdict(self, worker: str, *, identity: Identity | None) -> Verdict:
        """Look at a worker and judge it.

        Parameters
        ----------
        worker
            Its id. Anything else names a claim whose owner cannot be read; it has no heartbeat
            file and so is silent after a lease.
        identity
            Its process as its claim tells it; as its heartbeat tells it when not given.
        """
        with self._lock:
            watch = self._look(worker, identity)
            if watch.final is not None:
                return watch.final
            if watch.still >= self.lease:
                return Verdict.SILENT
            return Verdict.LIVE if watch.moved else Verdict.UNKNOWN

    def last_beat(self, worker: str) -> Beat | None:
        """What the heartbeat of a worker that was looked at and has not left said last."""
        with self._lock:
            watch = self._watched.get(worker)
            content = watch.content if watch else None
        return _parse(worker, content) if content is not None else None

    def still_for(self, worker: str) -> float:
        """Seconds for which this process has seen the worker's heartbeat stand still."""
        with self._lock:
            watch = self._watched.get(worker)
            return watch.still if watch else 0.0

    def _look(self, worker: str, identity: Identity | None) -> _Watch:
        watch = self._watched.get(worker)
        before = self._clock()
        if watch is not None and (
            watch.final is not None or before - watch.looked < self.lease / 60
        ):
            return watch
        content = _read(self._directory, worker) if is_worker(worker) else None
        # A standstill is timed from the end of one look to the beginning of the next: never more
        # than it was, however long the reading takes.
        after = self._clock()
        if watch is None:
            watch = _Watch(content=content, looked=after, still=0.0, moved=False, final=None)
            self._watched[worker] = watch
        elif content is not None and content != watch.content:
            watch.content = content
            watch.moved = True
            watch.still = 0.0
        else:  # a file that vanished or cannot be read shows no life either
            watch.still += min(before - watch.looked, self.lease / 3)
        watch.looked = after
        beat = _parse(worker, content) if content is not None else None
        if identity is None and beat is not None:
            identity = beat.identity
        if beat is not None and beat.ended:
            watch.final = Verdict.ENDED
        elif identity is not None and is_gone(identity, me=self._me):
            watch.final = Verdict.GONE
        if watch.final is not None:
            watch.content = None  # there may be thousands
        return watch


def _path(directory: Path, worker: str) -> Path:
    return directory / "workers" / worker


def _read(directory: Path, worker: str) -> bytes | None:
    try:
        # What is no file (a pipe would wait for a writer) is as good as none.
        fd = os.open(_path(directory, worker), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.read(fd, _SIZE) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)
    except OSError:
        return None


def _parse(worker: str, content: bytes) -> Beat | None:
    try:
        found = parse_json(content)
    except ValueError:  # half old, half new, or damaged
        return None
    if not isinstance(found, dict) or found.get("worker") != worker:
        return None
    counter, interval, progress = (found.get(key) for key in ("counter", "interval", "progress"))
    return Beat(
        worker=worker,
        identity=Identity.from_json(found.get("identity")),
        counter=counter if type(counter) is int else 0,
        ended=found.get("state") == "ended",
        interval=float(interval)
        if isinstance(interval, float | int) and 0 < interval < 1e6
        else INTERVAL,
        progress=progress if isinstance(progress, dict) else {},
    )
