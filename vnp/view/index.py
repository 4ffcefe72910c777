"""The index of contigs: made by one pass over a store in a thread, carried on as samples come.

What is indexed can be asked for at once, and says how much of the store that is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged, concatenate
from store.read.columns import LastChunk, take
from store.samples import Sample
from store.schema import COLUMN_CHUNK_ROWS, Model, Schema
from store.store import Store
from vnp.classify.contig_arrays import Contigs, read_contigs
from vnp.classify.scores import Scores
from vnp.report.calls import ScoreSource, Tally
from vnp.view.columns import GrowingColumn
from vnp.view.contigs import ContigTable

_SHOWN_SECONDS = 0.5  # between two tables while the index is made

_TYPES = {
    "sample": np.int32,
    "first": np.int64,
    "records": np.int32,
    "bases": np.int64,
    "segments": np.int32,
    "viral_segments": np.int32,
    "score": np.float64,
    "evidence": np.float64,
    "viral": np.bool_,
    "letters": np.uint8,
    "ends": np.int64,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What a commit is known by, to tell one that came after it from another store in its place."""

    geometry: tuple[int, ...]  # see `_geometry`
    models: tuple[Model, ...]
    samples: int
    last: Sample | None  # the last of them

    def goes_on_in(self, schema: Schema) -> bool:
        """Whether another commit has all that this one had, and perhaps more."""
        if len(schema.samples) < self.samples or _geometry(schema) != self.geometry:
            return False
        if schema.models[: len(self.models)] != self.models:
            return False
        return not self.samples or schema.samples[self.samples - 1] == self.last


def known_by(schema: Schema) -> Known:
    """Note what a commit is known by; nothing needs to be read for it later."""
    samples = len(schema.samples)
    last = schema.samples[-1] if samples else None
    return Known(_geometry(schema), schema.models, samples, last)


@dataclass(frozen=True, slots=True)
class Indexed:
    """What of a store is indexed at a moment."""

    table: ContigTable
    store: Store  # the commit; nobody refreshes it
    scores: str | None  # name of the scores in the table
    made: tuple[str, ...]  # name, classifier and date of these scores; empty without
    complete: bool  # whether the table has all contigs of the commit
    of: int  # contigs with records that the commit has


class ContigIndex:
    """Contigs of the first samples of a store, in columns that grow.

    Parameters
    ----------
    stopped
        Set when indexing must end.
    """

    def __init__(self, stopped: threading.Event) -> None:
        self._scores: ScoreSource | None = None
        self._stopped = stopped
        self._columns = {name: GrowingColumn(dtype) for name, dtype in _TYPES.items()}
        self._letters = 0
        self._samples = 0  # that are in the index, whole
        self._known: Known | None = None  # the commit that has them
        self.tally = Tally()
        self.scored = 0  # records that have a score

    def goes_on_with(self, store: Store, scores: ScoreSource | None) -> bool:
        """Whether a commit has the samples that are indexed, with their scores, or more."""
        if self._known is None or not self._samples:
            return True
        same = _name_of(scores) == _name_of(self._scores)
        return same and self._known.goes_on_in(store.schema)

    def extend(self, store: Store, scores: ScoreSource | None) -> Iterator[Indexed]:
        """Index the samples that a commit has more; yield what is indexed, now and then.

        ``scores`` are those of the contigs' records at this commit; None for none. The last that
        is yielded is complete, unless indexing was stopped.
        """
        self._scores = scores
        shown = time.monotonic()
        ids = LastChunk(partial(store.column, "contig"))
        source = None if scores is None else self._counted
        for contigs, segments in read_contigs(store, source, begin=self._samples):
            if self._stopped.is_set():
                return
            self._add(contigs, ids)
            self.tally.add(contigs, segments)
            if time.monotonic() - shown > _SHOWN_SECONDS:
                yield self.indexed(store)
                shown = time.monotonic()
        self._samples = len(store.schema.samples)
        self._known = known_by(store.schema)
        yield self.indexed(store)

    def indexed(self, store: Store) -> Indexed:
        """What is indexed of a commit by now."""
        samples = store.schema.samples
        columns = {name: column.array() for name, column in self._columns.items()}
        return Indexed(
            ContigTable(samples=tuple(sample.name for sample in samples), **columns),
            store,
            scores=None if self._scores is None else self._scores.kept,
            made=_name_of(self._scores),
            complete=self._samples == len(samples),
            of=sum(sample.contigs - sample.contigs_without_records for sample in samples),
        )

    def close(self) -> None:
        """Give files back; tables that were made stay."""
        for column in self._columns.values():
            column.close()

    def _counted(self, start: int, stop: int) -> Iterator[Scores]:
        assert self._scores is not None  # it is asked only then
        for part in self._scores.of(start, stop):
            self.scored += int(np.count_nonzero(~np.isnan(part.values[:, 1])))
            yield part

    def _add(self, contigs: Contigs, ids: Callable[[int, int], Ragged]) -> None:
        chunk = contigs.first // COLUMN_CHUNK_ROWS
        parts = np.split(contigs.first, np.flatnonzero(chunk[1:] != chunk[:-1]) + 1)
        names = concatenate(
            [take(ids(int(rows[0]), int(rows[-1]) + 1), rows - rows[0]) for rows in parts]
        )
        values: dict[str, NDArray[np.generic]] = {
            "sample": contigs.sample,
            "first": contigs.first,
            "records": contigs.stop - contigs.first,
            "bases": contigs.bases,
            "segments": contigs.segments,
            "viral_segments": contigs.viral_segments,
            "score": contigs.mean,
            "evidence": contigs.evidence,
            "viral": contigs.viral,
            "letters": names.data,
            "ends": self._letters + names.offsets[1:],
        }
        for name, column in self._columns.items():
            column.append(values[name])
        self._letters += len(names.data)


def _geometry(schema: Schema) -> tuple[int, ...]:
    return schema.block_rows, schema.segment_length, schema.genetic_code, schema.contig_lengths


def _name_of(scores: ScoreSource | None) -> tuple[str, ...]:
    return () if scores is None else (scores.kept, scores.digest, scores.date)
