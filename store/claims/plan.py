"""Which block to try next: pure planning from a listing of the claims, no I/O.

A claim is a file named ``<block>.<epoch>``, a release another one beside it::

    17.1             block 17 was claimed, epoch 1,
    17.1.released    ... given back,
    17.2             ... and claimed again: the highest epoch, 2, owns the block

An open block (one with unfilled rows) is free when nobody ever claimed it or the highest epoch was
released, stale when the owner of the highest epoch is dead, and held otherwise. Free blocks come
first, then stale ones; held ones are not candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RELEASED = ".released"  # suffix of the marker beside a claim

# 18 digits fit an int64; a longer number, or one that begins with 0, is not one of our claims.
# Quantifiers that never give back what they took (``++``): a fifth of the time.
_PATTERN = r"(?:0|[1-9][0-9]{0,17}+)\.[1-9][0-9]{0,17}+(?:\.released)?+"
_NAME = re.compile(_PATTERN)
_ALL_NAMES = re.compile(rf"(?:{_PATTERN}\n)*+")


def is_claim_name(name: str) -> bool:
    """Whether a claim or its release can have such a name."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class ClaimScan:
    """Highest epoch of each block of a model that was ever claimed; arrays of length k."""

    block: NDArray[np.int64]  # block numbers, ascending, each once
    epoch: NDArray[np.int64]  # highest epoch of the block, 1 or more
    released: NDArray[np.bool_]  # whether that epoch was released

    def find(self, blocks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Index of each block in this scan (arbitrary if absent), and whether the scan has it."""
        at = np.searchsorted(self.block, blocks)
        at = np.minimum(at, max(len(self.block) - 1, 0))
        known = self.block[at] == blocks if len(self.block) else np.zeros(len(blocks), bool)
        return at, known


def read_names(names: Iterable[str]) -> ClaimScan:
    """Build a scan from the names in one model's folder, in any order; others are ignored."""
    names = list(names)
    text = "\n".join([*names, ""])
    if not _ALL_NAMES.fullmatch(text):
        text = "\n".join([*filter(_NAME.fullmatch, names), ""])
    # The whole text becomes numbers at once, "17.1.released" as 17 1 1 and "17.1" as 17 1 0:
    # 50,000 names in 5 ms, a fifth of what a loop over them takes.
    text = text.replace(RELEASED + "\n", " 1 ").replace("\n", " 0 ").replace(".", " ")
    rows = np.fromstring(text, sep=" ", dtype=np.int64).reshape(-1, 3)
    is_marker = rows[:, 2] == 1
    block_all, epoch_all = rows[~is_marker, 0], rows[~is_marker, 1]
    order = np.lexsort((epoch_all, block_all))
    block_all, epoch_all = block_all[order], epoch_all[order]
    last = np.ones(len(block_all), dtype=bool)
    last[:-1] = block_all[1:] != block_all[:-1]
    top = ClaimScan(block_all[last], epoch_all[last], np.zeros(int(last.sum()), dtype=bool))

    block_marked, epoch_marked = rows[is_marker, 0], rows[is_marker, 1]
    at, known = top.find(block_marked)
    at, epoch_marked = at[known], epoch_marked[known]
    top.released[at[top.epoch[at] == epoch_marked]] = True
    return top


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block worth trying."""

    block: int  # block number
    epoch: int  # its highest epoch when the plan was made; 0: never claimed


class ClaimPlan:
    """Candidates in the order in which one worker tries them, and a cursor over them.

    ``takeable`` says of each entry of ``scan``, shape (k,), whether an unreleased claim may be
    taken over because its owner is dead. The order begins at block ``start`` and wraps round:
    workers that begin in different places do not race for the same block.
    """

    def __init__(
        self,
        open_blocks: NDArray[Any],
        *,
        scan: ClaimScan,
        takeable: NDArray[np.bool_],
        start: int = 0,
    ) -> None:
        wanted = as_blocks(open_blocks)
        at, known = scan.find(wanted)
        epoch = np.zeros(len(wanted), dtype=np.int64)
        epoch[known] = scan.epoch[at[known]]
        free = ~known
        free[known] = scan.released[at[known]]
        stale = np.zeros(len(wanted), dtype=bool)
        stale[known] = takeable[at[known]]
        stale &= ~free
        free_first = _from(wanted, free, start)
        order = np.concatenate([free_first, _from(wanted, stale, start)])
        self.n_open = len(wanted)
        self.n_held = len(wanted) - len(order)
        self._block = _small(wanted[order])
        self._epoch = _small(epoch[order])
        self._n_free = len(free_first)
        self._next = 0

    def __len__(self) -> int:
        """Candidates that are left."""
        return len(self._block) - self._next

    def next(self) -> Candidate | None:
        """Return the next candidate and move on; None after the last."""
        if not len(self):
            return None
        i = self._next
        self._next += 1
        return Candidate(block=int(self._block[i]), epoch=int(self._epoch[i]))

    def rotate(self, fraction: float) -> None:
        """Skip ahead by this fraction (0 to 1) of the candidates left of the same kind.

        Skipped ones come later, and free blocks still come before stale ones. For a worker that
        ran into another one's blocks.
        """
        left = self._left()
        self._turn(left, int(fraction * (left.stop - left.start)))

    def some(self, fractions: Iterable[float]) -> dict[int, Candidate]:
        """Candidates left of the same kind at these fractions (0 to 1), by their position."""
        left = self._left()
        at = {left.start + int(each * (left.stop - left.start)) for each in fractions}
        return {i: Candidate(int(self._block[i]), int(self._epoch[i])) for i in sorted(at)}

    def drop(self, positions: Sequence[int], *, go_on_at: int | None) -> None:
        """Drop candidates at positions; the one at ``go_on_at`` and its neighbours come next."""
        left = self._left()
        if go_on_at is not None:
            gone = sum(position < go_on_at for position in positions)
            go_on_at -= gone
        self._n_free -= sum(position < self._n_free for position in positions)
        self._block = np.delete(self._block, positions)
        self._epoch = np.delete(self._epoch, positions)
        if go_on_at is not None:
            left = slice(left.start, left.stop - len(positions))
            self._turn(left, go_on_at - left.start)

    def _left(self) -> slice:
        """Positions of the candidates left of the same kind as the next one."""
        stop = self._n_free if self._next < self._n_free else len(self._block)
        return slice(self._next, stop)

    def _turn(self, left: slice, by: int) -> None:
        self._block[left] = np.roll(self._block[left], -by)
        self._epoch[left] = np.roll(self._epoch[left], -by)


def as_blocks(open_blocks: NDArray[Any]) -> NDArray[np.int64]:
    """Block numbers, ascending, from a mask over all blocks or from block numbers."""
    numbers = np.flatnonzero(open_blocks) if open_blocks.dtype == np.bool_ else open_blocks
    return numbers.astype(np.int64)


def _small(numbers: NDArray[np.int64]) -> NDArray[Any]:
    """The same numbers in as few bytes as they need: a plan is kept for hours."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _from(blocks: NDArray[np.int64], chosen: NDArray[np.bool_], start: int) -> NDArray[np.int64]:
    """Return the indices of the chosen blocks, those at or after ``start`` first."""
    index = np.flatnonzero(chosen)
    first = int(np.searchsorted(blocks[index], start))
    return np.concatenate([index[first:], index[:first]])
