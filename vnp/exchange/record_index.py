"""Where records lie in a store, by id and, where an id is in several samples, by sample.

Ids of a large store do not fit into memory as texts. An index holds 128 bits of a hash of each,
24 bytes a row with the row's number, sorted; two ids with one hash do not occur. Of a few ids that
are known beforehand it holds only what could be meant by them.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.errors import UsageError
from store.io.ragged import Ragged
from store.schema import COLUMN_CHUNK_ROWS, Sample
from store.store import Store

Ints = NDArray[np.int64]
_BYTES = 56  # a row while all are sorted


@dataclass(frozen=True, slots=True)
class Found:
    """What an index says of some ids."""

    rows: Ints  # (n,): row of each; -1 where no record is called so, or several are
    # Of the latter, by position: the samples that have one, or the two readings of <sample>:<id>.
    several: dict[int, tuple[str, ...]]


class RecordIndex:
    """Rows of a store's samples by record id.

    Parameters
    ----------
    store
        The store; rows that it gets later are not in the index.
    sample
        Only this sample; None for all.
    among
        Only these ids will be looked for; None: any.

    Raises
    ------
    UsageError
        If a sample does not exist, or an index of any id would take more than half of the memory.
    """

    def __init__(
        self, store: Store, sample: str | None = None, *, among: Sequence[str] | None = None
    ) -> None:
        schema = store.schema
        self.samples: Sequence[Sample] = schema.samples
        if sample is not None:
            self.samples = (schema.held_sample(sample),)
        self.where = "the store" if sample is None else f"sample {sample}"
        self.start = self.samples[0].start if self.samples else 0
        self.stop = self.samples[-1].stop if self.samples else 0
        self._starts = [each.start for each in self.samples]
        self._by_name = {each.name: each for each in self.samples}
        if among is None:
            self._require_memory()
            hashes = np.empty((self.stop - self.start, 2), np.uint64)
            for first, ids in self._ids(store):
                hashes[first - self.start :][: len(ids)] = _hashes(ids)
            rows = np.arange(self.start, self.stop)
        else:
            wanted = {reading.encode(errors="surrogateescape") for reading in _readings(among)}
            kept = [
                (row, record)
                for first, ids in self._ids(store)
                for row, record in enumerate(ids, start=first)
                if record in wanted
            ]
            rows = np.array([row for row, _ in kept], np.int64)
            hashes = _hashes([record for _, record in kept])
        order = np.argsort(hashes[:, 0], kind="stable")  # equal ones by row
        self._high, self._low = hashes[order, 0], hashes[order, 1]
        self._rows = rows[order]

    def _ids(self, store: Store) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the ids of a chunk of rows, and its first row."""
        for first in range(self.start, self.stop, COLUMN_CHUNK_ROWS):
            ids = store.column("id", first, min(first + COLUMN_CHUNK_ROWS, self.stop))
            assert isinstance(ids, Ragged)
            yield first, ids.tolist()

    def _require_memory(self) -> None:
        needed = _BYTES * (self.stop - self.start)
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > there / 2:
            raise UsageError(
                f"finding any record of {self.where} by its id takes {needed / 1e9:,.1f} GB, and "
                f"this machine has {there / 1e9:,.1f} GB: name one sample at a time (--sample)"
            )

    def find(self, ids: Sequence[str], samples: Sequence[str] | None = None) -> Found:
        """Look ids up.

        An id may also be written ``<sample>:<id>``, as exports of several samples have it, or with
        the apostrophe that keeps a spreadsheet from running it. If that is also the id of another
        record, and ``samples`` does not tell, it means several.

        Parameters
        ----------
        ids
            Record ids, n of them.
        samples
            The sample of each, if it is known: another sample's record is none.
        """
        rows = np.full(len(ids), -1, np.int64)
        several: dict[int, tuple[str, ...]] = {}
        self._look(list(enumerate(ids)), samples, rows, several)
        other = [
            (at, ids[at][1:])
            for at in np.flatnonzero(rows < 0).tolist()
            if at not in several and ids[at].startswith("'")
        ]
        self._look(other, samples, rows, several)
        qualified: list[tuple[int, str]] = []
        named = [""] * len(ids) if samples is None else list(samples)
        for at, wanted in enumerate(ids):
            sample, colon, record = wanted.partition(":")
            if not colon or sample not in self._by_name or at in several:
                continue
            if samples is None or (samples[at] == sample and rows[at] < 0):
                qualified.append((at, record))
                named[at] = sample
        also = np.full(len(ids), -1, np.int64)
        self._look(qualified, named, also, several)
        for at in np.flatnonzero(also >= 0).tolist():
            if rows[at] >= 0 and rows[at] != also[at]:
                of = self.sample_of(int(rows[at]))
                rest = ids[at].partition(":")[2]
                several[at] = (f"{of} as {ids[at]}", f"{named[at]} as {rest}")
                rows[at] = -1
            else:
                rows[at] = also[at]
        for at in several:
            rows[at] = -1
        return Found(rows, several)

    def _look(
        self,
        wanted: Sequence[tuple[int, str]],
        samples: Sequence[str] | None,
        rows: Ints,
        several: dict[int, tuple[str, ...]],
    ) -> None:
        """Enter what is found of ids, given with their positions."""
        if not wanted or not len(self._high):
            return
        hashes = _hashes([record.encode(errors="surrogateescape") for _, record in wanted])
        left = np.searchsorted(self._high, hashes[:, 0], side="left")
        right = np.searchsorted(self._high, hashes[:, 0], side="right")
        for number in np.flatnonzero(right > left).tolist():
            at = wanted[number][0]
            run = slice(int(left[number]), int(right[number]))
            found = self._rows[run][self._low[run] == hashes[number, 1]]
            if samples is not None:
                sample = self._by_name.get(samples[at])
                if sample is None:
                    continue
                found = found[(found >= sample.start) & (found < sample.stop)]
            if len(found) == 1:
                rows[at] = found[0]
            elif len(found):
                several[at] = tuple(dict.fromkeys(self.sample_of(row) for row in found.tolist()))

    def sample_of(self, row: int) -> str:
        """Name of the sample that a row belongs to."""
        return self.samples[bisect_right(self._starts, row) - 1].name  # empty ones come first


def _readings(ids: Iterable[str]) -> Iterator[str]:
    """All that could be meant by ids, see `RecordIndex.find`."""
    for each in ids:
        yield from (each, each[1:], each.partition(":")[2])


def _hashes(ids: Sequence[bytes]) -> NDArray[np.uint64]:
    """128 bits of each id, shape (n, 2)."""
    digests = b"".join(hashlib.blake2b(item, digest_size=16).digest() for item in ids)
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)
