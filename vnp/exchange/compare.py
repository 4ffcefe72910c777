"""Comparison of a store's embeddings with those of another store, or of VirNucPro's files.

Rows are matched by sample and record id, never by position alone; only rows that both sides have
certified are compared, the others are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.errors import DataError, UsageError
from store.io.ragged import Ragged
from store.io.words import count
from store.open import open_store
from store.schema import COLUMN_CHUNK_ROWS, Sample
from store.store import Store
from vnp.embed.precisions import precision_of
from vnp.exchange.spread import Spread
from vnp.exchange.virnucpro_files import F32, bands, look_up, read_results, rows_by_id
from vnp.models.held import held_models
from vnp.models.similarity import row_similarity

_STEP = 4096  # rows compared at a time


@dataclass(frozen=True, slots=True)
class WorstRow:
    """One of the rows that agree least."""

    row: int  # of the first store
    sample: str
    id: str
    cosine: float
    difference: float  # largest absolute difference of its numbers


@dataclass(frozen=True, slots=True)
class ByPrecision:
    """Rows that were computed in one precision in the first store, and in one on the other side."""

    here: str
    there: str
    rows: int
    lowest: float  # cosine similarity
    median: float


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """How one model's embeddings compare."""

    model: str
    rows: int  # compared
    lowest: float  # cosine similarity of the row that agrees least
    median: float  # of the cosine similarities
    difference: float  # largest absolute difference of any number
    only_here: int  # rows certified in the first store alone
    only_there: int  # rows of the other side alone
    worst: tuple[WorstRow, ...]  # ascending by cosine; none of equal rows
    by_precision: tuple[ByPrecision, ...] = ()  # where a store is of mixed precision


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two stores, or a store and result files, compare."""

    models: tuple[ModelComparison, ...]
    samples_only_here: tuple[str, ...] = ()
    samples_only_there: tuple[str, ...] = ()
    models_only_here: tuple[str, ...] = ()
    models_only_there: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether both sides have the same samples and models, and certified the same rows."""
        return not (
            self.samples_only_here
            or self.samples_only_there
            or self.models_only_here
            or self.models_only_there
            or any(model.only_here or model.only_there for model in self.models)
        )


@dataclass(slots=True)
class _Tally:
    """What has been compared of a model so far, whatever the number of rows in little memory."""

    most: int  # of the rows that agree least, how many are kept
    spread: Spread = field(default_factory=Spread)
    difference: float = 0.0
    only_here: int = 0
    only_there: int = 0
    pairs: dict[tuple[str, str], Spread] = field(default_factory=dict)
    worst: list[tuple[float, int, float]] = field(default_factory=list)  # cosine, row, difference

    def add(
        self,
        rows: NDArray[np.int64],
        here: F32,
        there: F32,
        precisions: tuple[NDArray[np.str_], NDArray[np.str_]] | None = None,
    ) -> None:
        """Compare rows, (n, dim) each, where both sides have them: others are NaN."""
        left, right = ~np.isnan(here[:, 0]), ~np.isnan(there[:, 0])
        self.only_here += int(np.count_nonzero(left & ~right))
        self.only_there += int(np.count_nonzero(right & ~left))
        both = left & right
        here, there, rows = here[both], there[both], rows[both]
        cosines = row_similarity(here, there)[0]
        self.spread.add(cosines)
        if precisions is not None:
            left_of, right_of = precisions[0][both], precisions[1][both]
            for pair in sorted(set(zip(left_of.tolist(), right_of.tolist(), strict=True))):
                chosen = (left_of == pair[0]) & (right_of == pair[1])
                self.pairs.setdefault(pair, Spread()).add(cosines[chosen])
        differences = np.abs(here - there).max(axis=1, initial=0)
        self.difference = max(self.difference, float(differences.max(initial=0)))
        differing = np.flatnonzero(differences)  # an equal row is not among the worst
        least = differing[np.argsort(cosines[differing], kind="stable")[: self.most]]
        self.worst += [
            (float(cosines[at]), int(rows[at]), float(differences[at])) for at in least.tolist()
        ]
        self.worst.sort(key=lambda found: found[0])  # stable: of equal ones the first compared
        del self.worst[self.most :]

    def result(self, store: Store, model: str) -> ModelComparison:
        """Sum up, naming the rows that agree least."""
        samples = store.schema.samples
        named = []
        for cosine, row, difference in self.worst:
            sample = next(known.name for known in samples if known.start <= row < known.stop)
            record = _ids(store, slice(row, row + 1))[0].decode(errors="replace")
            named.append(WorstRow(row, sample, record, cosine, difference))
        return ModelComparison(
            model=model,
            rows=self.spread.count,
            lowest=self.spread.lowest,
            median=self.spread.median,
            difference=self.difference,
            only_here=self.only_here,
            only_there=self.only_there,
            worst=tuple(named),
            by_precision=tuple(
                ByPrecision(*pair, found.count, found.lowest, found.median)
                for pair, found in sorted(self.pairs.items(), key=lambda each: each[0])
                if found.count
            ),
        )


