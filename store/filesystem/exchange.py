"""Whether two processes, on one host or on two, see what the other does: through the folder alone.

One leads, one joins; each answers what it sees of the other in the same four ways as workers do::

    new names      a name that was looked up in vain appears         claims
    listings       it appears in a listing                           plans
    replaced       a file that is replaced has the new content       commits
    overwritten    a file that is overwritten has the new content    heartbeats

Neither compares clocks: the leader times the way there and back on its own. Then both link the same
names at once, of which each may have one owner, and write cells of the same pages in place.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from store.claims.process import Identity, identify
from store.errors import DataError, UsageError
from store.filesystem.trial import Trial
from store.io.files import publish_new, publish_replace
from store.io.json import parse_json
from store.io.regular import read_regular

WAYS = ("new names", "listings", "replaced", "overwritten")
_TOKEN = re.compile(r"[0-9a-f]{12}")
_PINGS = 3  # of each way
_RACES = 64  # names that both link
_CELLS = 64  # of each, written in place, the other's between them
_CELL = 61  # bytes, so that cells cross pages
_PAGE = 4096  # bytes of a heartbeat file
_LATE = 5.0  # seconds there and back: a heartbeat's interval
_TOO_LATE = 30.0  # half of the 60 s after which a silent worker counts as dead
_LEAD, _JOIN = "lead", "join"


class NoAnswerError(DataError):
    """The other process did not answer, or does not see this one's files."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long to wait for the other process, in seconds, and how to look."""

    to_join: float  # for its first sign
    answer: float = 90.0  # for each of the others: more than NFS remembers anything
    look: float = 0.005  # between two looks
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def new_token() -> str:
    """Return a word that names an exchange."""
    return uuid4().hex[:12]


def folder_of(directory: Path, token: str) -> Path:
    """Return the folder of an exchange; UsageError for what `new_token` did not make."""
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"{token!r} is not the word that the other process printed")
    return directory / f".vnp-doctor-{token}"


def lead(folder: Path, waiting: Waiting, *, alone: Sequence[Trial] = ()) -> Iterator[Trial]:
    """Exchange with a process that joins; ``folder`` exists and is not removed here.

    ``alone`` is what this process found alone: of what the other one did, the rest is told.

    Raises
    ------
    NoAnswerError
        If none joins, or one does not see or answer something.
    """
    side = _Side(folder, _LEAD, _JOIN, waiting)
    side.say("hello", asdict(identify()))
    other = Identity.from_json(side.hear("hello", within=waiting.to_join))
    if other is None:
        raise NoAnswerError(f"{folder} holds an answer that no vnp wrote; run it again")
    me = identify()
    apart = (other.host, other.boot) != (me.host, me.boot)
    where = f"with {other}, {'another' if apart else 'this same'} host"
    yield Trial("second process", "ok", where, {"other": asdict(other), "two_hosts": apart})
    for way in WAYS:
        times = []
        for number in range(_PINGS):
            began = waiting.clock()
            side.ping(way, number)
            side.pong(way, number)
            times.append(waiting.clock() - began)
        yield _seen(way, max(times))
    mine, theirs = _races(side)
    both, neither = len(mine & theirs), _RACES - len(mine | theirs)
    values = {"mine": len(mine), "theirs": len(theirs), "both": both, "neither": neither}
    if both or neither:
        found = f"of {_RACES} names both processes got {both} and neither got {neither}"
        yield Trial("race for names", "problem", f"{found}: blocks would have two owners", values)
    else:
        found = f"each of {_RACES} names has one owner"
        yield Trial("race for names", "ok", f"{found} ({len(mine)} and {len(theirs)})", values)
    yield _cells(side)
    told = side.hear("goodbye")  # its last word: the folder may go
    problems = [name for name in told or () if name not in _problems(alone)]
    if problems:
        found = f"has problems of its own: {', '.join(map(str, problems))}; look at what it printed"
        yield Trial("second process alone", "problem", found, {"problems": problems})


def join(folder: Path, waiting: Waiting, *, alone: Sequence[Trial] = ()) -> Iterator[Trial]:
    """Answer a process that leads, and tell it the problems found ``alone``; errors as above."""
    side = _Side(folder, _JOIN, _LEAD, waiting)
    leader = Identity.from_json(side.hear("hello", within=waiting.to_join))
    side.say("hello", asdict(identify()))
    yield Trial("second process", "ok", f"joined {leader or 'an unknown process'}")
    for way in WAYS:
        for number in range(_PINGS):
            side.pong(way, number)
            side.ping(way, number)
        yield Trial(way, "ok", "seen and answered")
    _races(side)
    yield _cells(side)
    side.say("goodbye", _problems(alone))


