"""The overview and the map of a store that changes: read piece by piece, put together when asked.

What is cheap is read at every look; certificates, of which there may be thousands, as often as
that takes a tenth of the time; distributions when samples come; calls from the pass that indexes
contigs; the map when it is asked for.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.read.columns import take_scores
from store.store import Store
from vnp.classify.calls import VIRAL
from vnp.report.calls import ScoreSource, Tally
from vnp.report.collect import (
    assembled,
    distributions_of,
    edges_of,
    groups_of,
)
from vnp.report.data import Distributions, Work
from vnp.report.overview import Json, overview
from vnp.report.projection import choose_rows
from vnp.report.throughput import Environments, read_work
from vnp.view.contigs import ContigTable
from vnp.view.drawing import draw
from vnp.view.index import Known, known_by

_SHARE = 9  # times what reading certificates took is waited for before they are read again

# Parts of the overview that may change while a page is open.
_CHANGING = (
    "store", "total", "samples", "n_samples", "rest", "classifier", "scores", "distributions",
    "models", "marks", "work",
)  # fmt: skip


class Picture:
    """What the overview says of a store, as far as it has been read.

    Parameters
    ----------
    store
        The store, at the commit to begin with.
    title
        Headline; None: the store's name.
    """

    def __init__(self, store: Store, *, title: str | None) -> None:
        self._title = title
        self._lock = threading.Lock()  # of what was read together
        self._store = store
        self._known = known_by(store.schema)
        self._filled = filled_of(store)
        self._scored = False
        self._forget()

    def _forget(self) -> None:
        """Begin anew with a store."""
        self._work = Work(0, 0, (), 0, None)
        self._work_of: tuple[int, ...] = ()  # filled rows when certificates were read
        self._work_again = 0.0
        self._environments: dict[str, Environments] = {}
        self._distributions: Distributions | None = None
        self._distributions_of = -1  # rows that there were
        self._called: tuple[ScoreSource, Tally, int, Known] | None = None

    def look(self, store: Store, filled: dict[str, NDArray[np.int64]]) -> None:
        """Take what a look at the store found; of another in its place, nothing is known yet."""
        known = known_by(store.schema)
        with self._lock:
            if not self._known.goes_on_in(store.schema):
                self._forget()
            self._store, self._filled, self._known = store, filled, known

    def read(self, store: Store, filled: dict[str, NDArray[np.int64]]) -> bool:
        """Read what is due of the rest; return whether anything was."""
        something = False
        done = tuple(int(rows.sum()) for rows in filled.values())
        began = time.monotonic()
        if done != self._work_of and began >= self._work_again:
            work, environments = read_work(store, filled)
            with self._lock:
                self._work, self._environments, self._work_of = work, environments, done
            something = True
            now = time.monotonic()
            self._work_again = now + _SHARE * (now - began)
        if self._distributions_of != store.n_rows:
            distributions = distributions_of(store)
            with self._lock:
                self._distributions, self._distributions_of = distributions, store.n_rows
            something = True
        return something

    def calling(self, *, scores: bool) -> None:
        """Note whether there are scores, of which `called` will tell."""
        self._scored = scores

    def called(self, store: Store, scores: ScoreSource | None, tally: Tally, records: int) -> None:
        """Take the calls of all contigs of a commit; ``records`` have a score."""
        called = None if scores is None else (scores, tally.copy(), records, known_by(store.schema))
        with self._lock:
            self._called = called

    def overview(self) -> Json:
        """``overview()`` of a page's source."""
        with self._lock:
            store, filled, work, environments = (
                self._store, self._filled, self._work, self._environments,
            )  # fmt: skip
            distributions, called = self._distributions, self._called
        counts, calls = None, None
        if called is not None and called[3].goes_on_in(store.schema):
            scores, tally, records, _ = called
            group, groups = groups_of(store)
            counts = tally.counts(len(group))
            calls = tally.calls(scores, records, group=group, groups=groups)
        data = assembled(
            store,
            title=self._title,
            filled=filled,
            work=work,
            environments=environments,
            distributions=distributions,
            counts=counts,
            calls=calls,
        )
        found = overview(data, live=True)
        if found["scores"] is None and self._scored and store.n_rows:
            found["scores"] = {"low": 0.0, "width": 1.0, "threshold": VIRAL, "groups": []}
        return found

    def changing(self) -> dict[str, Any]:
        """Those parts of the overview that change."""
        found = self.overview()
        return {name: found[name] for name in _CHANGING}


def draw_map(
    store: Store, table: ContigTable, *, scores: str | None, umap: bool, stop: threading.Event
) -> Json | None:
    """``map()`` of a page's source: reads some rows of the embeddings, wherever they lie.

    ``table`` has all contigs of the store, ``scores`` is the name of those that colour it;
    `Cancelled` once ``stop`` is set.
    """
    if not store.schema.models or not store.n_rows:
        return None
    rows = choose_rows(store.merged().certified, edges_of(store))
    if not len(rows):
        return None
    bases = table.bases[np.searchsorted(table.first, rows, side="right") - 1]
    score = None if scores is None else take_scores(store, scores, rows)[:, 1].astype(np.float64)
    return draw(store, rows, bases=bases, score=score, umap=umap, stop=stop)


def filled_of(store: Store) -> dict[str, NDArray[np.int64]]:
    """Filled rows of every block, by model."""
    return {model.name: store.rows_filled(model.name) for model in store.schema.models}