def compare(
    store: Store,
    other: Sequence[Path],
    *,
    sample: str | None = None,
    models: Sequence[str] = (),
    worst: int = 5,
) -> Comparison:
    """Compare a store with another store or with VirNucPro's result files.

    Parameters
    ----------
    other
        The path of one store, or those of ``.pt`` files of one sample.
    sample
        Compare only this sample. Needed with ``.pt`` files if the store has several.
    models
        Compare only these models; by default all that both sides have, in the store's order.
    worst
        How many rows to name for each model.

    Raises
    ------
    DataError
        If there is nothing to compare, or samples of one name hold different records.
    UsageError
        If a sample or model is unknown, or which sample is meant is not clear.
    """
    models = held_models(store.schema, models)
    if sample is not None and store.schema.sample(sample) is None:
        store.rows_of(sample)  # which says what there is
    mine = theirs = store.schema.models
    unpaired = _Unpaired()
    if all(path.suffix == ".pt" for path in other):
        tallies = _with_files(store, other, sample, worst)
    elif len(other) == 1:
        there = open_store(other[0])
        theirs = there.schema.models
        tallies, unpaired = _with_store(store, there, sample, worst)
    else:
        raise UsageError("compare with one store, or with .pt files; not with several stores")
    absent = [name for name in models if name not in tallies]
    if absent:
        raise DataError(f"the other side has no embeddings of {', '.join(absent)}")
    results = [
        tallies[model.name].result(store, model.name)
        for model in store.schema.models
        if model.name in tallies and (not models or model.name in models)
    ]
    if not any(result.rows for result in results):
        raise DataError("no row that both sides have certified for the same model was found")
    asked = [[each.name for each in side] for side in (mine, theirs)] if not models else [[], []]
    return Comparison(
        models=tuple(results),
        samples_only_here=unpaired.here,
        samples_only_there=unpaired.there,
        models_only_here=tuple(name for name in asked[0] if name not in asked[1]),
        models_only_there=tuple(name for name in asked[1] if name not in asked[0]),
    )


class _Unpaired(NamedTuple):
    """Samples that one side has alone."""

    here: tuple[str, ...] = ()
    there: tuple[str, ...] = ()


def _with_store(
    store: Store, other: Store, sample: str | None, worst: int
) -> tuple[dict[str, _Tally], _Unpaired]:
    """Compare the samples with the same sequences in both stores, else those of the same name.

    Certified rows of samples that only one store has are counted as its own.
    """
    by_content = {theirs.content: theirs for theirs in reversed(other.schema.samples)}
    pairs = [
        (mine, theirs)
        for mine in store.schema.samples
        if sample in (None, mine.name) and (theirs := _counterpart(mine, other, by_content))
    ]
    if not pairs:
        raise DataError(f"{store.path} and {other.path} have no sample in common")
    dims = {model.name: model.dim for model in other.schema.models}
    tallies: dict[str, _Tally] = {}
    for model in store.schema.models:
        if model.name not in dims:
            continue
        if dims[model.name] != model.dim:
            raise DataError(
                f"{model.name} has {model.dim} numbers a row in {store.path} and "
                f"{dims[model.name]} in {other.path}"
            )
        tallies[model.name] = _Tally(worst)
    for mine, theirs in pairs:
        _check_same_records(store, mine, other, theirs)
        for name, tally in tallies.items():
            here, there = store[name], other[name]
            for left, right in _steps(mine, theirs, _STEP):
                rows = np.arange(left.start, left.stop)
                precisions = None
                if store.schema.mixed_precision or other.schema.mixed_precision:
                    precisions = _precisions(store, name, left), _precisions(other, name, right)
                tally.add(rows, here[left].astype("f4"), there[right].astype("f4"), precisions)
    if sample is not None:
        return tallies, _Unpaired()
    paired = {mine.name for mine, _ in pairs}, {theirs.name for _, theirs in pairs}
    alone = [known for known in store.schema.samples if known.name not in paired[0]]
    others = [known for known in other.schema.samples if known.name not in paired[1]]
    for name, tally in tallies.items():
        tally.only_here += _certified(store, name, alone)
        tally.only_there += _certified(other, name, others)
    return tallies, _Unpaired(
        tuple(known.name for known in alone), tuple(known.name for known in others)
    )