def _problems(trials: Sequence[Trial]) -> list[str]:
    return [trial.what for trial in trials if trial.state == "problem"]


class _Side:
    """What one of the two says, and what it sees of the other."""

    def __init__(self, folder: Path, me: str, other: str, waiting: Waiting) -> None:
        self.folder = folder
        self.me = me
        self.other = other
        self._waiting = waiting

    def say(self, word: str, value: Any) -> None:
        publish_new(self.folder, self.folder / f"{word}.{self.me}", [json.dumps(value).encode()])

    def hear(self, word: str, *, within: float | None = None) -> Any:
        path = self.folder / f"{word}.{self.other}"
        self._until(path.exists, f"{word} of the other process", within)
        return parse_json(read_regular(path, most=65_536))

    def ping(self, way: str, number: int) -> None:
        """Do what the other is to see."""
        path = self.folder / f"{way}.{self.me}"
        if way == "replaced" or (way == "overwritten" and not path.exists()):
            publish_replace(self.folder, path, [_page(number)])
        elif way == "overwritten":
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CLOEXEC), "wb", buffering=0) as file:
                file.write(_page(number))
        else:
            self.say(f"{way}-{number}", None)

    def pong(self, way: str, number: int) -> None:
        """Wait until what the other did is seen."""
        name = f"{way}-{number}.{self.other}"
        path = self.folder / f"{way}.{self.other}"
        looks: dict[str, Callable[[], bool]] = {
            "new names": (self.folder / name).exists,
            "listings": lambda: name in os.listdir(self.folder),
        }
        look = looks.get(way, lambda: path.exists() and _read(path) == _page(number))
        self._until(look, f"{way}: what the other process did", None)

    def _until(self, seen: Callable[[], bool], what: str, within: float | None) -> None:
        waiting = self._waiting
        patience = waiting.answer if within is None else within
        end = waiting.clock() + patience
        while not seen():
            if waiting.clock() > end:
                raise NoAnswerError(
                    f"{what} was not seen in {self.folder} within {patience:g} s: it ended, or the "
                    "two do not see the same files"
                )
            waiting.sleep(waiting.look)


def _page(number: int) -> bytes:
    return f"{number:06}".encode().ljust(_PAGE)


def _read(path: Path) -> bytes:
    return read_regular(path, most=_PAGE)


def _seen(way: str, seconds: float) -> Trial:
    values = {"milliseconds": seconds * 1000}
    there = f"seen and answered within {seconds:,.3f} s"
    if way == "overwritten" and seconds > _TOO_LATE:
        found = (
            f"{there}: a living worker may be taken for dead. Have the file system mounted with "
            f"shorter caching, or give every worker --lease {int(4 * seconds)}"
        )
        return Trial(way, "problem", found, values)
    if seconds > _LATE:
        found = f"{there}: what others did is noticed that late, so some blocks are embedded twice"
        return Trial(way, "note", found, values)
    return Trial(way, "ok", there, values)


def _races(side: _Side) -> tuple[set[int], set[int]]:
    """Link the same names as the other process, from both ends; return whose are whose."""
    numbers = range(_RACES) if side.me == _LEAD else reversed(range(_RACES))
    side.say("ready", None)
    side.hear("ready")
    content = side.me.encode()
    won = [
        number
        for number in numbers
        if publish_new(side.folder, side.folder / f"race.{number}", [content], durable=False)
    ]
    side.say("won", won)
    theirs = side.hear("won")
    known = isinstance(theirs, list) and all(type(number) is int for number in theirs)
    return set(won), set(theirs) if known else set()


def _cells(side: _Side) -> Trial:
    """Write every other cell of one file in place, as workers fill an HDF5 store."""
    path = side.folder / "cells"
    if side.me == _LEAD:
        publish_new(side.folder, path, [bytes(2 * _CELLS * _CELL)])
        side.say("cells", None)
    else:
        side.hear("cells")
    first = 0 if side.me == _LEAD else 1
    fd = os.open(path, os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC)
    try:
        for number in range(_CELLS):
            os.pwrite(fd, side.me.encode().ljust(_CELL, b"."), (2 * number + first) * _CELL)
    finally:
        os.close(fd)
    side.say("written", None)
    side.hear("written")
    wanted = b"".join(word.encode().ljust(_CELL, b".") for word in (_LEAD, _JOIN)) * _CELLS
    if read_regular(path, most=len(wanted)) != wanted:
        found = (
            "what one process wrote is missing beside what the other wrote in the same pages: "
            "keep HDF5 stores elsewhere, or use a Zarr store"
        )
        return Trial("writes beside each other", "problem", found)
    return Trial("writes beside each other", "ok", "both are kept, in the same pages of a file")
