"""What the parsers note of a file while they read it: records that cannot be used, and letters U.

A record that cannot be used ends the reading with an `InputError`, unless it is to be skipped; then
it is named here, and the records before and after it are used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from store.io.ragged import Ragged
from store.io.tables import safe_cell
from vnp.sequence.compression import InputError

MOST_KEPT = 100_000  # unusable records that are named; more are only counted


class Contigs(NamedTuple):
    """Contigs that follow one another in a file, as a parser yields them."""

    first: int  # 1-based number of the first
    ids: Ragged
    sequences: Ragged  # upper case, U as T
    step: int = 0  # of reads: a batch may end after every so many; 0: at the end alone
    plain: bool = False  # known to hold no letter that stands for several bases, but N

    def slice(self, start: int, stop: int) -> Contigs:
        """Contigs ``start`` to ``stop`` of them."""
        ids, sequences = self.ids.slice(start, stop), self.sequences.slice(start, stop)
        return Contigs(self.first + start, ids, sequences, plain=self.plain)

    def steps(self) -> list[tuple[int, int]]:
        """Where a batch may end, and the bases up to there from the place before."""
        n = len(self.ids)
        if not self.step:
            return [(n, len(self.sequences.data))]
        stops = [*range(self.step, n, self.step), n]
        bases = np.diff(self.sequences.offsets[[0, *stops]])
        return list(zip(stops, bases.tolist(), strict=True))


class Unusable(NamedTuple):
    """A record that cannot be used, or another fault of a file."""

    record: int | None  # 1-based number
    line: int | None  # 1-based line of the decompressed text
    id: str
    reason: str

    def tsv(self) -> str:
        """Return it as a line of a table; what is not known is empty."""
        cells = [str(self.record or ""), str(self.line or ""), self.id, self.reason]
        return "\t".join(map(safe_cell, cells)) + "\n"


@dataclass(slots=True)
class Notes:
    """What is noted of one file."""

    source: str  # the file, as messages name it
    skip: bool = False  # whether records that cannot be used are skipped
    uracils: int = 0  # letters U, read as T
    count: int = 0  # records that cannot be used
    unusable: list[Unusable] = field(default_factory=list)  # at most `MOST_KEPT` of them

    def refuse(self, contig: bytes, what: str, *, record: int, line: int | None = None) -> None:
        """Note a record that cannot be used, or raise the `InputError` that names it."""
        if not self.skip:
            raise InputError(self.source, what, record=record, line=line)
        self.count += 1
        if len(self.unusable) < MOST_KEPT:
            name = contig[:1024].decode("ascii", errors="backslashreplace")
            self.unusable.append(Unusable(record, line, name, what))
