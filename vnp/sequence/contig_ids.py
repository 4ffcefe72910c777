"""Names of samples, and contig ids that occur twice.

Ids are remembered as 128-bit hashes, about 20 bytes each in all, so that a sample of many millions
of reads can be checked while it streams by. Two different ids with one hash would be taken for
duplicates; among a billion ids the chance of that is about 1e-21 (n^2 / 2^129).

The hashes of the ids seen last are in a set. When it is full they become a sorted run, and runs of
like size are merged, so there are only a few runs to look into::

    recent {...}   run of 2^18   run of 2^19   run of 2^21 ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from store.errors import UsageError
from store.schema import check_sample_name
from vnp.sequence.compression import STDIN, InputError
from vnp.sequence.fastx import ContigBatch

_RECENT = 1 << 18  # hashes kept in the set, about 25 MB
_HINTS = 1 << 16  # duplicated ids whose last number is remembered
_LONGEST_NAME = 128
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")
_SUFFIX = re.compile(r"(\.(fa|fas|fna|ffn|fasta|fq|fastq))?(\.(gz|bgz|zst|bz2))?", re.IGNORECASE)


class Duplicates(StrEnum):
    """What to do about a contig id that its sample has already."""

    REFUSE = "refuse"
    NUMBER = "number"


def sample_name_of(path: str | Path) -> str:
    """Sample name for a file: its name less the suffixes, what is illegal replaced by ``_``.

    Raises
    ------
    UsageError
        If nothing legal is left, or the input is standard input.
    """
    if str(path) == STDIN:
        raise UsageError("standard input has no name: give the sample one with --sample")
    name = Path(path).name
    # The shortest stem that leaves nothing but suffixes behind it.
    stem = next(name[:at] for at in range(len(name) + 1) if _SUFFIX.fullmatch(name[at:]))
    stem = _ILLEGAL.sub("_", stem).lstrip(".-")[:_LONGEST_NAME]
    if not stem.strip("_"):
        raise UsageError(
            f"no sample name can be made of the file name {name!r}: give one with --sample"
        )
    check_sample_name(stem)
    return stem


@dataclass(frozen=True, slots=True)
class _Run:
    """Hashes in ascending order of their high halves."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.high)

    def merged(self, other: _Run) -> _Run:
        at = np.searchsorted(self.high, other.high)
        return _Run(np.insert(self.high, at, other.high), np.insert(self.low, at, other.low))

    def contains(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Look up hashes (n,); it is fastest if they ascend."""
        at = np.minimum(np.searchsorted(self.high, high), len(self.high) - 1)
        half = self.high[at] == high
        found: NDArray[np.bool_] = half & (self.low[at] == low)
        for index in np.flatnonzero(half & ~found):
            # Next to impossible, but allowed: hashes that share a high half.
            end = np.searchsorted(self.high, high[index], side="right")
            found[index] = (self.low[at[index] : end] == low[index]).any()
        return found


class _Filter:
    """A bit for each value that the first bits of a hash can have: most new ids end here.

    A look-up costs one memory access instead of the twenty of a binary search, in each run.
    """

    _BITS_PER_HASH = 16  # of those that fit; so at most one new id in 16 is looked up in vain

    def __init__(self, capacity: int) -> None:
        width = max(16, (capacity * self._BITS_PER_HASH - 1).bit_length())
        self.capacity = (1 << width) // self._BITS_PER_HASH
        self._shift = np.uint64(64 - width)
        self._bits = np.zeros(1 << (width - 3), np.uint8)

    def add(self, high: NDArray[np.uint64]) -> None:
        byte, bit = self._place(high)
        np.bitwise_or.at(self._bits, byte, bit)

    def may_hold(self, high: NDArray[np.uint64]) -> NDArray[np.bool_]:
        byte, bit = self._place(high)
        hit: NDArray[np.bool_] = (self._bits[byte] & bit) > 0
        return hit

    def _place(self, high: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        slot = (high >> self._shift).astype(np.int64)
        return slot >> 3, np.left_shift(1, slot & 7).astype(np.uint8)


class UniqueIds:
    """The contig ids of one sample, in the order in which they come.

    With ``Duplicates.NUMBER`` an id that is taken gets the first of ``id_2``, ``id_3``, ... that is
    free, whether the id before was given by the file or here. So the outcome follows from the
    order of the ids alone, and an ``id_2`` that comes later in the file is itself numbered.

    Parameters
    ----------
    duplicates
        What to do about an id that is taken.
    source
        The input as messages show it.
    recent
        How many hashes to keep in the set; for tests.

    Attributes
    ----------
    renamed : int
        How many ids were numbered so far.
    """

    def __init__(
        self,
        duplicates: Duplicates = Duplicates.REFUSE,
        *,
        source: str = "input",
        recent: int = _RECENT,
    ) -> None:
        self.renamed = 0
        self._source = source
        self._duplicates = Duplicates(duplicates)
        self._limit = recent
        self._recent: set[bytes] = set()
        self._runs: list[_Run] = []
        self._filter = _Filter(0)  # of all runs
        self._next_number: dict[bytes, int] = {}

    def __enter__(self) -> UniqueIds:
        return self

    def __exit__(self, *exc: object) -> None:
        """Let go of the memory."""
        self._recent = set()
        self._runs = []
        self._filter = _Filter(0)

    def batches(self, contigs: Iterable[ContigBatch]) -> Iterator[ContigBatch]:
        """Pass batches on as `check` returns them."""
        for batch in contigs:
            yield self.check(batch)
            del batch  # or a long contig lives on while the next one is read

    def check(self, batch: ContigBatch) -> ContigBatch:
        """Return the batch that comes next in the file, with ids that are unique.

        Raises
        ------
        InputError
            At the first duplicate, if they are refused.
        """
        return replace(batch, ids=self.admit(batch.ids, first=batch.first))

    def admit(self, ids: list[bytes], *, first: int) -> list[bytes]:
        """Take note of ids and return them, numbered where they must be.

        Parameters
        ----------
        ids
            The ids that come next.
        first
            1-based number of the first one's record, for the message.

        Raises
        ------
        InputError
            At the first duplicate, if they are refused.
        """
        hashes = list(map(xxhash.xxh3_128_digest, ids))
        old = self._in_runs(hashes)
        fresh = set(hashes)
        if len(fresh) < len(ids) or not self._recent.isdisjoint(fresh) or old.any():
            ids = self._one_by_one(ids, hashes, old, first)
        else:
            self._recent |= fresh
        if len(self._recent) >= self._limit:
            self._start_run()
        return ids

    def _one_by_one(
        self, ids: list[bytes], hashes: list[bytes], old: NDArray[np.bool_], first: int
    ) -> list[bytes]:
        unique = list(ids)
        in_runs = self._numbers_in_runs(ids, hashes, old)
        for index, (contig_id, digest) in enumerate(zip(ids, hashes, strict=True)):
            if not old[index] and digest not in self._recent:
                self._recent.add(digest)
                continue
            if self._duplicates is Duplicates.REFUSE:
                raise InputError(
                    self._source,
                    f"the id {contig_id.decode()!r} occurred before in this sample; rename one "
                    "of them, or have them numbered with --duplicates number",
                    record=first + index,
                )
            number = self._next_number.get(digest, 2)
            while True:
                candidate = b"%b_%d" % (contig_id, number)
                number += 1
                taken = xxhash.xxh3_128_digest(candidate)
                if taken in self._recent:
                    continue
                if taken not in in_runs:
                    in_runs[taken] = bool(self._in_runs([taken])[0])
                if not in_runs[taken]:
                    break
            self._recent.add(taken)
            self._remember(digest, number)
            unique[index] = candidate
            self.renamed += 1
        return unique

    def _remember(self, digest: bytes, number: int) -> None:
        """Note where to go on counting; only a hint, so it may be forgotten."""
        if len(self._next_number) >= _HINTS:
            self._next_number.clear()
        self._next_number[digest] = number

    def _numbers_in_runs(
        self, ids: list[bytes], hashes: list[bytes], old: NDArray[np.bool_]
    ) -> dict[bytes, bool]:
        """Look up the numbered ids that are likely to be tried, all at once."""
        if self._duplicates is Duplicates.REFUSE or not self._runs:
            return {}
        tried = []
        seen: set[bytes] = set()
        for contig_id, digest, is_old in zip(ids, hashes, old.tolist(), strict=True):
            if is_old or digest in self._recent or digest in seen:
                number = self._next_number.get(digest, 2)
                tried.append(xxhash.xxh3_128_digest(b"%b_%d" % (contig_id, number)))
            seen.add(digest)
        return dict(zip(tried, self._in_runs(tried).tolist(), strict=True))

    def _in_runs(self, hashes: list[bytes]) -> NDArray[np.bool_]:
        found = np.zeros(len(hashes), bool)
        if self._runs and hashes:
            high, low = _halves(hashes)
            likely = np.flatnonzero(self._filter.may_hold(high))
            likely = likely[np.argsort(high[likely])]
            for run in self._runs:
                found[likely] |= run.contains(high[likely], low[likely])
        return found

    def _start_run(self) -> None:
        high, low = _halves(self._recent)
        order = np.argsort(high)
        run = _Run(high[order], low[order])
        self._recent = set()
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = self._runs.pop().merged(run)
        self._runs.append(run)
        size = sum(map(len, self._runs))
        if size > self._filter.capacity:
            self._filter = _Filter(2 * size)
            for run in self._runs:
                self._filter.add(run.high)
        else:
            self._filter.add(high)


def _halves(hashes: Iterable[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    both = np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()
