"""A store that is watched, indexed and drawn in threads, and what a page may ask of it.

Two threads work beside the answers::

    watch    looks at the store while a page is open: fill, workers, appended samples
    read     reads every row once: the index of contigs, then calls; the map when it is asked for

Both work on snapshots, so that appends and workers go on, and end within a part of some ten
thousand rows once they are told to.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from store.errors import StoreError
from store.store import Store
from vnp.classify.contig_arrays import read_segments
from vnp.classify.scores import Scores
from vnp.embed.status import StoreStatus, read_status
from vnp.models.extra import INSTALL, missing_packages
from vnp.report.calls import saved_scores
from vnp.report.overview import Json, track_json
from vnp.view.contigs import Query
from vnp.view.events import Events
from vnp.view.index import ContigIndex, Indexed, Known, known_by
from vnp.view.picture import Picture, draw_map, filled_of
from vnp.view.search import Cancelled, Precedence, neighbours

log = logging.getLogger(__name__)

_FASTEST_SECONDS = 1.0  # between two looks
_SLOWEST_SECONDS = 5.0  # where nothing changes
_SHARE = 9  # times what a look took is waited for after it: a tenth of the time goes into looks
_RATE_SECONDS = 60.0  # over which rows a second are counted
_ENDING_SECONDS = 1.0  # that a thread has to end
_UNSEEN = (
    "The store cannot be read any more: what is shown is of some time ago; "
    "the terminal of 'vnp view' says why"
)
_UNREAD = "The contigs cannot be read: the terminal of 'vnp view' says why"
_MORE = 1.5  # times as many certified records ask for a new map


class NotKnownError(Exception):
    """What is asked for is not in the store."""


@dataclass(frozen=True, slots=True)
class _Map:
    """A map, or that there can be none, and what it was made of."""

    map: Json | None
    trouble: str  # why it could not be made; empty if it was
    certified: int  # records that there were
    known: Known  # the commit
    scores: tuple[str, ...]  # as `Indexed.made`

    def is_of(self, indexed: Indexed) -> bool:
        """Whether it shows this store, with these scores."""
        return self.scores == indexed.made and self.known.goes_on_in(indexed.store.schema)


class LiveStore:
    """Answers what a page asks, from a store that others change meanwhile.

    Parameters
    ----------
    store
        The store.
    scores
        Name of the kept scores that are shown; None: those saved last, if any. `UsageError` if
        there are none of that name.
    title
        Headline; None: the store's name.
    umap
        Whether the map is made by UMAP, if it is installed.
    """

    def __init__(
        self,
        store: Store,
        *,
        scores: str | None = None,
        title: str | None = None,
        umap: bool = True,
    ) -> None:
        store = store.snapshot()  # which no refresh of the caller's moves
        self._store = store
        self._scores = scores
        self._umap = umap
        self._picture = Picture(store, title=title)
        self._picture.calling(scores=saved_scores(store, scores) is not None)
        self._over = threading.Event()
        self._look = threading.Event()  # set when somebody wants a look
        self._looked_at = -_SLOWEST_SECONDS
        self._looked_again = threading.Condition()
        self._due = threading.Event()  # set when there is something to read
        self._index = ContigIndex(self._over)
        self._indexed = self._index.indexed(store)
        self._map: _Map | None = None
        self._maps = 0  # made by now
        self._map_wanted = False
        self._precedence = Precedence()
        missing = missing_packages() if store.schema.models else []
        self._unseen = ""  # why the store cannot be looked at; empty if it can
        self._unread = ""  # why its contigs cannot be read; empty if they can
        self._no_map = f"The map needs {', '.join(missing)}: {INSTALL}" if missing else ""
        self.events = Events(self._look.set)
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("watch", self._watch), ("read", self._read))
        ]

    def start(self) -> None:
        """Begin to watch and to read."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End all streams of events and the threads; one that is in a long read is left behind."""
        self._over.set()
        self._look.set()
        self._due.set()
        self.events.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_ENDING_SECONDS)
        if not any(thread.is_alive() for thread in self._threads):
            self._index.close()

    # -- answers ------------------------------------------------------------------------------

    def overview(self) -> Json:
        """``overview()`` as of now; of some time ago where a look at the store takes long."""
        asked = time.monotonic()
        with self._looked_again:
            self._look.set()
            self._looked_again.wait_for(
                lambda: self._looked_at >= asked - _SLOWEST_SECONDS or self._over.is_set(),
                timeout=_FASTEST_SECONDS,
            )
        return {**self._picture.overview(), **self._troubles()}

    def _troubles(self) -> Json:
        return {"trouble": self._unseen or self._unread}

    def contigs(self, query: Query) -> Json:
        """``contigs()``."""
        indexed = self._indexed
        with self._precedence.answering():
            total, page = indexed.table.select(query)
        return {
            "total": total,
            "rows": indexed.table.rows(page),
            "complete": indexed.complete,
            "searched": len(indexed.table),
            "of": indexed.of,
            "trouble": self._unread,
        }

    def track(self, sample: str, contig: str) -> Json | None:
        """``track()``; None if no such contig has been indexed."""
        indexed = self._indexed
        at = indexed.table.find(sample, contig)
        if at is None:
            return None
        first = int(indexed.table.first[at])
        stop = first + int(indexed.table.records[at])
        values = np.full((stop - first, 2), np.nan, dtype=np.float32)
        if indexed.scores is not None:
            values = indexed.store.scores(indexed.scores, first, stop)
        return track_json(read_segments(indexed.store, first, Scores(first, values)), [])

    def map(self, *, again: bool = False) -> Json:
        """``map()`` if it has been made; else it will be, and ``pending`` says so.

        With ``again`` one that could not be made is tried once more.
        """
        made = self._map
        if again and made is not None and made.trouble:
            self._map = made = None
        self._map_wanted = True
        self._due.set()
        trouble = self._no_map or ("" if made is None else made.trouble)
        if made is None and not trouble:
            trouble = self._unread
        return {
            "pending": made is None and not trouble,
            "map": None if made is None else made.map,
            "number": self._maps,
            "trouble": trouble,
            "failed": made is not None and bool(made.trouble),
        }

    def neighbours(self, row: int, gone: threading.Event) -> Generator[Json]:
        """``neighbours()``, part by part; `Cancelled` once ``gone`` is set or all is over."""
        store = self._store
        if row >= store.n_rows:
            raise NotKnownError(f"row {row:,} does not exist")
        found = neighbours(
            store,
            row,
            scores=self._indexed.scores,
            stopped=lambda: gone.is_set() or self._over.is_set(),
            precedence=self._precedence,
        )
        if found is None:
            raise NotKnownError("this record has no embedding of every model yet")
        return found

    # -- threads ------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look at the store, seldom where nothing changes and not at all while no page is open."""
        past: deque[tuple[float, int]] = deque()
        pause, before = _FASTEST_SECONDS, None
        while not self._over.is_set():
            if not self.events.pages:
                past.clear()
                self._look.wait()
            self._look.clear()
            if self._over.is_set():
                break
            began = time.monotonic()
            try:
                status = self._looked(past)
            except Exception as error:  # noqa: BLE001 - the thread goes on whatever it meets
                _tell("the store cannot be looked at", error)
                self._unseen = _UNSEEN
                self._has_looked()
                self.events.publish(self._troubles())
                self._over.wait(_SLOWEST_SECONDS)
                continue
            self._unseen = ""
            self.events.publish(self._troubles())
            pause = _FASTEST_SECONDS if status != before else min(2 * pause, _SLOWEST_SECONDS)
            before = status
            # Pages that come one after the other do not have it look more often.
            least = max(_FASTEST_SECONDS, _SHARE * (time.monotonic() - began))
            self._over.wait(least)
            self._look.wait(max(pause - least, 0))

    def _looked(self, past: deque[tuple[float, int]]) -> StoreStatus:
        """Look once, and tell the pages."""
        store = self._store.snapshot()
        filled = filled_of(store)
        status = read_status(store, filled=filled)
        moved = store.schema != self._store.schema
        self._picture.look(store, filled)  # first: calls are never of a later commit than it shows
        self._store = store
        drawn = self._map
        if drawn is not None and not drawn.known.goes_on_in(store.schema):
            self._map = None  # another store was here
        if moved:
            self._due.set()
        self._has_looked()
        self.events.publish({**self._picture.changing(), **_pace(status, past)})
        if self._picture.read(store, filled):
            self.events.publish(self._picture.changing())
        return status

    def _has_looked(self) -> None:
        with self._looked_again:
            self._looked_at = time.monotonic()
            self._looked_again.notify_all()

    def _read(self) -> None:
        """Read what there is to read, until all is over."""
        while not self._over.is_set():
            self._due.clear()
            if self._over.is_set():
                break
            try:
                self._catch_up()
                self._unread = ""
                self.events.publish(self._troubles())
                self._draw()
            except Cancelled:
                break
            except Exception as error:  # noqa: BLE001 - the thread goes on whatever it meets
                _tell("the contigs cannot be read", error)
                self._unread = _UNREAD
                self.events.publish(self._troubles())
                self._over.wait(_SLOWEST_SECONDS)
            else:
                self._due.wait()

    def _catch_up(self) -> None:
        """Index what the store has more, or all of it where its scores are others."""
        store = self._store
        source = saved_scores(store, self._scores)
        if not self._index.goes_on_with(store, source):
            self._index.close()
            self._index = ContigIndex(self._over)
        index, before = self._index, self._indexed
        self._picture.calling(scores=source is not None)
        try:
            for indexed in index.extend(store, source):
                # One that is whole is shown until another is, or it has grown.
                if indexed.complete or not before.complete or before.scores == indexed.scores:
                    self._indexed = indexed
                    progress = {"indexed": len(indexed.table), "of": indexed.of}
                    self.events.publish({"contigs": {**progress, "complete": indexed.complete}})
        except BaseException:
            index.close()  # it has a part of a sample
            self._index = ContigIndex(self._over)
            raise
        if self._indexed.complete:
            self._picture.called(store, source, index.tally, index.scored)
            self.events.publish(self._picture.changing())

    def _draw(self) -> None:
        """Make the map, if it is wanted and there are enough records that it does not show.

        One of another store or other scores is made anew also where nobody asked again.
        """
        indexed = self._indexed
        last_made = self._map
        old = last_made is not None and not last_made.is_of(indexed)
        wanted = self._map_wanted or (old and self.events.pages)
        if not (wanted and indexed.complete) or self._no_map or self._over.is_set():
            return
        self._map_wanted = False
        filled = list(filled_of(indexed.store).values())
        certified = int(np.minimum.reduce(filled).sum()) if filled else 0
        before = -1 if last_made is None or old else last_made.certified
        last = certified == indexed.store.n_rows  # no more will come: the map has them all
        if certified == before or (certified <= _MORE * before and not last):
            return
        drawn, trouble = None, ""
        try:
            drawn = draw_map(
                indexed.store,
                indexed.table,
                scores=indexed.scores,
                umap=self._umap,
                stop=self._over,
            )
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - told, and not tried again at each question
            _tell("the map cannot be made", error)
            trouble = "The map cannot be made: the terminal of 'vnp view' says why"
        self._map = _Map(drawn, trouble, certified, known_by(indexed.store.schema), indexed.made)
        self._maps += 1
        self.events.publish({"map": self._maps})


def _tell(what: str, error: Exception) -> None:
    """Tell the terminal what cannot be done; of what nobody expected, where it happened too."""
    expected = isinstance(error, (StoreError, OSError, MemoryError))
    log.warning("%s: %s", what, error, exc_info=None if expected else error)


def _pace(status: StoreStatus, past: deque[tuple[float, int]]) -> Json:
    """Rows a second over the last looks, and what is left; ``past`` holds these."""
    now, done = time.monotonic(), status.rows_done + status.rows_in_hand
    past.append((now, done))
    while now - past[0][0] > _RATE_SECONDS:
        past.popleft()
    seconds, made = now - past[0][0], done - past[0][1]
    left = status.rows_wanted - status.rows_done
    # One that has embedded nothing yet is known by its claim alone.
    claimed = any(model.claimed for model in status.models)
    rate = made / seconds if seconds > 0 and made > 0 else 0.0
    return {
        "rate": round(rate, 1) if left else None,
        "seconds_left": round(left / rate) if rate > 0 and left else None,
        "workers": max(len(status.workers), int(claimed)),
    }