def _counterpart(mine: Sample, other: Store, by_content: dict[str, Sample]) -> Sample | None:
    """The sample of the same content, of several the one of the same name; else of the name."""
    named = other.schema.sample(mine.name)
    if named is not None and named.content == mine.content:
        return named
    return by_content.get(mine.content) or named


def _precisions(store: Store, model: str, rows: slice) -> NDArray[np.str_]:
    """Precision in which each row was computed, by the certificate of its block."""
    blocks = np.arange(rows.start, rows.stop) // store.schema.block_rows
    present, place = np.unique(blocks, return_inverse=True)
    return np.array([precision_of(store, model, block) for block in present.tolist()])[place]


def _certified(store: Store, model: str, samples: Sequence[Sample]) -> int:
    """Certified rows of samples."""
    certified = store[model].certified
    return sum(certified.between(known.start, known.stop) for known in samples)


def _with_files(
    store: Store, files: Sequence[Path], sample: str | None, worst: int
) -> dict[str, _Tally]:
    """Compare the rows that the files have."""
    if sample is None:
        if len(store.schema.samples) != 1:
            raise UsageError(
                f"{store.path} has {count(len(store.schema.samples), 'sample')}, and record ids "
                "are unique only within one: say with --sample which one the files are of"
            )
        sample = store.schema.samples[0].name
    found = store.schema.sample(sample)
    assert found is not None
    index = rows_by_id(store, found)
    tallies: dict[str, _Tally] = {}
    seen: dict[str, NDArray[np.bool_]] = {}
    for path in files:
        file = read_results(path)
        rows = look_up(index, file.ids)
        at = np.flatnonzero(rows >= 0)
        for model, values in bands(file, store.schema.models, of=store.path):
            tally = tallies.setdefault(model.name, _Tally(worst))
            tally.only_there += len(rows) - len(at)
            marks = seen.setdefault(model.name, np.zeros(found.stop - found.start, dtype=bool))
            marks[rows[at] - found.start] = True
            for first in range(0, len(at), _STEP):
                part = at[first : first + _STEP]
                left = store.merged([model.name], verify=True)[rows[part]].astype("f4")
                tally.add(rows[part], left, values[part])
    for name, marks in seen.items():
        rest = store[name].certified.mask(found.start, found.stop) & ~marks
        tallies[name].only_here += int(np.count_nonzero(rest))
    return tallies


def _check_same_records(store: Store, mine: Sample, other: Store, theirs: Sample) -> None:
    """Compare the record ids of two samples."""
    same = mine.stop - mine.start == theirs.stop - theirs.start and all(
        _ids(store, a).tolist() == _ids(other, b).tolist()
        for a, b in _steps(mine, theirs, COLUMN_CHUNK_ROWS)
    )
    if not same:
        raise DataError(
            f"sample {mine.name} of {store.path} and sample {theirs.name} of {other.path} do not "
            "hold the same records: they were made from other files or other segment lengths"
        )


def _steps(mine: Sample, theirs: Sample, step: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows of two samples of one size, ``step`` at a time."""
    for first in range(mine.start, mine.stop, step):
        last, shift = min(first + step, mine.stop), theirs.start - mine.start
        yield slice(first, last), slice(first + shift, last + shift)


def _ids(store: Store, rows: slice) -> Ragged:
    ids = store.column("id", rows.start, rows.stop)
    assert isinstance(ids, Ragged)
    return ids
