"""VirNucPro's result files as data: ids and rows, and the models and rows of a store they are of.

Three kinds are told apart by their keys, not by the file's name::

    nucleotide  {'nucleotide': ids, 'data': [{'label': id, 'mean_representation': floats}]}
    protein     {'proteins': ids, 'data': [tensor(dim)]}
    merged      {'ids': ids, 'data': tensor(n, columns)}       (and 'labels' for training)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from store.errors import DataError
from store.io.ragged import Ragged
from store.io.words import count
from store.schema import Model, Sample
from store.store import Store
from vnp.models import registry
from vnp.models.errors import TorchFileError
from vnp.models.torch_files import load_torch_file

Kind = Literal["nucleotide", "protein", "merged"]
F32 = NDArray[np.float32]

_KEYS: dict[str, Kind] = {"nucleotide": "nucleotide", "proteins": "protein", "ids": "merged"}


class ResultFileError(DataError):
    """A result file cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class ResultFile:
    """Rows of one VirNucPro result file."""

    path: Path
    kind: Kind
    ids: list[str]  # record ids, each once
    values: F32  # shape (n, columns), finite


def read_results(path: Path) -> ResultFile:
    """Read one file.

    ResultFileError if it cannot be read, names anything but numbers and texts, or if its rows and
    ids do not belong together.
    """
    try:
        content = load_torch_file(path, mapped=True)
    except TorchFileError as error:
        raise ResultFileError(str(error)) from None
    if not isinstance(content, dict):
        raise ResultFileError(
            f"{path} is not a result file of VirNucPro: it holds a {type(content).__name__}"
        )
    kinds = [key for key in _KEYS if key in content]
    if len(kinds) != 1 or "data" not in content:
        keys = ", ".join(map(str, list(content)[:5])) or "none"
        raise ResultFileError(
            f"{path} is not a result file of VirNucPro: its keys are {keys}, where 'nucleotide', "
            "'proteins' or 'ids' belongs beside 'data'"
        )
    kind, ids, data = _KEYS[kinds[0]], content[kinds[0]], content["data"]
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise ResultFileError(f"{path}: {kinds[0]!r} is not a list of record ids")
    if not isinstance(data, list | torch.Tensor):
        raise ResultFileError(
            f"{path}: 'data' is neither a list of rows nor a tensor, but a {type(data).__name__}"
        )
    if not ids:
        raise ResultFileError(
            f"{path} holds no record at all: the run that wrote it failed; leave it out"
        )
    if len(data) != len(ids):
        cause = (
            "VirNucPro's merge left rows out that one side lacked and kept their ids, so rows and "
            "ids have come apart and no row can be trusted; give the _DNABERT_S and _ESM files "
            "instead"
            if kind == "merged"
            else "the file is incomplete"
        )
        raise ResultFileError(
            f"{path} has {count(len(ids), 'id')} but {count(len(data), 'row')}: {cause}"
        )
    values = _rows(path, kind, ids, data)
    seen: dict[str, int] = {}
    for number, item in enumerate(ids, start=1):
        first = seen.setdefault(item, number)
        if first != number:
            raise ResultFileError(f"{path}: rows {first} and {number} are both called {item}")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ResultFileError(
            f"{path}: {count(len(bad), 'row')} of {len(ids):,} hold NaN or infinity, the first is "
            f"row {bad[0] + 1} ({ids[bad[0]]})"
        )
    return ResultFile(path, kind, ids, values)


def _rows(path: Path, kind: Kind, ids: list[str], data: Any) -> F32:
    """Rows as one matrix; ids given beside single rows are compared."""
    if kind == "merged":
        if not isinstance(data, torch.Tensor):
            raise ResultFileError(f"{path}: 'data' is not a tensor of rows and columns")
        if data.ndim != 2:
            raise ResultFileError(
                f"{path}: 'data' has shape {tuple(data.shape)}, not (rows, columns)"
            )
        merged: F32 = data.to(torch.float32).numpy()
        return merged
    out: F32 | None = None
    for number, (item, row) in enumerate(zip(ids, data, strict=True), start=1):
        if kind == "nucleotide":
            if not isinstance(row, dict) or "mean_representation" not in row:
                raise ResultFileError(f"{path}: row {number} ({item}) has no mean_representation")
            if row.get("label") != item:
                raise ResultFileError(
                    f"{path}: row {number} is labelled {row.get('label')!r} where its id is "
                    f"{item!r}: rows and ids have come apart"
                )
            row = row["mean_representation"]
        try:
            values = np.asarray(row, dtype=np.float32)
        except (TypeError, ValueError):
            values = np.empty((0, 0), np.float32)
        if out is None:
            out = np.empty((len(ids), len(values)), np.float32)
        if values.shape != out.shape[1:]:
            raise ResultFileError(
                f"{path}: row {number} ({item}) is not a row of {out.shape[1]} numbers"
            )
        out[number - 1] = values
    assert out is not None
    return out


def bands(file: ResultFile, models: Sequence[Model], *, of: object) -> list[tuple[Model, F32]]:
    """Return the models whose embeddings a file holds, each with its columns, (n, dim).

    A ``nucleotide`` file is of the model that reads nucleotide sequences, a ``protein`` file of
    the one that reads proteins (of several, the first of the file's width), and a merged one of
    the first of either kind, in VirNucPro's order. ResultFileError if that model is missing,
    or the file's rows are of another width; ``of`` is what has the models, for the message.
    """
    width = file.values.shape[1]
    chosen = []
    for kind in ("nucleotide", "protein") if file.kind == "merged" else (file.kind,):
        found = [
            model
            for model in models
            if model.name in registry.MODELS and registry.model(model.name).input == kind
        ]
        if not found:
            raise ResultFileError(
                f"{file.path} holds embeddings of {kind} sequences, and {of} has no such model"
            )
        chosen.append(next((model for model in found if model.dim == width), found[0]))
    edges = [0, *accumulate(model.dim for model in chosen)]
    if width != edges[-1]:
        names = " + ".join(f"{model.name} ({model.dim})" for model in chosen)
        raise ResultFileError(
            f"{file.path} has {width} numbers a row where {names} has {edges[-1]}: it was made "
            "with other models"
        )
    columns = [slice(*edge) for edge in pairwise(edges)]
    return [(model, file.values[:, band]) for model, band in zip(chosen, columns, strict=True)]


def rows_by_id(store: Store, sample: Sample) -> dict[str, int]:
    """Row of the store of each record id of a sample, within which ids are unique."""
    ids = store.column("id", sample.start, sample.stop)
    assert isinstance(ids, Ragged)
    names = (record.decode(errors="surrogateescape") for record in ids.tolist())
    return {name: row for row, name in enumerate(names, start=sample.start)}


def look_up(rows: Mapping[str, int], ids: Iterable[str]) -> NDArray[np.int64]:
    """Row of each id, -1 where there is none; shape (n,)."""
    return np.array([rows.get(record, -1) for record in ids], dtype=np.int64)
