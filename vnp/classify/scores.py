"""Scores of consecutive rows, and whose they are; nothing here computes one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from store.layout import CONTIG_LENGTH
from store.schema import COLUMN_CHUNK_ROWS
from store.store import Store
from vnp.classify.calls import RecordScores


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of consecutive rows."""

    first: int  # row number of the first
    values: NDArray[np.float32]  # (n, 2): probability of others, of virus; NaN: not scored

    def __len__(self) -> int:
        return len(self.values)


def chunked(start: int, stop: int, chunk: int = COLUMN_CHUNK_ROWS) -> Iterator[tuple[int, int]]:
    """Cut rows ``start .. stop`` at the multiples of ``chunk``."""
    return pairwise(sorted({start, stop, *range((start // chunk + 1) * chunk, stop, chunk)}))


def texts(store: Store, column: str, start: int, stop: int) -> list[bytes]:
    """Read a column of strings."""
    found = store.column(column, start, stop)
    assert isinstance(found, Ragged)
    return found.tolist()


def with_records(store: Store, scores: Scores, *, ids: bool = True) -> RecordScores:
    """Look up whose scores these are; record ids, which only tables need, may be left out."""
    start, stop = scores.first, scores.first + len(scores)

    def numbers(name: str) -> NDArray[Any]:
        return np.asarray(store.column(name, start, stop))

    return RecordScores(
        id=texts(store, "id", start, stop) if ids else [b""] * len(scores),
        contig=texts(store, "contig", start, stop),
        segment=numbers("segment"),
        start=numbers("start"),
        end=numbers("end"),
        scores=scores.values,
        contig_length=numbers(CONTIG_LENGTH) if store.schema.contig_lengths else None,
    )
