"""The rows and models of an export, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from store.errors import DataError, UsageError
from store.io.ragged import Ragged
from store.io.words import count
from store.read.adapters import SEQUENCES, read_obs
from store.read.columns import sample_names
from store.read.view import View
from store.schema import COLUMN_CHUNK_ROWS
from store.store import Store
from vnp.models.held import held_models

Incomplete = Literal["refuse", "skip", "nan"]
Ids = Literal["auto", "plain", "qualified"]

_HASHES = 1 << 22  # of ids that are compared at a time


class Segment:
    """Consecutive rows within one chunk of the obs columns, each of which is read once."""

    def __init__(self, selection: Selection, start: int, stop: int) -> None:
        self.start = start  # first row
        self.stop = stop  # one past the last
        self._selection = selection
        self._columns: dict[str, NDArray[Any] | Ragged] = {}

    def __len__(self) -> int:
        return self.stop - self.start

    def column(self, name: str) -> NDArray[Any] | Ragged:
        """Values of an obs column, samples as codes."""
        if name not in self._columns:
            self._columns[name] = read_obs(self._selection.store, name, self.start, self.stop)
        return self._columns[name]

    @cached_property
    def ids(self) -> list[str]:
        """Record ids, qualified by the sample if the export's ids are."""
        ids = _texts(self.column("id"))
        if self._selection.qualified:
            samples = self._selection.sample_names(self.column("sample"))
            ids = [f"{sample}:{record}" for sample, record in zip(samples, ids, strict=True)]
        return ids

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order, none of the batches larger than a block."""
        for begin, end in _cut(self.start, self.stop, self._selection.view.block_rows):
            yield Batch(begin, end, self, self._selection)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one block."""

    start: int  # first row
    stop: int  # one past the last
    segment: Segment
    selection: Selection

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def ids(self) -> list[str]:
        """Record ids, qualified by the sample if the export's ids are."""
        return self.segment.ids[self.start - self.segment.start : self.stop - self.segment.start]

    def values(self, dtype: str = "float16") -> NDArray[Any]:
        """Embeddings of the rows: (n, columns of the view)."""
        return self.selection.view[self.start : self.stop].astype(dtype, copy=False)

    def column(self, name: str) -> NDArray[Any] | Ragged:
        """Values of a column, samples as codes."""
        if name in SEQUENCES:  # their chunks are blocks
            return self.selection.store.column(name, self.start, self.stop)
        values, first = self.segment.column(name), self.segment.start
        if isinstance(values, Ragged):
            return values.slice(self.start - first, self.stop - first)
        return values[self.start - first : self.stop - first]

    def texts(self, name: str) -> list[str]:
        """Values of a column of strings, or names of the samples."""
        values = self.column(name)
        return self.selection.sample_names(values) if name == "sample" else _texts(values)


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows and models of an export."""

    store: Store
    view: View  # of the chosen models
    runs: tuple[tuple[int, int], ...]  # first row and one past the last, ascending
    left_out: int  # rows of the chosen samples that are not certified and not in the runs
    qualified: bool  # ids are written as <sample>:<id>

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.runs)

    def segments(self) -> Iterator[Segment]:
        """Yield the rows in order, divided where a chunk of the obs columns ends."""
        for start, stop in self.runs:
            for first, last in _cut(start, stop, COLUMN_CHUNK_ROWS):
                yield Segment(self, first, last)

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order, none of the batches larger than a block."""
        return (batch for segment in self.segments() for batch in segment.batches())

    def ids(self) -> Iterator[str]:
        """Yield the record ids in order."""
        return (record for segment in self.segments() for record in segment.ids)

    def repeated_id(self) -> str | None:
        """Return an id that two of the records have; None if there is none.

        Hashes are compared, some millions at a time: a pass over the ids for each.
        """
        passes = -(-len(self) // _HASHES)
        for number in range(passes):
            hashes = (np.fromiter(map(_hash, each.ids), np.uint64) for each in self.segments())
            found = np.sort(np.concatenate([each[each % passes == number] for each in hashes]))
            alike = set(found[1:][found[1:] == found[:-1]].tolist())
            seen: set[str] = set()
            for record in self.ids() if alike else ():
                if record in seen:
                    return record
                if _hash(record) in alike:
                    seen.add(record)
        return None

    def sample_names(self, codes: NDArray[Any] | Ragged) -> list[str]:
        """Names of the samples that have these codes."""
        names: list[str] = sample_names(self.store, np.asarray(codes)).tolist()
        return names


def select(
    store: Store,
    *,
    samples: Sequence[str] = (),
    models: Sequence[str] = (),
    incomplete: Incomplete = "refuse",
    ids: Ids = "auto",
) -> Selection:
    """Choose what to export; `vnp.exchange.export.export_store` says what the options mean."""
    names = held_models(store.schema, models)
    view = store.merged(names or None, verify=True)  # damage must not be copied
    for name in samples:
        store.schema.held_sample(name)
    chosen = [each for each in store.schema.samples if not samples or each.name in samples]
    spans = _joined((sample.start, sample.stop) for sample in chosen)
    certified = view.certified
    total = sum(stop - start for start, stop in spans)
    there = sum(certified.between(*span) for span in spans)
    if there < total and incomplete == "refuse":
        chosen_models = [model.name for model in view.models]
        lacking = [
            name
            for name in chosen_models
            if sum(store[name].certified.between(*span) for span in spans) < total
        ]
        others = [name for name in chosen_models if name not in lacking]
        alone = f", or export {' and '.join(others)} alone (--model)" if others else ""
        raise DataError(
            f"not certified: {total - there:,} of the {count(total, 'row')} to export, for "
            f"{', '.join(lacking)}: fill them with 'vnp embed', or export without them "
            f"(--incomplete skip) or with NaN in their place (--incomplete nan){alone}"
        )
    runs = spans
    if incomplete != "nan":
        runs = _joined(run for span in spans for run in certified.runs(*span))
    if not runs:
        raise UsageError("nothing to export: the selection has no rows")
    qualified = ids == "qualified" or (ids == "auto" and len(chosen) > 1)
    left_out = total - there if incomplete == "skip" else 0
    return Selection(store, view, tuple(runs), left_out, qualified)


def _texts(column: NDArray[Any] | Ragged) -> list[str]:
    assert isinstance(column, Ragged)
    return column.decode()


def _hash(record: str) -> int:
    return xxhash.xxh3_64_intdigest(record.encode(errors="surrogateescape"))


def named_twice(record: str) -> DataError:
    """The refusal of a format that goes by record ids."""
    return DataError(
        f"two of the records to export are called {record}; tell them apart by their samples with "
        "--ids qualified"
    )


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ascending ranges that touch; empty ones go."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        elif stop > start:
            joined.append((start, stop))
    return joined


def _cut(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Divide rows at the multiples of ``size``."""
    while start < stop:
        end = min((start // size + 1) * size, stop)
        yield start, end
        start = end
