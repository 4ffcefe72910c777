"""The contigs of a store as a table in memory: filtered, searched and sorted in one look.

All is done on whole columns: a few milliseconds a million contigs, and nothing is kept between
two questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Key: TypeAlias = Callable[[Ints], NDArray[Any]]  # of contigs by their numbers: what to sort by
Sort: TypeAlias = Literal[
    "evidence", "sample", "contig", "bases", "segments", "records", "viral_segments", "score",
    "viral",
]  # fmt: skip
SORTS: tuple[Sort, ...] = get_args(Sort)

_PART = 1 << 22  # contigs that are filtered and sorted at a time: about 40 bytes each
_TOGETHER = 1 << 16  # contigs whose ids are searched at a time: these stay in the cache
_WORD = 8  # bytes of an id that are compared at a time


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
        ends, starts = self.ends[page], np.where(page > 0, self.ends[page - 1], 0)
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        called = (~np.isnan(self.score[page])).tolist()
        columns = {
            "sample": [self.samples[number] for number in self.sample[page].tolist()],
            "contig": [self.letters[a:b].tobytes().decode(errors="replace") for a, b in spans],
            "bases": self.bases[page].tolist(),
            "segments": self.segments[page].tolist(),
            "records": self.records[page].tolist(),
            "viral_segments": self.viral_segments[page].tolist(),
            "score": np.round(self.score[page], 6).tolist(),
            "viral": self.viral[page].tolist(),
        }
        for name in ("viral_segments", "score", "viral"):
            pairs = zip(columns[name], called, strict=True)
            columns[name] = [value if known else None for value, known in pairs]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def select(self, query: Query) -> tuple[int, Ints]:
        """How many contigs match, and the numbers of those on the page that is asked for."""
        low, high = (0, len(self)) if query.sample is None else self._of_sample(query.sample)
        total, best = 0, np.empty(0, np.int64)
        for first in range(low, high, _PART):
            found = self._matching(query, first, min(first + _PART, high))
            total += len(found)
            best = np.concatenate([best, found])
            if first + _PART < high:  # what is after the page here, is so among all
                best = _page(best, self._keys(query), 0, _stop(query))
        return total, _page(best, self._keys(query), query.offset, _stop(query))

    def find(self, sample: str, contig: str) -> int | None:
        """Number of the contig of an id in a sample."""
        if not contig:
            return None
        low, high = self._of_sample(sample)
        found = np.flatnonzero(self._with_text(contig, low, high, whole=True))
        return low + int(found[0]) if len(found) else None

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
            masks.append(self._with_text(query.text, low, high))
        if not masks:
            return np.arange(low, high)
        return np.flatnonzero(np.logical_and.reduce(masks)) + low

    def _with_text(self, text: str, low: int, high: int, *, whole: bool = False) -> Mask:
        """Which of the contigs ``low .. high`` have a text in their id, or as ``whole`` id."""
        wanted = text.encode(errors="replace")
        mask = np.zeros(high - low, dtype=bool)
        for first in range(low, high, _TOGETHER):
            ends = self.ends[first : min(first + _TOGETHER, high)]
            begin = int(self.ends[first - 1]) if first else 0
            letters = self.letters[begin : ends[-1]]
            edges = np.concatenate([[0], ends - begin])
            at = _positions(letters, wanted, folding=not whole)
            if not len(at):
                continue
            # How many begin before each letter; the last that can begin in an id leaves it room.
            counts = np.zeros(len(letters) + 1, np.int32)
            counts[at + 1] = 1
            np.cumsum(counts, out=counts)
            last = np.maximum(edges[1:] - len(wanted) + 1, edges[:-1])
            if whole:
                last = np.minimum(last, edges[:-1] + 1)
            found = counts[last] > counts[edges[:-1]]
            if whole:
                found &= edges[1:] - edges[:-1] == len(wanted)
            mask[first - low : first - low + len(ends)] = found
        return mask

    def _keys(self, query: Query) -> list[Key]:
        """What contigs are sorted by, ascending: the first of these that differs decides."""
        evidence: list[Key] = [
            lambda found: -self._of(self.evidence, found),
            lambda found: -np.nan_to_num(self._of(self.score, found)),
            lambda found: -self._of(self.bases, found),
        ]
        descending = query.sort == "evidence" if query.descending is None else query.descending
        if query.sort == "evidence":
            return evidence if descending else [partial(_negated, key) for key in evidence]
        return [partial(self._key, query.sort, -1 if descending else 1), *evidence]

    def _key(self, sort: Sort, sign: int, found: Ints) -> NDArray[np.float64]:
        if sort == "sample":
            column = self._sample_ranks[self._of(self.sample, found)]
        elif sort == "contig":
            small = len(self) <= _PART
            column = self._of(self._ranks, found) if small else self._ranked(found)
        else:
            column = self._of(getattr(self, sort), found)
        keys: NDArray[np.float64] = column.astype(np.float64) * sign
        if sort in ("viral_segments", "score", "viral"):  # null comes last either way
            keys[np.isnan(self._of(self.score, found))] = np.inf
        return keys

    def _of(self, column: NDArray[Any], found: Ints) -> NDArray[Any]:
        """Values of contigs; all of a table that is one part are in the order of its columns."""
        return column if len(found) == len(self) <= _PART else column[found]

    @cached_property
    def _sample_ranks(self) -> NDArray[np.int64]:
        """Place of each sample among all by their names."""
        return np.argsort(np.argsort(np.array(self.samples, dtype=object), kind="stable"))

    def prepare(self) -> None:
        """Rank the ids, which the first question that sorts by them would wait for."""
        if len(self) <= _PART:
            _ = self._ranks

    @cached_property
    def _ranks(self) -> NDArray[np.int32]:
        return self._ranked(np.arange(len(self)))

    def _ranked(self, found: Ints) -> NDArray[np.int32]:
        """Place of each of some contigs among these by their ids, as bytes; equal ids share one."""
        ends = self.ends[found]
        starts = np.where(found > 0, self.ends[found - 1], 0)
        lengths = ends - starts
        order = np.arange(len(found))

        def keys(word: int) -> NDArray[np.uint64]:
            """Eight letters of each id, in the order so far; what follows the id counts as 0."""
            at = starts[order] + word * _WORD
            left = np.clip(lengths[order] - word * _WORD, 0, _WORD)
            key = np.zeros(len(order), dtype=np.uint64)
            for letter in range(_WORD):
                inside = letter < left
                key <<= np.uint64(8)
                key[inside] |= self.letters[at[inside] + letter]
            return key

        last = -(-int(lengths.max(initial=0)) // _WORD)
        for word in reversed(range(last)):  # each pass keeps the order of the one before
            order = order[np.argsort(keys(word), kind="stable")]
        new = np.diff(lengths[order], prepend=-1) != 0
        for word in range(last):
            key = keys(word)
            new[1:] |= key[1:] != key[:-1]
        ranks = np.empty(len(found), dtype=np.int32)
        ranks[order] = np.cumsum(new, dtype=np.int32)
        return ranks


def _stop(query: Query) -> int:
    return query.offset + query.limit


def _positions(letters: NDArray[np.uint8], text: bytes, *, folding: bool) -> Ints:
    """Where a text begins in letters."""
    room = len(letters) - len(text) + 1
    if room <= 0:
        return np.empty(0, np.int64)
    at = np.flatnonzero(
        _is(letters[:room], text[0], folding) & _is(letters[len(text) - 1 :], text[-1], folding)
    )
    for offset, letter in enumerate(text[1:-1], start=1):
        if not len(at):
            break
        at = at[_is(letters[at + offset], letter, folding)]
    return at


def _is(letters: NDArray[np.uint8], letter: int, folding: bool) -> Mask:
    """Which letters are one, with ``folding`` in either case."""
    same: Mask = letters == letter
    if folding and (other := ord(chr(letter).swapcase())) != letter and letter < 128:
        same |= letters == other
    return same


def _negated(key: Key, found: Ints) -> NDArray[Any]:
    return -key(found)


def _page(found: Ints, keys: list[Key], start: int, stop: int) -> Ints:
    """Those of some contigs that are at the places ``start .. stop`` in the order of some keys.

    Only what is on the page is sorted, in a time that grows as reading the first key does; equal
    ones stay in the order in which they are given.
    """
    stop = min(stop, len(found))
    if not keys or start >= stop:
        return found[start:stop]
    key = keys[0](found)
    ordered = np.partition(key, (start, stop - 1))
    low, high = ordered[start], ordered[stop - 1]
    before = int(np.count_nonzero(key < low))
    lowest = found[key == low]
    if low == high:
        return _page(lowest, keys[1:], start - before, stop - before)
    between = found[(key > low) & (key < high)]
    between = between[np.lexsort([other(between) for other in keys[::-1]])]
    left = stop - before - len(lowest) - len(between)
    first = _page(lowest, keys[1:], start - before, len(lowest))
    return np.concatenate([first, between, _page(found[key == high], keys[1:], 0, left)])
