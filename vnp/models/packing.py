"""Which records share a batch: a pure plan from lengths and a token budget.

Records are ordered by length and the order is cut into batches. Nothing is padded::

    lengths (as given)   7 5 9 5 7
    order                1 3 | 0 4 | 2          token budget 14
    batch 0              5 5                    one group: 2 records of 5 tokens
    batch 1              7 7                    one group: 2 records of 7 tokens
    batch 2              9

The plan depends on the lengths and the budget alone, so the same block is cut in the same way on
every worker, whatever ran before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring records of one batch that have equal lengths."""

    start: int  # first token of the group in the batch
    count: int  # number of records
    length: int  # tokens of each record


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that run together, in order of length."""

    records: NDArray[np.int64]  # (n,) which records, as numbers into what was planned
    lengths: NDArray[np.int64]  # (n,) tokens of each, never decreasing

    @property
    def tokens(self) -> int:
        """Number of tokens in the batch."""
        return int(self.lengths.sum())

    @property
    def groups(self) -> tuple[Group, ...]:
        """The batch as groups of equal lengths, in order."""
        values, counts = np.unique(self.lengths, return_counts=True)
        ends = np.cumsum(values * counts)
        return tuple(
            Group(start=int(end - length * count), count=int(count), length=int(length))
            for length, count, end in zip(values, counts, ends, strict=True)
        )


def plan(lengths: NDArray[np.integer], *, token_budget: int) -> list[Batch]:
    """Cut records into batches of at most ``token_budget`` tokens, about evenly filled.

    ``lengths`` (n,) are the tokens of each record, special tokens included. A record longer than
    the budget forms a batch of its own. The shortest records come first.
    """
    if token_budget < 1:
        raise ValueError(f"a token budget of {token_budget} holds no token")
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    sorted_lengths = np.asarray(lengths, dtype=np.int64)[order]
    cuts = _cut(sorted_lengths, token_budget)
    # Full batches and a small rest would leave the last one inefficient: aim for equal shares, as
    # long as that takes no more batches.
    if len(cuts) > 1:
        share = -(-int(sorted_lengths.sum()) // len(cuts))
        low, high = min(share, token_budget), token_budget
        while low < high:
            middle = (low + high) // 2
            if len(_cut(sorted_lengths, middle)) <= len(cuts):
                high = middle
            else:
                low = middle + 1
        cuts = _cut(sorted_lengths, high)
    bounds = [0, *cuts]
    return [
        Batch(order[start:stop], sorted_lengths[start:stop])
        for start, stop in zip(bounds, cuts, strict=False)
    ]


def fill(
    lengths: NDArray[np.integer], *, token_budget: int, most_records: int, ahead: int = 0
) -> list[Batch]:
    """Cut records into batches as full as can be, for a device that runs a fixed number of rows.

    Longest first: a batch takes the longest records left, and what room stays goes to the longest
    that fit in it. So a batch has room for none of the records left, unless it has ``most_records``
    already. A record longer than the budget forms a batch of its own. The first ``ahead`` records
    are taken before the others: none of these is in a batch that has room for one of those.
    """
    if token_budget < 1 or most_records < 1:
        raise ValueError(f"{most_records} records of {token_budget} tokens hold nothing")
    counted: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64)
    piles = [_Pile(counted[:ahead], 0), _Pile(counted[ahead:], ahead)]
    piles = [pile for pile in piles if pile.count]
    batches = []
    while piles:
        room, places = token_budget, most_records
        records: list[NDArray[np.int64]] = []
        for pile in piles:
            taken = pile.take(room, places, at_least=0 if records else 1)
            records += taken
            room -= sum(int(counted[some].sum()) for some in taken)
            places -= sum(map(len, taken))
        chosen = np.concatenate(records[::-1])
        if len(piles) > 1:
            chosen = chosen[np.argsort(counted[chosen], kind="stable")]
        batches.append(Batch(chosen, counted[chosen]))
        piles = [pile for pile in piles if pile.count]
    return batches


class _Pile:
    """Records by length, from which the longest that fit are taken."""

    def __init__(self, lengths: NDArray[np.int64], number: int) -> None:
        """Sort records that are numbered from ``number``."""
        self.count = len(lengths)
        self._order = np.argsort(lengths, kind="stable").astype(np.int64) + number
        self._values, self._left = np.unique(lengths, return_counts=True)
        self._first = np.cumsum(self._left) - self._left  # of each length, in the order

    def take(self, room: int, places: int, *, at_least: int) -> list[NDArray[np.int64]]:
        """Take records for so many tokens and places; ``at_least`` so many, whatever the room."""
        taken: list[NDArray[np.int64]] = []
        fits = len(self._values) if at_least else np.searchsorted(self._values, room, side="right")
        while places and len(fitting := np.flatnonzero(self._left[:fits])):
            at = int(fitting[-1])
            length = int(self._values[at])
            wanted = max(room // max(length, 1), 0 if taken else at_least)
            count = min(int(self._left[at]), wanted, places)
            taken.append(self._order[self._first[at] : self._first[at] + count])
            self._first[at] += count
            self._left[at] -= count
            self.count -= count
            room -= count * length
            places -= count
            fits = np.searchsorted(self._values, room, side="right")
        return taken


def padded_rows(tokens: int, *, token_budget: int) -> int:
    """Rows that a batch is padded to: one of sixteen sizes up to the budget.

    A matrix product is computed in one way for one number of rows. With few sizes, nearly every
    batch has the same, and a record's numbers do not depend on how full its batch is.
    """
    step = -(-token_budget // 256) * 16
    return -(-tokens // step) * step


def _cut(lengths: NDArray[np.int64], budget: int) -> list[int]:
    """Fill batches one after the other; returns the end of each."""
    ends = np.cumsum(lengths)
    cuts: list[int] = []
    start, used = 0, 0
    while start < len(lengths):
        stop = int(np.searchsorted(ends, used + budget, side="right"))
        stop = max(stop, start + 1)
        cuts.append(stop)
        start, used = stop, int(ends[stop - 1])
    return cuts
