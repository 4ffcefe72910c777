"""The first of many in an order, without sorting them: they come part by part, and most are left.

The order is that of several keys, of which the first that differs decides; equal ones keep the
order in which they come. As soon as there are enough, the last of these is the bar: of a part only
what comes before it is kept, for which most often one look at the first key is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Key: TypeAlias = Callable[[Ints], NDArray[Any]]  # of things by their numbers: what to sort by


class First:
    """The first ``most`` of what is added.

    Parameters
    ----------
    keys
        What to sort by, ascending; not NaN.
    """

    def __init__(self, keys: Sequence[Key], most: int) -> None:
        self._keys = keys
        self._most = most
        self._kept: list[Ints] = []
        self._held = 0
        self._bar: list[Any] = []  # keys of the last one that can be among the first

    def add(self, found: Ints) -> None:
        """Add some, whose numbers are ascending and above all before."""
        if self._bar:
            found = self._before_bar(found)
        self._kept.append(found)
        self._held += len(found)
        if self._held > 2 * self._most:
            self._prune()

    def page(self, start: int) -> Ints:
        """All from a place of the order on, sorted."""
        kept = self._prune()
        if start:
            before, _ = _first(kept, self._keys, start)
            kept = kept[~before]
        return _sorted(kept, self._keys)

    def _before_bar(self, found: Ints) -> Ints:
        before, tied = [found[:0]], found
        for key, bar in zip(self._keys, self._bar, strict=True):
            values = key(tied)
            near = np.flatnonzero(values <= bar)
            if not len(near):
                break
            tied, less = tied[near], values[near] < bar
            before.append(tied[less])
            tied = tied[~less]
        return np.sort(np.concatenate(before))

    def _prune(self) -> Ints:
        kept = np.concatenate([*self._kept, np.empty(0, np.int64)])
        if len(kept) > self._most:
            first, self._bar = _first(kept, self._keys, self._most)
            kept = kept[first]
        self._kept, self._held = [kept], len(kept)
        return kept


def _first(found: Ints, keys: Sequence[Key], most: int) -> tuple[Mask, list[Any]]:
    """Which of some are the first ``most``, of which there is one at least; keys of the last."""
    first = np.zeros(len(found), dtype=bool)
    most = min(most, len(found))
    bar: list[Any] = []
    if not most:
        return first, bar
    tied = np.arange(len(found))
    for key in keys:
        values = key(found[tied])
        last = np.partition(values, most - 1)[most - 1]
        bar.append(last)
        before = values < last
        first[tied[before]] = True
        most -= int(np.count_nonzero(before))
        tied = tied[values == last]
    first[tied[:most]] = True
    return first, bar


def _sorted(found: Ints, keys: Sequence[Key]) -> Ints:
    """All of some in order; later keys are read only where earlier ones are equal."""
    group = np.zeros(len(found), np.int64)  # equal so far
    for key in keys:
        values = key(found)
        order = np.lexsort([values, group])
        found, group, values = found[order], group[order], values[order]
        new = (group[1:] != group[:-1]) | (values[1:] != values[:-1])
        if new.all():
            break
        group = np.concatenate([[0], np.cumsum(new)])
    return found
