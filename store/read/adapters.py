"""Adapters: a store as pandas, AnnData, dask and xarray objects.

Rows are loaded into memory only where the caller names them. The libraries are imported when a
function is called; the error for a missing one names the command that installs it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import UsageError
from store.io.bucket import bucket_of
from store.io.optional import require
from store.io.ragged import Ragged
from store.layout import row_columns, score_columns
from store.location import S3Location
from store.read.columns import sample_names, take_column, take_scores
from store.read.first_rows import FirstRows
from store.read.indexing import Ints
from store.read.source import Source
from store.read.view import View
from store.schema import COLUMN_CHUNK_ROWS

SEQUENCES = ("nucleotide", "protein")


def obs_columns(store: Source) -> list[str]:
    """Names of the obs columns except the index, the sample and what workers write."""
    return [name for name in row_columns(store.schema) if name not in ("id", "sample", *SEQUENCES)]


def obs_scores(store: Source) -> dict[str, tuple[str, int]]:
    """Obs columns of kept scores: the scores' name, and which of its two columns each is."""
    schema = store.schema
    return {
        column.path.removeprefix("obs/"): (kept.name, at)
        for kept in schema.scores
        for at, column in enumerate(score_columns(schema, kept.name))
    }


def read_obs(store: Source, name: str, start: int, stop: int) -> NDArray[Any] | Ragged:
    """Rows of an obs column: one of the appender's, or of kept scores (float32, NaN for none)."""
    kept = obs_scores(store).get(name)
    if kept is None:
        return store.column(name, start, stop)
    return store.scores(kept[0], start, stop)[:, kept[1]]


def to_pandas(store: Source, rows: Ints, *, sequences: bool = False) -> Any:
    """Make the obs table (pandas.DataFrame) of ``rows`` (n,): one line a record, by record id.

    ``sample`` is categorical; ``filled_<model>`` says which rows are certified; ``sequences`` adds
    the columns ``nucleotide`` and ``protein``. Record ids are unique within a sample only.
    """
    pandas = require("pandas", for_what="the obs table")
    codes = np.asarray(take_column(store, "sample", rows))
    categories = [sample.name for sample in store.schema.samples]
    columns: dict[str, Any] = {"sample": pandas.Categorical.from_codes(codes, categories)}
    for name in (*obs_columns(store), *(SEQUENCES if sequences else ())):
        values = take_column(store, name, rows)
        columns[name] = values.decode() if isinstance(values, Ragged) else values
    for model in store.schema.models:
        columns[f"filled_{model.name}"] = View(store, models=model.name).certified.holds(rows)
    scores = {kept.name: take_scores(store, kept.name, rows) for kept in store.schema.scores}
    columns |= {name: scores[kept][:, at] for name, (kept, at) in obs_scores(store).items()}
    ids = take_column(store, "id", rows)
    assert isinstance(ids, Ragged)  # a column of strings
    return pandas.DataFrame(columns, index=pandas.Index(ids.decode(), dtype=object, name="id"))


def to_anndata(store: Source, rows: Ints, *, models: Sequence[str] | None = None) -> Any:
    """Make an AnnData (n, 0) of ``rows`` (n,) in memory, as the store itself reads.

    It has ``obs``, and ``obsm["X_<model>"]`` of all or the given models: float16 (n, dim), NaN
    where a row is not certified.
    """
    anndata = require("anndata", for_what="an AnnData object")
    names = [model.name for model in store.schema.models] if models is None else list(models)
    obs = to_pandas(store, rows)
    obs.index.name = None
    return anndata.AnnData(
        obs=obs,
        obsm={f"X_{name}": View(store, models=name)[rows] for name in names},
        uns={"vnp": {name: json.dumps(store.provenance(name), sort_keys=True) for name in names}},
    )


def lazy_anndata(store: Source) -> Any:
    """Make an AnnData of all rows that reads from the store's files only what is used."""
    require("anndata", for_what="an AnnData object")
    require("dask.array", for_what="a lazy AnnData object")
    read_lazy = require("anndata.experimental", for_what="a lazy AnnData object").read_lazy
    if isinstance(store.path, S3Location):
        zarr = require("zarr.storage", for_what=f"{store.path} as AnnData")
        return read_lazy(zarr.ObjectStore(bucket_of(store.path), read_only=True))
    if store.path.is_dir():
        return read_lazy(store.path)
    h5py = require("h5py", for_what="an HDF5 store as AnnData")
    # The file stays open as long as the object that reads from it exists.
    return read_lazy(h5py.File(store.path, "r"))


