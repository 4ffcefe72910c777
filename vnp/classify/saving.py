"""Keeping scores in the store: gathered in a file beside it, then taken in under the lock.

Scoring may take hours, so the appender's lock is held only at the end. Rows never move, so scores
of a snapshot stay right whatever is appended meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import numpy as np

from store.schema import Scores as KeptScores
from store.store import Store
from vnp.classify.features import Scores
from vnp.classify.predict import Sink


@contextmanager
def saving(store: Store, digest: str, name: str | None, *, replace: bool) -> Iterator[Sink | None]:
    """Yield what takes the scores to be kept under ``name``; they are kept if the body succeeds.

    Raises
    ------
    UsageError
        At once if the name is not legal, taken, or the store cannot keep scores.
    BusyError
        At the end, if an appender is at work.
    """
    if name is None:
        yield None
        return
    KeptScores(name, 0, digest, "")  # a name that is not legal is told before hours of work
    known = next((scores for scores in store.schema.scores if scores.name == name), None)
    clashes = known is not None and known.digest != digest and not replace
    nothing = np.empty((0, 2), np.float32)
    if clashes:
        store.save_scores(name, digest=digest, values=nothing, rows=())  # says why it cannot be
    path = store.sidecar.make().tmp / f"scores-{uuid4().hex}"
    ranges: list[tuple[int, int]] = []
    try:
        held = (
            np.memmap(path, dtype=np.float32, mode="w+", shape=(store.n_rows, 2))
            if store.n_rows
            else nothing
        )

        def take(scores: Scores) -> None:
            held[scores.first : scores.first + len(scores)] = scores.values
            ranges.append((scores.first, scores.first + len(scores)))

        yield take
        store.save_scores(name, digest=digest, values=held, rows=ranges, replace=replace)
    finally:
        path.unlink(missing_ok=True)
