"""Exact nearest rows by cosine similarity, block by block, in bounded memory.

Every certified row is compared with every query. A block is read, compared and forgotten, several
at a time; of each query only the best k rows so far are kept::

    best   k scores, descending --+
    block  R scores --------------+--> the best k of both, equal scores by row number

A few queries need no copy of a block: pieces that stay in the processor's cache are made float32,
and the sums of their products and squares say how similar each row is.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import gcd
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store.errors import UsageError
from store.io.concurrent import in_order, processors
from store.io.optional import available, require
from store.read.indexing import Ints
from store.read.view import Rows, View

Engine: TypeAlias = Literal["auto", "numpy", "faiss"]
F32: TypeAlias = NDArray[np.float32]

_QUERIES = 1024  # compared with a block at a time: bounds the table of scores
_ONE_BY_ONE = 8  # queries that are compared one by one; of more a product of matrices is faster
_PIECE = 1 << 17  # numbers of a block that are made float32 at a time: half a megabyte
_THREADS = 8  # at most
_SIGN_AND_NUMBER = np.int32(-0x7000_0001)  # all bits but three below the first


@dataclass(frozen=True, slots=True)
class Hits:
    """The rows found for each of q queries, best first."""

    rows: Ints  # row numbers, shape (q, k)
    scores: F32  # cosine similarity, -1 to 1, shape (q, k)


@dataclass(frozen=True, slots=True)
class Compared:
    """A search that is under way."""

    hits: Hits  # the best of the rows that have been compared
    done: int  # certified rows that have been compared
    of: int  # that there are


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
        ``"faiss"`` or ``"numpy"`` compare; ``"auto"`` takes faiss for more than eight queries if
        it is installed. Both are exact; their scores differ by rounding in float32.

    Raises
    ------
    UsageError
        If the query does not fit the view or is not finite, or k is not positive.
    """
    for compared in searching(view, query, k, engine=engine):
        hits = compared.hits
    return hits


def searching(
    view: View, query: ArrayLike, k: int = 10, *, engine: str = "auto", scattered: bool = False
) -> Generator[Compared]:
    """Search as `search` does, and yield what has been found before and after each block.

    Closing the iterator ends the search within a block. With ``scattered`` blocks from all over
    the view take turns, so that what is found early is of all its parts.
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
    few = len(queries) <= _ONE_BY_ONE
    faiss = None if few and engine == "auto" else _faiss(engine)
    return _searching(view, unit_rows(queries), k, faiss=faiss, scattered=scattered)


def _searching(
    view: View, queries: F32, k: int, *, faiss: Any, scattered: bool
) -> Generator[Compared]:
    filled = view.filled_of_blocks
    done, of = 0, int(filled.sum())
    k = min(k, of)
    many = faiss is not None or len(queries) > _ONE_BY_ONE  # these use all processors themselves
    best = Hits(np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32))

    def compare(block: int) -> tuple[int, Hits]:
        parts = view.block(block)
        count = len(parts[0])
        if not count:
            return 0, Hits(best.rows[:, :0], best.scores[:, :0])
        rows = unit_rows(np.concatenate(list(map(widened, parts)), axis=1)) if many else None
        table = [
            _best_of_block(queries[first : first + _QUERIES], parts, rows, min(k, count), faiss)
            for first in range(0, len(queries), _QUERIES)
        ]
        index, scores = (np.concatenate(part) for part in zip(*table, strict=True))
        return count, Hits(index + block * view.block_rows, scores)

    blocks = _scattered(len(filled)) if scattered else range(len(filled))
    results = in_order(
        compare, blocks, threads=1 if many else None, most=_THREADS, parallel=processors()
    )
    yield Compared(best, 0, of)
    try:
        for count, found in results:
            if count:
                best, done = _merge(best, found, k), done + count
                yield Compared(best, done, of)
    finally:
        results.close()


def _scattered(count: int) -> list[int]:
    """All numbers below a count, each far from those before it."""
    step = max(1, round(count * 0.618))
    while gcd(step, count) != 1:
        step += 1
    return [number * step % count for number in range(count)]


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


def _best_of_block(
    queries: F32, parts: list[Rows], rows: F32 | None, k: int, faiss: Any
) -> tuple[Ints, F32]:
    """Index in the block and score of the best k rows of each query, both (q, k), best first.

    ``rows`` are the parts joined and scaled to length 1, which faiss and many queries take.
    """
    if faiss is not None:
        scores, index = faiss.knn(queries, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
        return index, scores
    table = _similarities(queries, parts) if rows is None else queries @ rows.T
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


def _similarities(queries: F32, parts: list[Rows]) -> F32:
    """Similarity of unit queries (q, d) to rows, whose columns are in parts side by side: (q, n).

    Squares of float16 neither overflow nor vanish in float32.
    """
    count = len(parts[0])
    table = np.zeros((len(queries), count), np.float32)
    squares = np.zeros(count, np.float32)
    column = 0
    for part in parts:
        here = queries[:, column : column + part.shape[1]]
        column += part.shape[1]
        step = max(1, _PIECE // part.shape[1])
        for first in range(0, count, step):
            piece = slice(first, first + step)
            values = widened(part[piece])
            squares[piece] += np.vecdot(values, values)
            for number, query in enumerate(here):
                table[number, piece] += np.vecdot(values, query)
    squares[squares == 0] = 1
    table /= np.sqrt(squares)
    return table


def widened(values: Rows) -> F32:
    """Finite float16 numbers as float32, exactly, in a fifth of the time that ``astype`` takes.

    The bits of a float16 are moved to where a float32 has them, with all copies of the sign but
    the first cleared; exponents then lack the difference of the two biases, 112.
    """
    bits = values.view("<i2").astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_NUMBER
    numbers = bits.view(np.float32)
    numbers *= np.float32(2.0**112)
    return numbers


def _merge(best: Hits, found: Hits, k: int) -> Hits:
    """Keep the k best of both; rows of equal score in the order of their numbers."""
    rows = np.concatenate([best.rows, found.rows], axis=1)
    scores = np.concatenate([best.scores, found.scores], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return Hits(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))
