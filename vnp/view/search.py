"""The records most similar to one, by the store's own search: told as it goes, and given up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from store.read.columns import sample_names, take_column, take_scores
from store.read.search import Hits, searching
from store.read.view import Rows, View
from store.store import Store
from vnp.report.overview import Json, rounded

MOST = 20  # records that are shown
_TOLD_SECONDS = 0.5  # between two words of how far it is
_PATIENCE_SECONDS = 0.5  # that a block waits for answers
_SHARE = 9  # times what looking up records took is spent on the search before it is done again


class Cancelled(Exception):  # noqa: N818 - it is not an error
    """Nobody waits for the answer any more."""


class Precedence:
    """Answers that take precedence: a search lets them finish before it goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers = 0
        self._none = threading.Event()
        self._none.set()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Make an answer."""
        with self._lock:
            self._answers += 1
            self._none.clear()
        try:
            yield
        finally:
            with self._lock:
                self._answers -= 1
                if not self._answers:
                    self._none.set()

    def give_way(self) -> None:
        """Wait while answers are made, but not for ever."""
        self._none.wait(_PATIENCE_SECONDS)


class _Yielding(View):
    """A view that gives way before each block."""

    def __init__(self, store: Store, precedence: Precedence) -> None:
        super().__init__(store)
        self._precedence = precedence

    def block(self, number: int) -> list[Rows]:
        self._precedence.give_way()
        return super().block(number)


def neighbours(
    store: Store,
    row: int,
    *,
    scores: str | None,
    stopped: Callable[[], bool],
    precedence: Precedence,
) -> Generator[Json] | None:
    """Look for the certified rows most similar to one by all models side by side, without itself.

    None if the row is not certified. Every certified row is read, blocks from all over the store
    in turn. What is yielded is at first, now and then, and at last ``{done, of, seconds_left}``:
    certified rows that have been compared, that there are, and what is left, null at first; and
    ``records``, the best first, where these have changed. `Cancelled` once ``stopped`` says so.
    """
    view = _Yielding(store, precedence)
    if not view.certified.holds(np.array([row]))[0]:
        return None
    return _told(store, view, row, scores=scores, stopped=stopped)


def _told(
    store: Store, view: View, row: int, *, scores: str | None, stopped: Callable[[], bool]
) -> Generator[Json]:
    records = _Records(store, row, scores)
    steps = searching(view, view[row], MOST + 1, scattered=True)
    began = time.monotonic()
    told, looked_up = began, began
    try:
        for at in steps:
            if stopped():
                raise Cancelled
            now = time.monotonic()
            if 0 < at.done < at.of and now - told < _TOLD_SECONDS:
                continue
            left = (now - began) * (at.of - at.done) / at.done if at.done else None
            found: Json = {"done": at.done, "of": at.of, "seconds_left": left}
            if at.done == at.of or (at.done and now >= looked_up):
                found["records"] = records.of(at.hits)
                looked_up = time.monotonic() + _SHARE * (time.monotonic() - now)
            yield found
            told = now
            if not at.done:
                began = time.monotonic()  # others may have had their turns before
    finally:
        steps.close()


class _Records:
    """Hits as JSON; a record is looked up once."""

    def __init__(self, store: Store, row: int, scores: str | None) -> None:
        self._store = store
        self._row = row
        self._scores = scores
        self._known: dict[int, Json] = {}

    def of(self, hits: Hits) -> list[Json]:
        """Records of the one query, without the row itself."""
        others = hits.rows[0] != self._row
        rows, similarity = hits.rows[0][others][:MOST], hits.scores[0][others][:MOST]
        self._look_up([row for row in rows.tolist() if row not in self._known])
        return [
            {**self._known[row], "similarity": round(score, 4)}
            for row, score in zip(rows.tolist(), similarity.tolist(), strict=True)
        ]

    def _look_up(self, numbers: list[int]) -> None:
        if not numbers:
            return
        rows = np.array(sorted(numbers))
        columns: dict[str, Any] = {
            name: take_column(self._store, name, rows) for name in ("id", "contig")
        }
        sample = sample_names(self._store, np.asarray(take_column(self._store, "sample", rows)))
        scores: list[float | None] = [None] * len(rows)
        if self._scores:
            scores = rounded(take_scores(self._store, self._scores, rows)[:, 1])
        for at, row in enumerate(rows.tolist()):
            self._known[row] = {
                "row": row,
                "id": columns["id"][at].decode(errors="replace"),
                "sample": str(sample[at]),
                "contig": columns["contig"][at].decode(errors="replace"),
                "score": scores[at],
            }
