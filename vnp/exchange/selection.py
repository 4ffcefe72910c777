"""The rows and models of an export, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from store.errors import DataError, UsageError
from store.io.ragged import Ragged
from store.read.view import View
from store.schema import COLUMN_CHUNK_ROWS
from store.store import Store

Incomplete = Literal["refuse", "skip", "nan"]
Ids = Literal["auto", "plain", "qualified"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one block."""

    start: int  # first row
    stop: int  # one past the last
    ids: list[str]  # record ids, qualified by the sample if the export's ids are
    view: View

    def __len__(self) -> int:
        return self.stop - self.start

    def values(self, dtype: str = "float16") -> NDArray[Any]:
        """Embeddings of the rows: (n, columns of the view)."""
        return self.view[self.start : self.stop].astype(dtype, copy=False)


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

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order, none of the batches larger than a block."""
        step = self.view.block_rows
        for start, stop in self.runs:
            for first, last in _cut(start, stop, COLUMN_CHUNK_ROWS):  # one read of the ids each
                ids = self._ids(first, last)
                for begin, end in _cut(first, last, step):
                    yield Batch(begin, end, ids[begin - first : end - first], self.view)

    def column(self, name: str, start: int, stop: int) -> Any:
        """Values of an obs column; strings as a list of str, samples by name."""
        values = self.store.column(name, start, stop)
        if isinstance(values, Ragged):
            return values.decode()
        if name == "sample":
            names = [sample.name for sample in self.store.schema.samples]
            return [names[code] for code in values.tolist()]
        return values

    def _ids(self, start: int, stop: int) -> list[str]:
        ids: list[str] = self.column("id", start, stop)
        if not self.qualified:
            return ids
        samples = self.column("sample", start, stop)
        return [f"{sample}:{record}" for sample, record in zip(samples, ids, strict=True)]


def select(
    store: Store,
    *,
    samples: Sequence[str] = (),
    models: Sequence[str] = (),
    incomplete: Incomplete = "refuse",
    ids: Ids = "auto",
) -> Selection:
    """Choose what to export.

    Parameters
    ----------
    store
        The store.
    samples
        Names of the samples; none for all.
    models
        Names of the models, left to right; none for all in the store's order.
    incomplete
        What to do about rows that are not certified for every chosen model: ``refuse`` to
        export, ``skip`` them, or give them as ``nan``.
    ids
        ``plain`` record ids, which are unique within a sample only, or ``qualified`` by the
        sample's name; ``auto`` qualifies them when there is more than one sample.

    Raises
    ------
    UsageError
        If a sample or model is unknown, or no row is left.
    DataError
        If rows are not certified and that is to be refused.
    """
    view = store.merged(tuple(models) or None, verify=True)  # damage must not be copied
    known = {sample.name: sample for sample in store.schema.samples}
    for name in samples:
        if name not in known:
            raise UsageError(
                f"the store has no sample {name!r} (it has: {', '.join(known) or 'none'})"
            )
    chosen = [sample for name, sample in known.items() if not samples or name in samples]
    wanted = _joined([(sample.start, sample.stop) for sample in chosen])
    counts = np.minimum.reduce([store.rows_filled(model.name) for model in view.models])
    size = view.block_rows
    blocks = _joined([(b * size, b * size + int(n)) for b, n in enumerate(counts.tolist()) if n])
    certified = _overlap(wanted, blocks)
    total, there = (sum(stop - start for start, stop in runs) for runs in (wanted, certified))
    if there < total and incomplete == "refuse":
        raise DataError(
            f"{total - there:,} of the {total:,} rows to export are not certified for "
            f"{', '.join(model.name for model in view.models)}: fill them with 'vnp embed', or "
            "export without them (--incomplete skip) or with NaN in their place (--incomplete nan)"
        )
    runs = wanted if incomplete == "nan" else certified
    if not any(stop > start for start, stop in runs):
        raise UsageError("there is no row to export")
    qualified = ids == "qualified" or (ids == "auto" and len(chosen) > 1)
    left_out = total - there if incomplete == "skip" else 0
    return Selection(store, view, tuple(runs), left_out, qualified)


def _cut(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Divide rows at the multiples of ``size``."""
    while start < stop:
        end = min((start // size + 1) * size, stop)
        yield start, end
        start = end


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ascending runs that touch."""
    result: list[tuple[int, int]] = []
    for start, stop in runs:
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], stop)
        elif stop > start:
            result.append((start, stop))
    return result


def _overlap(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Rows that lie in both of two lists of ascending runs."""
    result = []
    a = b = 0
    while a < len(left) and b < len(right):
        start, stop = max(left[a][0], right[b][0]), min(left[a][1], right[b][1])
        if start < stop:
            result.append((start, stop))
        if left[a][1] < right[b][1]:
            a += 1
        else:
            b += 1
    return result
