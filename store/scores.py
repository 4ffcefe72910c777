"""Scores of rows, kept in a store as two obs columns per name: the rules of every backend.

The schema says which scores there are and how many rows they cover; later rows have none. A name
belongs to the classifier that made it: another one may replace all of its scores, never mix
its own with them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from store.backend import Backend, Transaction
from store.errors import UsageError
from store.io.clock import utc_now
from store.io.words import not_held
from store.layout import all_columns, score_columns
from store.schema import Schema, Scores


def save_scores(
    transaction: Transaction,
    schema: Schema,
    *,
    name: str,
    digest: str,
    values: NDArray[np.float32],
    rows: Iterable[tuple[int, int]],
    replace: bool,
) -> None:
    """Commit scores under a name; see `store.store.Store.save_scores`."""
    known = next((scores for scores in schema.scores if scores.name == name), None)
    kept = known.rows if known is not None else 0
    if known is not None and known.digest != digest:
        if not replace:
            raise UsageError(
                f"the store holds scores {name} of another classifier ({known.digest[:19]}..., "
                f"made {known.made}): choose another name, or replace them (--replace)"
            )
        kept = 0
    ranges = _joined(rows)
    covered = max([kept, *(stop for _, stop in ranges)])
    after = schema.with_scores(Scores(name, covered, digest, utc_now()))
    if known is None:
        taken = {column.path for column in all_columns(schema)}
        for column in score_columns(after, name):
            if column.path in taken:
                raise UsageError(f"{column.path} is a column of the store: choose another name")
    transaction.write_scores(name, values, ranges, kept=kept)
    transaction.commit(after)


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that touch: there are ten thousand samples, whose rows lie side by side."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(each for each in ranges if each[0] < each[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], stop)
        else:
            joined.append((start, stop))
    return joined


def read_scores(backend: Backend, name: str, start: int, stop: int | None) -> NDArray[np.float32]:
    """Read scores of rows; see `store.store.Store.scores`."""
    known = [scores.name for scores in backend.schema.scores]
    if name not in known:
        raise UsageError(not_held("scores", name, known))
    rows = backend.schema.n_rows
    stop = rows if stop is None else min(stop, rows)
    return backend.read_scores(name, start, max(stop, start))
