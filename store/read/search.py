"""Exact nearest rows by cosine similarity, block by block, in bounded memory.

Every certified row is compared with every query. A block is read, compared and forgotten; of each
query only the best k rows so far are kept::

    best   k scores, descending --+
    block  R scores --------------+--> the best k of both, equal scores by row number
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store.errors import UsageError
from store.io.optional import available, require
from store.read.indexing import Ints
from store.read.view import View

Engine: TypeAlias = Literal["auto", "numpy", "faiss"]
F32: TypeAlias = NDArray[np.float32]

_QUERIES = 1024  # compared with a block at a time: bounds the table of scores


@dataclass(frozen=True, slots=True)
class Hits:
    """The rows found for each of q queries, best first."""

    rows: Ints  # row numbers, shape (q, k)
    scores: F32  # cosine similarity, -1 to 1, shape (q, k)


def search(view: View, query: ArrayLike, k: int = 10, *, engine: str = "auto") -> Hits:
    """Find the k certified rows most similar to each query, fewer if fewer are certified.

    Parameters
    ----------
    view
        Where to search. In a merged view the numbers of all models count alike, so a model with
        larger numbers has more weight.
    query
        Shape (columns,) or (q, columns), finite. A row or query of zeros has similarity 0.
    engine
        ``"faiss"`` or ``"numpy"`` compare; ``"auto"`` takes faiss if it is installed. Both are
        exact; their scores differ by rounding in float32.

    Raises
    ------
    UsageError
        If the query does not fit the view or is not finite, or k is not positive.
    """
    if engine not in get_args(Engine):
        raise UsageError(f"engine is {engine!r}: use 'auto', 'numpy' or 'faiss'")
    queries = np.atleast_2d(np.asarray(query, dtype=np.float32))
    if queries.ndim != 2 or queries.shape[1] != view.shape[1]:
        raise UsageError(
            f"the query has shape {np.shape(query)}; rows of this view hold {view.shape[1]} numbers"
        )
    if not np.isfinite(queries).all():
        raise UsageError("the query holds NaN or infinity; is its row certified?")
    if k < 1:
        raise UsageError(f"k is {k}: it must be positive")
    faiss = _faiss(engine)
    queries = unit_rows(queries)
    certified = view.certified
    k = min(k, len(certified))
    best = Hits(np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32))
    for start, values in view.batches(reuse=True):
        n = certified.between(start, start + len(values))  # the first ones: batches are blocks
        if not n:
            continue
        block = unit_rows(values[:n].astype(np.float32))
        parts = [
            _best_of_block(queries[first : first + _QUERIES], block, min(k, len(block)), faiss)
            for first in range(0, len(queries), _QUERIES)
        ]
        index, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
        best = _merge(best, Hits(index + start, scores), k)
    return best


def unit_rows(values: F32) -> F32:
    """Scale rows to length 1; a row of zeros stays as it is. Shape (n, d) to (n, d)."""
    # Dividing by the largest number first keeps the squares of float16's range within float32.
    largest: F32 = np.abs(values).max(axis=1, keepdims=True, initial=0)
    largest[largest == 0] = 1
    scaled: F32 = values / largest
    norms: F32 = np.linalg.norm(scaled, axis=1, keepdims=True)
    norms[norms == 0] = 1
    scaled /= norms
    return scaled


def _faiss(engine: str) -> Any:
    """Return the module faiss, or None for plain NumPy."""
    if engine == "numpy":
        return None
    if engine == "faiss":
        return require("faiss", for_what="search with engine='faiss'")
    return available("faiss", for_what="search by faiss")


def _best_of_block(queries: F32, block: F32, k: int, faiss: Any) -> tuple[Ints, F32]:
    """Index in the block and score of the best k rows of each query, both (q, k), best first."""
    if faiss is not None:
        scores, index = faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)
        return index, scores
    table = queries @ block.T  # (q, rows)
    if k < table.shape[1]:
        # argpartition alone chooses arbitrarily among rows that score like the k-th best.
        least = np.partition(table, -k, axis=1)[:, -k]
        if (np.count_nonzero(table >= least[:, None], axis=1) == k).all():
            index = np.argpartition(table, -k, axis=1)[:, -k:]
        else:
            index = np.argsort(-table, axis=1, kind="stable")[:, :k]
    else:
        index = np.broadcast_to(np.arange(k), table.shape)
    return index, np.take_along_axis(table, index, axis=1)


def _merge(best: Hits, found: Hits, k: int) -> Hits:
    """Keep the k best of both; rows of equal score in the order of their numbers."""
    rows = np.concatenate([best.rows, found.rows], axis=1)
    scores = np.concatenate([best.scores, found.scores], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return Hits(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))
