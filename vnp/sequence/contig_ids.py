"""Contig ids that occur twice in a sample, refused or numbered, in memory that does not grow.

Refusing needs no answer until the file ends. A hash of each id goes to a temporary file; at the end
the hashes are sorted, one part of all possible hashes after the other, and equal ones are
neighbours. Two different ids with one 128-bit hash would be taken for duplicates; among a billion
ids the chance of that is about 1e-21 (n^2 / 2^129).

Numbering needs an answer at once, because records carry the id. The ids themselves are kept, the
last half a million in memory and those before them in a temporary SQLite database.

Temporary files lie where Python's `tempfile` and SQLite put them (``TMPDIR``): 16 bytes and the id
for each contig.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from itertools import islice
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from store.io.digests import Digests, digests_of
from store.io.ragged import Ragged, from_items
from vnp.sequence.compression import InputError
from vnp.sequence.fastx import ContigBatch
from vnp.sequence.strided import joined

_PART = 1 << 22  # hashes sorted at a time, 64 MiB
_CACHE = 1 << 16  # KiB of the database in memory
_RECENT = 1 << 19  # ids in memory, about 90 MB, before they go to the database
_ASKED = 999  # ids looked up by one statement: what every SQLite allows


class Duplicates(StrEnum):
    """What to do about a contig id that its sample has already."""

    REFUSE = "refuse"
    NUMBER = "number"


class UniqueIds:
    """The contig ids of one sample, in the order in which they come.

    With ``Duplicates.NUMBER`` an id that is taken gets the first of ``id_2``, ``id_3``, ... that is
    free, whether the id before was given by the file or here. So the outcome follows from the
    order of the ids alone, and an ``id_2`` that comes later in the file is itself numbered.
    """

    def __init__(
        self,
        duplicates: Duplicates = Duplicates.REFUSE,
        *,
        source: str = "input",
        part: int = _PART,
    ) -> None:
        self.renamed = 0  # ids numbered so far
        self._ids = _Numbered() if duplicates is Duplicates.NUMBER else _Refused(source, part)

    def __enter__(self) -> UniqueIds:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ids.close()

    def batches(self, contigs: Iterable[ContigBatch]) -> Iterator[ContigBatch]:
        """Pass on the batches of a whole file, in order, with ids that are unique.

        If duplicates are refused, `InputError` names the first: at once if both are in one batch,
        else after the last batch.
        """
        for batch in contigs:
            yield replace(batch, id=self.admit(batch.id))
            del batch  # or a long contig lives on while the next one is read
        self.finish()

    def admit(self, ids: Ragged) -> Ragged:
        """Record the ids that come next and return them, numbered where they must be."""
        unique, renamed = self._ids.admit(ids)
        self.renamed += renamed
        return unique

    def finish(self) -> None:
        """Say that there are no more ids: after this, all are known to be unique."""
        self._ids.finish()


class _Refused:
    def __init__(self, source: str, part: int) -> None:
        self._source = source
        self._part = part
        self._count = 0
        self._hashes = TemporaryFile()  # noqa: SIM115  closed by close()
        self._texts = TemporaryFile()  # noqa: SIM115  ids, one a line, to name one

    def close(self) -> None:
        self._hashes.close()
        self._texts.close()

    def admit(self, ids: Ragged) -> tuple[Ragged, int]:
        hashes = digests_of(ids)
        self._hashes.write(hashes.tobytes())
        self._texts.write(joined(ids).tobytes())
        self._count += len(ids)
        if _repeat(hashes):
            self.finish()  # mates of a pair, say: no need to read on
        return ids, 0

    def finish(self) -> None:
        parts = -(-self._count // self._part)
        found = [pair for part in range(parts) if (pair := self._first_duplicate(part, parts))]
        if not found:
            return
        record, before = min(found)
        self._texts.seek(0)
        contig_id = next(islice(self._texts, record - 1, None)).decode().removesuffix("\n")
        raise InputError(
            self._source,
            f"the id {contig_id!r} occurred before in this sample, in record {before:,}; rename "
            "one of them, or have them numbered with --duplicates number",
            record=record,
        )

    def _first_duplicate(self, part: int, parts: int) -> tuple[int, int] | None:
        """1-based numbers of the first record in a part whose hash is taken, and of the taker."""
        hashes = np.concatenate([hashes[mine] for _, hashes, mine in self._blocks(part, parts)])
        if not _repeat(hashes):
            return None
        record = np.concatenate([first + mine for first, _, mine in self._blocks(part, parts)])
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable
        hashes = hashes[order]
        later = np.flatnonzero((hashes[1:] == hashes[:-1]).all(axis=1)) + 1
        if not len(later):
            return None
        at = later[np.argmin(record[order[later]])]
        return int(record[order[at]]), int(record[order[at - 1]])

    def _blocks(self, part: int, parts: int) -> Iterator[tuple[int, Digests, NDArray[np.int64]]]:
        """Blocks of hashes, the record number of the first, and which belong to the part."""
        self._hashes.seek(0)
        for first in range(1, self._count + 1, self._part):
            hashes = np.fromfile(self._hashes, np.uint64, 2 * self._part).reshape(-1, 2)
            yield first, hashes, np.flatnonzero(hashes[:, 0] % parts == part)


def _repeat(hashes: Digests) -> bool:
    """Whether first halves of hashes occur twice, as those of equal ids do."""
    ordered = np.sort(hashes[:, 0])
    return bool((ordered[1:] == ordered[:-1]).any())


class _Numbered:
    def __init__(self) -> None:
        # Last number given to each id that is taken, 1 for the id itself: those seen last are here.
        self._last: dict[bytes, int] = {}
        self._stored = False  # whether there are others, in the database
        import sqlite3

        self._database = sqlite3.connect("", isolation_level=None)  # a file that is deleted
        self._database.executescript(
            f"""
            PRAGMA journal_mode = OFF;
            PRAGMA cache_size = -{_CACHE};
            PRAGMA synchronous = OFF;
            CREATE TABLE taken (id BLOB PRIMARY KEY, last INTEGER) WITHOUT ROWID;
            BEGIN;
            """
        )

    def close(self) -> None:
        self._database.close()

    def admit(self, ids: Ragged) -> tuple[Ragged, int]:
        last = self._last
        given = ids.tolist()
        self._recall(given)
        unique = []
        for contig_id in given:
            candidate = contig_id
            number = last.get(contig_id, 0) + 1  # lower ones are taken for good
            if number > 1:
                candidate = b"%b_%d" % (contig_id, number)
                while self._is_taken(candidate):
                    number += 1
                    candidate = b"%b_%d" % (contig_id, number)
                last[candidate] = 1
            last[contig_id] = number
            unique.append(candidate)
        if len(last) > _RECENT:
            self._database.executemany(
                "INSERT OR REPLACE INTO taken VALUES (?, ?)", sorted(last.items())
            )
            last.clear()
            self._stored = True
        return from_items(unique), sum(map(bytes.__ne__, unique, given))

    def _is_taken(self, contig_id: bytes) -> bool:
        self._recall([contig_id])
        return contig_id in self._last

    def _recall(self, ids: list[bytes]) -> None:
        """Fetch from the database what it knows of some ids."""
        if not self._stored:
            return
        unknown = [contig_id for contig_id in ids if contig_id not in self._last]
        for at in range(0, len(unknown), _ASKED):
            some = unknown[at : at + _ASKED]
            marks = ",".join("?" * len(some))
            query = f"SELECT id, last FROM taken WHERE id IN ({marks})"  # noqa: S608  only marks
            self._last.update(self._database.execute(query, some))

    def finish(self) -> None:
        """Every id was unique when it was returned."""
