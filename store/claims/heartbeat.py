"""Signs of life: the file, or object, that a worker rewrites every few seconds.

Each time the counter in ``workers/<uuid>`` goes up, so that others can see that the worker lives
(`store.claims.liveness`). The same file tells `status` how far the worker is. A worker that leaves
with all its claims released removes its file; those of the dead are removed by others
(`store.claims.participant`).
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from store.claims.process import Identity, identify
from store.claims.room import Room, room_of
from store.errors import UsageError
from store.io.concurrent import in_order
from store.io.files import WriteError
from store.io.json import parse_json

INTERVAL = 5.0  # seconds between two beats

_FOLDER = "workers"
_SIZE = 4096  # bytes of a heartbeat file: one page, one write, never more space
_WORKER = re.compile(r"[0-9a-f]{32}")
log = logging.getLogger(__name__)


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
    progress: dict[str, Any]  # what the worker last told about its work


class Heartbeat:
    """The calling worker's own sign of life, kept up by a daemon thread.

    Use it as a context manager around the work: the first beat is on disk before the body runs,
    and the worker counts as ended, its claims as stale, after it. The lease of those who watch
    must be several times the ``interval`` (seconds). Without ``worker`` it is a new one.
    """

    def __init__(
        self,
        place: Room | Path,
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
        self._room = room_of(place)
        self._described = asdict(self.identity)
        self._counter = 0
        self._progress: dict[str, Any] = {}
        self._ended = False
        self._lock = threading.Lock()  # counter, progress and file belong together
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write one heartbeat, then go on in a thread; `WriteError` if the file cannot be made."""
        self.beat()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self, *, remove: bool = False) -> None:
        """Stop the thread and record that the worker has ended. Safe to call again.

        With ``remove`` its file goes: of a worker that holds no claim there is nothing to say.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._ended:
            return
        self._ended = True
        if remove and remove_beat(self._room, self.worker):
            return
        try:
            self.beat()
        except WriteError as error:
            # Others notice later, by the counter that no longer moves.
            log.warning("cannot record the end of this worker: %s", error)

    def report(self, progress: Mapping[str, Any]) -> None:
        """Replace the progress that the next beats carry; small, and fit for JSON."""
        fresh = dict(progress)
        with self._lock:
            self._content(fresh)  # refuse here, not in the thread
            self._progress = fresh

    def beat(self) -> None:
        """Raise the counter and write the file; the thread does this by itself."""
        with self._lock:
            self._counter += 1
            content = self._content(self._progress)
            # A reader may see a page half old, half new: it differs from the one before, which is
            # all it needs.
            self._room.overwrite(f"{_FOLDER}/{self.worker}", content)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _content(self, progress: dict[str, Any]) -> bytes:
        text = json.dumps(
            {
                "counter": self._counter,
                "state": "ended" if self._ended else "running",
                "worker": self.worker,
                "interval": self.interval,
                "identity": self._described,
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
        failing = False
        while not self._stop.wait(self.interval):
            try:
                self.beat()
                failing = False
            except WriteError as error:
                if not failing:
                    log.warning("no sign of life from this worker for now: %s", error)
                failing = True


def read_beat(place: Room | Path, worker: str) -> Beat | None:
    """Read one worker's heartbeat file; None when it is missing or unreadable."""
    return parse_beat(worker, read_content(place, worker))


def remove_beat(place: Room | Path, worker: str) -> bool:
    """Remove a worker's heartbeat file; whether it is gone.

    A worker that lives after all makes it again with its next beat. Until then it is to others as
    if it had not moved, which is nothing within a lease.
    """
    return room_of(place).remove(f"{_FOLDER}/{worker}")


def workers(place: Room | Path) -> list[str]:
    """Ids of all workers that have a heartbeat file, in order."""
    return sorted(filter(is_worker, room_of(place).names(_FOLDER)))


def read_beats(place: Room | Path, names: Sequence[str] | None = None) -> list[Beat]:
    """Read the heartbeat files of these workers, by default of all in the order of their ids."""
    room = room_of(place)
    names = workers(room) if names is None else names
    beats = in_order(lambda name: read_beat(room, name), names)
    return [beat for beat in beats if beat is not None]


def read_content(place: Room | Path, worker: str) -> bytes | None:
    """Content of a worker's heartbeat file; None when it is missing or unreadable."""
    return room_of(place).read(f"{_FOLDER}/{worker}", most=_SIZE)


def parse_beat(worker: str, content: bytes | None) -> Beat | None:
    """What the content of a heartbeat file says; None when it is missing or damaged."""
    try:
        found = parse_json((content or b"").rstrip())
    except ValueError:  # half old, half new, or damaged
        return None
    if not isinstance(found, dict) or found.get("worker") != worker:
        return None
    counter, progress = found.get("counter"), found.get("progress")
    return Beat(
        worker=worker,
        identity=Identity.from_json(found.get("identity")),
        counter=counter if type(counter) is int else 0,
        ended=found.get("state") == "ended",
        progress=progress if isinstance(progress, dict) else {},
    )
