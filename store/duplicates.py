"""Rows with the same sequences: which earlier row each new row repeats.

A row's *duplicate* is the first row of the store with the same nucleotide and protein sequences;
it is embedded once and copied. Rows are the same if the first 128 bits of SHA-256 over both
sequences are; comparing letters would mean decompressing a block for each scattered row.

Of the old digests those that begin like a new one are looked at (`store.digest_index` finds them).
New ones are held sorted, `_SORTED_AT_ONCE` at a time: memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from store.io.digests import Digests, digests_of
from store.io.files import naming
from store.io.ragged import Ragged

# Rows (m,), ascending from call to call, and their digests (m, 2); among them every earlier row
# whose first half is one of those given (ascending, each once).
Earlier: TypeAlias = Callable[
    [NDArray[np.uint64]], Iterable[tuple[NDArray[np.int64], NDArray[np.uint64]]]
]

T = TypeVar("T", bound=np.generic)

NO_DUPLICATE = -1
_SORTED_AT_ONCE = 1 << 23  # new digests held sorted: about 200 MB
_SEPARATOR = b"\0"  # ends the nucleotide sequence, so that no letter can move across


def sequence_digests(nucleotide: Ragged, protein: Ragged) -> Digests:
    """Digests (n, 2) of the sequences of n records."""
    return digests_of(nucleotide, protein, separator=_SEPARATOR)


def distinct(ordered: NDArray[T]) -> NDArray[T]:
    """Values of an ascending array, each once: without the hash table of `numpy.unique`."""
    begins = np.ones(len(ordered), dtype=bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    return ordered[begins]


class DuplicateSearch:
    """Collects the digests of an append, in a file without a name, and finds its duplicates."""

    def __init__(self, folder: Path, *, first_row: int) -> None:
        self._folder = folder
        with naming(folder):
            self._spool = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._first_row = first_row
        self._rows = 0

    def add(self, nucleotide: Ragged, protein: Ragged) -> Digests:
        """Take the next rows and return their digests (n, 2)."""
        digests = sequence_digests(nucleotide, protein)
        with naming(self._folder):
            self._spool.write(digests.tobytes())
        self._rows += len(digests)
        return digests

    @property
    def digests(self) -> Digests:
        """Digests (n, 2) of all rows taken, memory-mapped."""
        if not self._rows:
            return np.empty((0, 2), dtype=np.uint64)
        with naming(self._folder):
            self._spool.flush()
        return np.memmap(self._spool, dtype=np.uint64, mode="r", shape=(self._rows, 2))

    def duplicates(self, old: Earlier) -> NDArray[np.int64]:
        """Duplicates (n,) of all rows taken; for ``old`` see `find_duplicates`."""
        return find_duplicates(self.digests, first_row=self._first_row, old=old)

    def close(self) -> None:
        """Drop the digests; safe to call again."""
        self._spool.close()


def find_duplicates(
    new: Digests,
    *,
    first_row: int,
    old: Earlier,
    sorted_at_once: int = _SORTED_AT_ONCE,
) -> NDArray[np.int64]:
    """First row with the same digest, for each new row: int64 (n,); `NO_DUPLICATE` if it is that.

    ``old`` gives digests of rows before ``first_row``. It is called once per ``sorted_at_once`` new
    rows.
    """
    duplicates = np.full(len(new), NO_DUPLICATE, dtype=np.int64)
    for start in range(0, len(new), sorted_at_once):
        part = _Sorted(np.asarray(new[start : start + sorted_at_once]))
        for rows, digests in old(part.first_halves):
            part.see(rows, digests)
        for earlier in range(0, start, sorted_at_once):
            digests = np.asarray(new[earlier : earlier + sorted_at_once])
            part.see(first_row + earlier + np.arange(len(digests)), digests)
        part.see_itself(first_row + start)
        duplicates[start : start + part.size] = part.duplicates
    return duplicates


class _Sorted:
    """Digests in ascending order, each with the first row that has it."""

    def __init__(self, digests: Digests) -> None:
        self.size = len(digests)
        order = np.argsort(digests[:, 0], kind="stable")  # so equal ones are in row order
        high, low = digests[order, 0], digests[order, 1]
        same = np.flatnonzero((high[1:] == high[:-1]) & (low[1:] != low[:-1]))
        if len(same):  # 64 bits are not enough: nearly never
            order = np.lexsort((digests[:, 1], digests[:, 0]))
            high, low = digests[order, 0], digests[order, 1]
        fresh = np.ones(self.size, dtype=bool)
        fresh[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        self._high, self._low = high[fresh], low[fresh]
        self._first = order[fresh]  # index of the first digest of each kind
        kind = np.empty(self.size, dtype=np.int64)
        kind[order] = np.cumsum(fresh) - 1
        self._kind = kind
        self._row = np.full(len(self._high), NO_DUPLICATE, dtype=np.int64)

    @property
    def first_halves(self) -> NDArray[np.uint64]:
        """First halves of the digests, ascending, each once."""
        return distinct(self._high)

    def see(self, rows: NDArray[np.int64], digests: Digests) -> None:
        """Note which kinds occur in earlier rows, ascending; the first sight counts."""
        if not len(self._high):
            return
        at = np.searchsorted(self._high, digests[:, 0])
        at[at == len(self._high)] = 0
        for hit in np.flatnonzero(self._high[at] == digests[:, 0]).tolist():
            kind = int(at[hit])
            # Kinds that agree in the first 64 bits alone lie side by side.
            while kind < len(self._high) and self._high[kind] == digests[hit, 0]:
                if self._low[kind] == digests[hit, 1]:
                    if self._row[kind] == NO_DUPLICATE:
                        self._row[kind] = rows[hit]
                    break
                kind += 1

    def see_itself(self, row: int) -> None:
        """Note that kinds not seen before begin here, at ``row`` plus their index."""
        unseen = self._row == NO_DUPLICATE
        self._row[unseen] = row + self._first[unseen]
        self._start = row

    @property
    def duplicates(self) -> NDArray[np.int64]:
        """Duplicate of each digest, in the order in which they were given."""
        duplicates = self._row[self._kind]
        own = duplicates == self._start + np.arange(self.size)
        return np.where(own, NO_DUPLICATE, duplicates)
