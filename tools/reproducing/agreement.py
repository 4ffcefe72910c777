"""How far vnp's embeddings, scores and calls lie from those of the published code."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from store.errors import DataError
from store.io.ragged import Ragged
from store.io.replace import replacing
from store.store import Store
from vnp.exchange.golden import TOLERANCES, read_reference
from vnp.exchange.virnucpro_files import look_up, read_results
from vnp.models import registry
from vnp.models.similarity import row_similarity

_NAMED = 5  # ids shown of those that differ


@dataclass(frozen=True, slots=True)
class Features:
    """One model's rows in a store beside those of the published code."""

    model: str
    rows: int  # that both have
    only_here: tuple[str, ...]  # ids of records
    only_there: tuple[str, ...]
    lowest_cosine: float
    median_cosine: float
    median_relative: float  # median over rows of |here - there| / |there|
    largest_difference: float  # of any single number
    reproduced: bool  # the same records, within the golden check's tolerance for the precision


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores and calls of the records, and calls of the segments."""

    records: int  # that both have
    largest_difference: float  # of a record's score2
    median_difference: float
    records_called_otherwise: tuple[str, ...]  # ids
    segments: int
    segments_called_otherwise: tuple[str, ...]
    unpaired: tuple[str, ...]  # ids of records or segments that one side lacks

    @property
    def reproduced(self) -> bool:
        """Whether every record and segment is called, and called the same."""
        return not (
            self.records_called_otherwise or self.segments_called_otherwise or self.unpaired
        )


def write_golden(merged: Sequence[Path], path: Path, *, recipe: str) -> None:
    """Write result files of one run as one reference for ``vnp doctor --golden``.

    DataError if a file's ids and rows do not belong together, or its width is not the recipe's.
    """
    files = [read_results(file) for file in merged]
    ids = [name for file in files for name in file.ids]
    data = torch.from_numpy(np.concatenate([file.values for file in files]))
    with replacing(path, force=True) as part:
        torch.save({"ids": ids, "data": data}, part)
    read_reference(path, models=registry.recipe(recipe))


def features(store: Store, golden: Path, *, recipe: str, precision: str) -> list[Features]:
    """Compare the rows of a store of one sample with a reference, matched by record id."""
    reference = read_reference(golden, models=registry.recipe(recipe))
    ids = store.column("id")
    assert isinstance(ids, Ragged)
    names = ids.decode()
    place = look_up({name: index for index, name in enumerate(reference.ids)}, names)
    here, there = np.flatnonzero(place >= 0), place[place >= 0]
    if not len(here):
        raise DataError(f"{golden} and {store.path} have no record in common")
    absent = set(reference.ids) - set(names)
    limit = TOLERANCES[precision]
    found = []
    for model, values in reference.bands.items():
        ours, theirs = store.read(model)[here].astype(np.float32), values[there]
        cosine, relative = row_similarity(ours, theirs)
        extra = tuple(names[row] for row in np.flatnonzero(place < 0).tolist())
        close = cosine.min() >= limit.cosine and np.median(relative) <= limit.relative
        found.append(
            Features(
                model=model,
                rows=len(here),
                only_here=extra,
                only_there=tuple(sorted(absent)),
                lowest_cosine=float(cosine.min()),
                median_cosine=float(np.median(cosine)),
                median_relative=float(np.median(relative)),
                largest_difference=float(np.abs(ours - theirs).max()),
                reproduced=bool(close) and not absent and not extra,
            )
        )
    return found


def scores(here: tuple[Path, Path], there: tuple[Path, Path]) -> Scores:
    """Compare ``prediction_results.txt`` and ``prediction_results_highestscore.csv``."""
    ours, theirs = _table(here[0], "Sequence_ID"), _table(there[0], "Sequence_ID")
    our_calls, their_calls = _table(here[1], "Modified_ID"), _table(there[1], "Modified_ID")
    records, segments = ours.keys() & theirs.keys(), our_calls.keys() & their_calls.keys()
    if not records:
        raise DataError(f"{here[0]} and {there[0]} have no record in common")
    try:
        gaps = [abs(float(ours[r]["score2"]) - float(theirs[r]["score2"])) for r in records]
        records_apart = [r for r in records if ours[r]["Prediction"] != theirs[r]["Prediction"]]
        segments_apart = [
            s for s in segments if our_calls[s]["Is_Virus"] != their_calls[s]["Is_Virus"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{there[0].parent} has tables of another form ({error!r})") from None
    return Scores(
        records=len(records),
        largest_difference=max(gaps),
        median_difference=float(np.median(gaps)),
        records_called_otherwise=tuple(sorted(records_apart)),
        segments=len(segments),
        segments_called_otherwise=tuple(sorted(segments_apart)),
        unpaired=tuple(
            sorted((ours.keys() ^ theirs.keys()) | (our_calls.keys() ^ their_calls.keys()))
        ),
    )


def _table(path: Path, key: str) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or key not in rows[0]:
        raise DataError(f"{path} is not a table with the column {key}")
    return {row[key]: row for row in rows}


def told(found: Sequence[Features], called: Scores) -> list[str]:
    """Say it in lines for people."""
    lines = []
    for band in found:
        lines.append(
            f"{_state(band.reproduced)} {band.model}: {band.rows:,} records; cosine lowest "
            f"{band.lowest_cosine:.6f}, median {band.median_cosine:.6f}; largest difference of a "
            f"number {band.largest_difference:.1e}, median {band.median_relative:.1e} of a row"
        )
        lines += _named("only vnp has", band.only_here) + _named("vnp lacks", band.only_there)
    lines.append(
        f"{_state(called.reproduced)} scores: {called.records:,} records; score2 differs by "
        f"{called.largest_difference:.1e} at most, {called.median_difference:.1e} in the median; "
        f"{len(called.records_called_otherwise):,} records and "
        f"{len(called.segments_called_otherwise):,} of {called.segments:,} segments are called "
        "otherwise"
    )
    lines += _named("records called otherwise:", called.records_called_otherwise)
    lines += _named("segments called otherwise:", called.segments_called_otherwise)
    return lines + _named("only one side has", called.unpaired)


def _state(reproduced: bool) -> str:
    return "same     " if reproduced else "DIFFERENT"


def _named(what: str, ids: Sequence[str]) -> list[str]:
    if not ids:
        return []
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return [f"          {what} {', '.join(ids[:_NAMED])}{more}"]
