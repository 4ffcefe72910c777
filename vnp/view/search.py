"""The records most similar to one, by the store's own search, which can be given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from store.read.columns import sample_names, take_column, take_scores
from store.read.search import search
from store.read.view import Rows, View
from store.store import Store

MOST = 20  # records that are shown


class Cancelled(Exception):  # noqa: N818 - it is not an error
    """Nobody waits for the answer any more."""


class _Stoppable(View):
    """A view whose blocks are read until someone says to stop."""

    def __init__(self, store: Store, stop: threading.Event) -> None:
        super().__init__(store)
        self._stop = stop

    def batches(
        self, start: int = 0, stop: int | None = None, *, reuse: bool = False
    ) -> Iterator[tuple[int, Rows]]:
        for batch in super().batches(start, stop, reuse=reuse):
            if self._stop.is_set():
                raise Cancelled
            yield batch


def neighbours(
    store: Store, row: int, *, scores: str | None, stop: threading.Event
) -> list[dict[str, Any]] | None:
    """Most similar certified rows by all models side by side, the best first; without the row.

    None if the row is not certified. Every certified row is read; `Cancelled` once ``stop`` is set.
    """
    view = _Stoppable(store, stop)
    if not view.certified.holds(np.array([row]))[0]:
        return None
    hits = search(view, view[row], MOST + 1)
    others = hits.rows[0] != row
    rows, similarity = hits.rows[0][others][:MOST], hits.scores[0][others][:MOST]
    columns = {name: take_column(store, name, rows) for name in ("id", "contig")}
    sample = sample_names(store, np.asarray(take_column(store, "sample", rows)))
    score = take_scores(store, scores, rows)[:, 1] if scores else np.full(len(rows), np.nan)
    return [
        {
            "row": int(rows[at]),
            "id": columns["id"][at].decode(errors="replace"),
            "sample": str(sample[at]),
            "contig": columns["contig"][at].decode(errors="replace"),
            "similarity": round(float(similarity[at]), 4),
            "score": None if np.isnan(score[at]) else round(float(score[at]), 4),
        }
        for at in range(len(rows))
    ]