def to_dask(view: View, *, chunk_rows: int | None = None) -> Any:
    """Make a dask array of a view: float16 (N, columns), NaN where a row is not certified.

    A chunk spans all columns and ``chunk_rows`` rows, by default one block: whole blocks are the
    cheapest to read.
    """
    array = require("dask.array", for_what="a dask array")
    rows = view.block_rows if chunk_rows is None else chunk_rows
    if rows < 1:
        raise UsageError(f"chunk_rows is {rows}: it must be positive")
    return array.from_array(
        view,
        chunks=(rows, view.shape[1]),
        name=f"vnp-{view.token}",
        meta=np.empty((0, 0), dtype=np.float16),
        fancy=True,
    )


def to_xarray(store: Source, *, models: Sequence[str] | None = None) -> Any:
    """Make an xarray Dataset of the whole store: dask arrays behind every variable.

    Along ``record``: the record ids, the columns of obs and the samples' names; ``X_<model>``
    (record, <model>_dim) of each model, and ``X_merged`` (record, feature) with the coordinates
    ``model`` and ``index`` that name each feature.
    """
    xarray = require("xarray", for_what="an xarray Dataset")
    array = require("dask.array", for_what="an xarray Dataset")
    merged = View(store, models=models)

    def column(name: str) -> Any:
        lazy = LazyColumn(store, name)
        return array.from_array(
            lazy,
            chunks=(COLUMN_CHUNK_ROWS,),
            name=f"vnp-{name}-{merged.token}",
            meta=np.empty(0, dtype=lazy.dtype),
        )

    variables: dict[str, Any] = {
        name: ("record", column(name))
        for name in ("sample", *obs_columns(store), *obs_scores(store))
    }
    for model in merged.models:
        view = View(store, models=model.name)
        variables[f"X_{model.name}"] = (("record", f"{model.name}_dim"), to_dask(view))
        filled = array.from_array(
            LazyFilled(view.certified, view.shape[0]),
            chunks=(COLUMN_CHUNK_ROWS,),
            name=f"vnp-filled-{view.token}",
            meta=np.empty(0, dtype=np.bool_),
        )
        variables[f"filled_{model.name}"] = ("record", filled)
    variables["X_merged"] = (("record", "feature"), to_dask(merged))
    names, index = zip(*merged.columns, strict=True)
    return xarray.Dataset(
        variables,
        coords={
            "id": ("record", column("id")),
            "model": ("feature", np.array(names)),
            "index": ("feature", np.array(index)),
        },
        attrs={
            "store": str(store.path),
            "segment_length": store.schema.segment_length,
            "genetic_code": store.schema.genetic_code,
        },
    )


class LazyFilled:
    """Which rows are certified, as a lazy one-dimensional array."""

    ndim = 1
    dtype = np.dtype(np.bool_)

    def __init__(self, certified: FirstRows, n_rows: int) -> None:
        self._certified = certified
        self.shape = (n_rows,)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.bool_]:
        (part,) = key if isinstance(key, tuple) else (key,)
        start, stop, step = part.indices(self.shape[0])
        return self._certified.mask(start, stop)[::step]


class LazyColumn:
    """An obs column as a lazy one-dimensional array; strings come as ``str``.

    The column ``sample`` reads as sample names.
    """

    ndim = 1

    def __init__(self, store: Source, name: str) -> None:
        self._store = copy.copy(store)  # a refresh must not move it
        self._name = name
        self.shape = (store.schema.n_rows,)
        none = read_obs(store, name, 0, 0)
        if isinstance(none, Ragged) or name == "sample":
            self.dtype = np.dtype(object)
        else:
            self.dtype = none.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        (part,) = key if isinstance(key, tuple) else (key,)
        start, stop, step = part.indices(self.shape[0])
        values = read_obs(self._store, self._name, start, stop)
        if isinstance(values, Ragged):
            return np.array(values.decode(), dtype=object)[::step]
        if self._name == "sample":
            return sample_names(self._store, values)[::step]
        return values[::step]
