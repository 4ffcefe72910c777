"""From a store to what its report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.geometry import rows_wanted
from store.io.clock import utc_now
from store.io.ragged import Ragged
from store.io.words import count
from store.read.sample import evenly
from store.read.view import View
from store.schema import COLUMN_CHUNK_ROWS, Model
from store.store import Store
from vnp import __version__
from vnp.classify.scores import chunked
from vnp.models.registry import demo_warning
from vnp.report.binning import filled_before, length_histogram, shares
from vnp.report.calls import COUNTED, Found, ScoreSource, collect_contigs, strings_of
from vnp.report.data import (
    LENGTH_BINS,
    MOST_CELLS,
    MOST_GROUPS,
    MOST_SAMPLES,
    MOST_SCANNED,
    Calls,
    ContigList,
    Distributions,
    ModelRow,
    ReportData,
    Sampled,
    SampleRow,
    Work,
)
from vnp.report.projection import choose_rows, features, project
from vnp.report.throughput import Environments, read_work
from vnp.sequence.frames import FRAMES

Ints = NDArray[np.int64]

_SUMMED = ("contigs", "without_records", "bases", "segments", "records", "certified")


def collect(
    store: Store,
    *,
    title: str | None = None,
    scores: ScoreSource | None = None,
    umap: bool = True,
) -> ReportData:
    """Collect what a report of the store, at the commit it holds, shows.

    Parameters
    ----------
    title
        Headline; by default the store's name.
    scores
        Scores of a classifier, if any.
    umap
        Whether to project by UMAP, if it is installed.

    Raises
    ------
    DamageError
        If columns or certified rows cannot be read.
    """
    filled = {model.name: store.rows_filled(model.name) for model in store.schema.models}
    work, environments = read_work(store, filled)
    found, sampled = _read_rows(store, scores, umap=umap)
    return assembled(
        store,
        title=title,
        filled=filled,
        work=work,
        environments=environments,
        distributions=distributions_of(store),
        counts=found.counts if found.calls is not None else None,
        calls=found.calls,
        listed=found.listed,
        sampled=sampled,
    )


def assembled(
    store: Store,
    *,
    title: str | None,
    filled: Mapping[str, Ints],
    work: Work,
    environments: Mapping[str, Environments],
    distributions: Distributions | None,
    counts: Mapping[str, Ints] | None,
    calls: Calls | None,
    listed: ContigList | None = None,
    sampled: Sampled | None = None,
) -> ReportData:
    """Put what was read of a store together; nothing but provenances is read for it."""
    schema = store.schema
    rows, rest, total = _samples(store, filled, counts)
    return ReportData(
        title=title if title is not None else store.path.name,
        warning=demo_warning(model.name for model in schema.models),
        made=utc_now(),
        version=__version__,
        rows=store.n_rows,
        segment_length=schema.segment_length,
        genetic_code=schema.genetic_code,
        contig_lengths=schema.contig_lengths,
        n_samples=len(schema.samples),
        samples=rows,
        rest=rest,
        total=total,
        marks=_marks(store),
        models=tuple(
            _model(store, model, filled[model.name], environments.get(model.name, {}))
            for model in schema.models
        ),
        work=work,
        distributions=distributions,
        calls=calls,
        listed=listed,
        sampled=sampled,
    )


def _read_rows(
    store: Store, scores: ScoreSource | None, *, umap: bool
) -> tuple[Found, Sampled | None]:
    """Read all rows once, and the embeddings of those that are on the map."""
    group, groups = groups_of(store)
    rows = np.empty(0, np.int64)
    if store.schema.models and store.n_rows:
        view = store.merged(verify=True)
        rows = choose_rows(view.certified, edges_of(store))
    found = collect_contigs(store, scores, group=group, groups=groups, rows=rows)
    if not len(rows):
        return found, None
    return found, sampled_at(view, store, rows, bases=found.bases, score=found.score, umap=umap)


def edges_of(store: Store) -> Ints:
    """First row of each sample, and the number of rows."""
    return np.array([sample.start for sample in store.schema.samples] + [store.n_rows])


def sampled_at(
    view: View,
    store: Store,
    rows: Ints,
    *,
    bases: Ints,
    score: NDArray[np.float64] | None,
    umap: bool,
) -> Sampled | None:
    """Make the map of some certified rows, ascending; None if they have no plane.

    ``bases`` are the lengths of their contigs, ``score`` their score2, both (n,).
    """
    projection = project(features(view, rows), umap=umap)
    if projection is None:
        return None
    starts = np.array([sample.start for sample in store.schema.samples])
    owner = np.searchsorted(starts, rows, side="right") - 1
    used, index = np.unique(owner, return_inverse=True)
    low = int(rows[0])
    chunks = [
        (first, np.searchsorted(rows, [first, last]))
        for first, last in chunked(low, int(rows[-1]) + 1)
    ]

    def numbers(name: str) -> Ints:
        parts = []
        for first, (one, two) in chunks:
            if one < two:
                here = rows[one:two]
                column = store.column(name, first, int(here[-1]) + 1)
                parts.append(np.asarray(column, dtype=np.int64)[here - first])
        return np.concatenate(parts)

    return Sampled(
        of=len(view.certified),
        models=tuple(model.name for model in view.models),
        rows=rows,
        sample=index,
        samples=tuple(store.schema.samples[number].name for number in used.tolist()),
        ids=tuple(strings_of(store, "id", rows)),
        contigs=tuple(strings_of(store, "contig", rows)),
        frame=np.where(numbers("strand") > 0, 0, 3) + numbers("frame") - 1,
        length=bases,
        score=score,
        projection=projection,
    )


def groups_of(store: Store) -> tuple[Ints, tuple[str, ...]]:
    """Which samples have a colour of their own: the largest, in the order of the store."""
    samples = store.schema.samples
    sizes = [sample.stop - sample.start for sample in samples]
    order = sorted(range(len(samples)), key=lambda number: -sizes[number])
    room = MOST_GROUPS if len(samples) <= MOST_GROUPS else MOST_GROUPS - 1
    chosen = sorted(number for number in order[:room] if sizes[number])
    names = tuple(samples[number].name for number in chosen)
    group = np.full(len(samples), len(chosen), dtype=np.int64)
    group[chosen] = np.arange(len(chosen))
    left = sum(size for number, size in enumerate(sizes) if number not in set(chosen))
    others = len(samples) - len(chosen)
    return group, (*names, count(others, "other sample")) if left else (*names, "")


def _samples(
    store: Store, filled: Mapping[str, Ints], counts: Mapping[str, Ints] | None
) -> tuple[tuple[SampleRow, ...], SampleRow | None, SampleRow]:
    """Rows of the table of samples, the rest of them summed up, and the sum of all."""
    samples = store.schema.samples
    pairs = [[sample.start, sample.stop] for sample in samples]
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    certified = np.min(
        [
            np.diff(filled_before(edges, blocks, store.schema.block_rows), axis=1)[:, 0]
            for blocks in filled.values()
        ]
        or [np.zeros(len(samples), np.int64)],
        axis=0,
    )
    rows = [
        SampleRow(
            name=sample.name,
            contigs=sample.contigs,
            without_records=sample.contigs_without_records,
            bases=sample.bases,
            segments=sample.segments,
            records=sample.stop - sample.start,
            certified=int(certified[number]),
            **({name: int(of[number]) for name, of in counts.items()} if counts else {}),
        )
        for number, sample in enumerate(samples)
    ]
    total = _sum("all samples", rows, called=counts is not None)
    if len(rows) <= MOST_SAMPLES:
        return tuple(rows), None, total
    order = sorted(range(len(rows)), key=lambda number: -rows[number].records)
    kept = sorted(order[: MOST_SAMPLES - 1])
    left = [row for number, row in enumerate(rows) if number not in set(kept)]
    rest = _sum(f"{len(left):,} more", left, called=counts is not None)
    return tuple(rows[number] for number in kept), rest, total


def _sum(name: str, rows: Sequence[SampleRow], *, called: bool) -> SampleRow:
    fields = _SUMMED + COUNTED if called else _SUMMED
    return SampleRow(name, **{field: sum(getattr(row, field) for row in rows) for field in fields})


def _marks(store: Store) -> tuple[tuple[str, float, float], ...]:
    """Where on the rows the samples lie that are wide enough to be seen."""
    n = max(store.n_rows, 1)
    return tuple(
        (sample.name, sample.start / n, sample.stop / n)
        for sample in store.schema.samples
        if (sample.stop - sample.start) / n >= 1 / MOST_CELLS
    )


def _model(store: Store, model: Model, filled: Ints, environments: Environments) -> ModelRow:
    wanted = rows_wanted(store.schema)
    try:
        provenance: dict[str, Any] = store.provenance(model.name) or {}
    except DamageError as error:
        provenance = {"identity": {"damaged": str(error)}}
    provenance.pop("calibration", None)  # thousands of scales; the identity has their digest
    return ModelRow(
        name=model.name,
        dim=model.dim,
        rows=store.n_rows,
        filled=int(filled.sum()),
        blocks=len(wanted),
        open_blocks=int((filled < wanted).sum()),
        cells=shares(filled, wanted, MOST_CELLS),
        provenance=provenance,
        environments=environments,
    )


def distributions_of(store: Store) -> Distributions | None:
    """Distributions over the records, or an even sample of them; None of none."""
    if not store.n_rows:
        return None

    def parts(name: str, rows: int) -> Iterator[NDArray[Any] | Ragged]:
        for part in evenly(-(-store.n_rows // rows), MOST_SCANNED).tolist():
            yield store.column(name, part * rows, (part + 1) * rows)

    def numbers(name: str) -> Ints:
        found = parts(name, COLUMN_CHUNK_ROWS)
        return np.concatenate([np.asarray(part, dtype=np.int64) for part in found])

    windows = numbers("end") - numbers("start")
    codes = np.where(numbers("strand") > 0, 0, 3) + numbers("frame") - 1
    proteins = parts("protein", store.schema.block_rows)
    lengths = np.concatenate([part.lengths for part in proteins if isinstance(part, Ragged)])
    counted = Counter(codes.tolist())
    return Distributions(
        records=len(windows),
        windows=length_histogram(windows, LENGTH_BINS),
        proteins=length_histogram(lengths, LENGTH_BINS),
        sequences=len(lengths),
        frames={name: counted[number] for number, name in enumerate(FRAMES)},
    )
