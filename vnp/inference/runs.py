"""Records of several runs, end to end, and the batches that take them: bookkeeping, no device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vnp.models.packing import Batch
from vnp.models.tokens import Tokens

Run = TypeVar("Run")


@dataclass(slots=True)
class Part(Generic[Run]):
    """The records of one run in a batch."""

    run: Run | None  # None: its rows go nowhere
    rows: NDArray[np.int64]  # of the run
    at: NDArray[np.int64] | slice  # places in the batch


@dataclass(frozen=True, slots=True)
class Records(Generic[Run]):
    """Records of some runs, end to end."""

    tokens: Tokens
    runs: tuple[Run, ...]
    run_of: NDArray[np.int64]  # (n,) numbers into ``runs``
    row_of: NDArray[np.int64]  # (n,) rows of that run

    @classmethod
    def of(cls, run: Run, tokens: Tokens) -> Records[Run]:
        """All records of a run."""
        count = len(tokens)
        return cls(tokens, (run,), np.zeros(count, dtype=np.int64), np.arange(count))

    @classmethod
    def none(cls) -> Records[Run]:
        """No record of no run."""
        empty = np.empty(0, dtype=np.int64)
        return cls(Tokens(np.empty(0, dtype=np.int32), empty), (), empty, empty)

    def __len__(self) -> int:
        return len(self.run_of)

    def followed_by(self, more: Records[Run]) -> Records[Run]:
        """These records and then others."""
        if not len(self):
            return more
        return Records(
            Tokens(
                np.concatenate([self.tokens.ids, more.tokens.ids]),
                np.concatenate([self.tokens.lengths, more.tokens.lengths]),
            ),
            self.runs + more.runs,
            np.concatenate([self.run_of, more.run_of + len(self.runs)]),
            np.concatenate([self.row_of, more.row_of]),
        )

    def some(self, records: NDArray[np.int64]) -> Records[Run]:
        """Some of the records, and the runs that they are of."""
        run_of = self.run_of[records]
        numbers = _present(run_of)
        place = np.zeros(len(self.runs), dtype=np.int64)
        place[numbers] = np.arange(len(numbers))
        return Records(
            Tokens(self.tokens.collect(records), self.tokens.lengths[records]),
            tuple(self.runs[number] for number in numbers.tolist()),
            place[run_of],
            self.row_of[records],
        )

    def without(self, run: Run) -> Records[Run]:
        """The records of other runs."""
        mine = np.array([each is run for each in self.runs], dtype=bool)
        return self.some(np.flatnonzero(~mine[self.run_of]))

    def parts(self, records: NDArray[np.int64]) -> list[Part[Run]]:
        """Some of the records, by their runs."""
        run_of, row_of = self.run_of[records], self.row_of[records]
        if len(self.runs) == 1:
            return [Part(self.runs[0], row_of, slice(None))]
        found = []
        for number in _present(run_of).tolist():
            at = np.flatnonzero(run_of == number)
            found.append(Part(self.runs[number], row_of[at], at))
        return found


def _present(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which small numbers occur, in order; as ``np.unique``, which imports masked arrays first."""
    return np.flatnonzero(np.bincount(numbers))


def left_by(batches: list[Batch], count: int) -> NDArray[np.int64]:
    """Of so many records those that no batch has."""
    left = np.ones(count, dtype=bool)
    for batch in batches:
        left[batch.records] = False
    return np.flatnonzero(left)
