"""The contigs of a store as a table in memory: filtered, searched and sorted in one look.

All columns are looked through, some ten thousand contigs at a time, and nothing is kept between
two questions; what a question needs beside the columns grows with the place of its page alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vnp.report.overview import rounded
from vnp.view.ids import TOGETHER, WORD, Ids
from vnp.view.order import First, Ints, Key, Mask

Sort: TypeAlias = Literal[
    "evidence", "sample", "contig", "bases", "segments", "records", "viral_segments", "score",
    "viral",
]  # fmt: skip
SORTS: tuple[Sort, ...] = get_args(Sort)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of the table; None and "" ask for nothing."""

    sample: str | None = None
    min_length: int = 0
    min_score: float | None = None
    viral: bool = False  # leave out what is not
    text: str = ""  # found in the id; letters A to Z whatever their case
    sort: Sort = "evidence"
    descending: bool | None = None  # by default of evidence alone
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True)
class ContigTable:
    """Contigs that have records, in the order of rows; all columns of length n."""

    samples: tuple[str, ...]  # names by number
    sample: NDArray[np.int32]  # number of each contig's sample
    first: Ints  # its first row
    records: NDArray[np.int32]
    bases: Ints  # as `vnp.classify.contig_arrays.Contigs` has it
    segments: NDArray[np.int32]
    viral_segments: NDArray[np.int32]
    score: NDArray[np.float64]  # mean score of its called segments; NaN without one
    evidence: NDArray[np.float64]  # summed score of its viral segments
    viral: Mask  # False where not called
    letters: NDArray[np.uint8]  # ids, end to end
    ends: Ints  # where each ends

    def __len__(self) -> int:
        return len(self.first)

    def rows(self, page: Ints) -> list[dict[str, Any]]:
        """Lines of the table, as JSON."""
        called = (~np.isnan(self.score[page])).tolist()
        columns = {
            "sample": [self.samples[number] for number in self.sample[page].tolist()],
            "contig": self.ids.texts(page),
            "bases": self.bases[page].tolist(),
            "segments": self.segments[page].tolist(),
            "records": self.records[page].tolist(),
            "viral_segments": self.viral_segments[page].tolist(),
            "score": rounded(self.score[page]),
            "viral": self.viral[page].tolist(),
        }
        for name in ("viral_segments", "score", "viral"):
            pairs = zip(columns[name], called, strict=True)
            columns[name] = [value if known else None for value, known in pairs]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @cached_property
    def ids(self) -> Ids:
        """Ids of the contigs."""
        return Ids(self.letters, self.ends)

    def select(self, query: Query) -> tuple[int, Ints]:
        """How many contigs match, and the numbers of those on the page that is asked for."""
        low, high = (0, len(self)) if query.sample is None else self._of_sample(query.sample)
        total = 0
        first = First(self._keys(query), min(query.offset + query.limit, len(self)))
        for at in range(low, high, TOGETHER):
            found = self._matching(query, at, min(at + TOGETHER, high))
            total += len(found)
            first.add(found)
        return total, first.page(query.offset)

    def find(self, sample: str, contig: str) -> int | None:
        """Number of the contig of an id in a sample."""
        if not contig:
            return None
        low, high = self._of_sample(sample)
        for at in range(low, high, TOGETHER):
            if len(found := self.ids.equal(contig, at, min(at + TOGETHER, high))):
                return int(found[0])
        return None

    def _of_sample(self, name: str) -> tuple[int, int]:
        """First contig of a sample and one past its last: they lie side by side."""
        if name not in self._numbers:
            return 0, 0
        number = self._numbers[name]
        return (
            int(np.searchsorted(self.sample, number, side="left")),
            int(np.searchsorted(self.sample, number, side="right")),
        )

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.samples)}

    def _matching(self, query: Query, low: int, high: int) -> Ints:
        """Numbers of the contigs ``low .. high`` that match, ascending."""
        part = slice(low, high)
        masks: list[Mask] = []
        if query.min_length > 0:
            masks.append(self.bases[part] >= query.min_length)
        if query.min_score is not None:
            masks.append(self.score[part] >= query.min_score)  # False for NaN
        if query.viral:
            masks.append(self.viral[part])
        if query.text:
            masks.append(self.ids.holding(query.text, low, high))
        if not masks:
            return np.arange(low, high)
        return np.flatnonzero(np.logical_and.reduce(masks)) + low

    def _keys(self, query: Query) -> list[Key]:
        """What contigs are sorted by, ascending: the first of these that differs decides."""
        evidence: list[Key] = [
            lambda found: -self.evidence[found],
            lambda found: -np.nan_to_num(self.score[found]),
            lambda found: -self.bases[found],
        ]
        descending = query.sort == "evidence" if query.descending is None else query.descending
        if query.sort == "evidence":
            return evidence if descending else [partial(_negated, key) for key in evidence]
        return [*self._keys_of(query.sort, descending=descending), *evidence]

    def _keys_of(self, sort: Sort, *, descending: bool) -> list[Key]:
        """Keys of one column of the table."""
        if sort != "contig":
            return [partial(self._key, sort, -1 if descending else 1)]
        words = range(-(-self.ids.longest // WORD))
        keys: list[Key] = [*(partial(self.ids.word, number) for number in words), self.ids.lengths]
        return [partial(_inverted, key) for key in keys] if descending else keys

    def _key(self, sort: Sort, sign: int, found: Ints) -> NDArray[np.float64]:
        if sort == "sample":
            column = self._sample_ranks[self.sample[found]]
        else:
            column = getattr(self, sort)[found]
        keys: NDArray[np.float64] = column.astype(np.float64) * sign
        if sort in ("viral_segments", "score", "viral"):  # null comes last either way
            keys[np.isnan(keys if sort == "score" else self.score[found])] = np.inf
        return keys

    @cached_property
    def _sample_ranks(self) -> NDArray[np.int64]:
        """Place of each sample among all by their names."""
        return np.argsort(np.argsort(np.array(self.samples, dtype=object), kind="stable"))


def _negated(key: Key, found: Ints) -> NDArray[Any]:
    return -key(found)


def _inverted(key: Key, found: Ints) -> NDArray[Any]:
    return ~key(found)  # of whole numbers, also where these have no sign
