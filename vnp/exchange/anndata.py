"""Export as AnnData on disk, ``.h5ad`` or ``.zarr``, written column by column and block by block.

AnnData's own writer takes embeddings from dask in bounded memory, but wants all of obs as a pandas
table: 0.9 kB for each row of a 500 bp segment, and anndata and dask where h5py or zarr suffice.
Its format is public and made to be written in parts:
https://anndata.readthedocs.io/en/latest/fileformat-prose.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.optional import require
from store.io.ragged import Ragged
from store.read.adapters import SEQUENCES, obs_columns, obs_scores, read_obs
from store.schema import COLUMN_CHUNK_ROWS
from vnp.exchange.selection import Selection

_TEXT = "text"
# Creates an array under a root: path, shape, dtype (`_TEXT` for strings), chunk.
_Create = Callable[[str, tuple[int, ...], str, tuple[int, ...]], Any]


def write_h5ad(selection: Selection, path: Path, *, dtype: str, sequences: bool) -> None:
    """Write one HDF5 file."""
    h5py = require("h5py", for_what="export to .h5ad")
    text = h5py.string_dtype()
    with h5py.File(path, "w") as root:

        def create(name: str, shape: tuple[int, ...], kind: str, chunk: tuple[int, ...]) -> Any:
            chunks = chunk if all(shape) else None
            return root.create_dataset(name, shape, text if kind == _TEXT else kind, chunks=chunks)

        _write(selection, root, create, np.array([], dtype=text), dtype, sequences)
        # AnnData opens a file in backed mode only if there is an X, however empty.
        empty = root.create_dataset("X", (len(selection), 0), "float32")
        empty.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def write_zarr(selection: Selection, path: Path, *, dtype: str, sequences: bool) -> None:
    """Write a directory of Zarr format 3."""
    zarr = require("zarr", for_what="export to .zarr")
    root = zarr.open_group(path, mode="w", zarr_format=3)

    def create(name: str, shape: tuple[int, ...], kind: str, chunk: tuple[int, ...]) -> Any:
        dtype, fill = (str, "") if kind == _TEXT else (kind, 0)
        return root.create_array(name, shape=shape, dtype=dtype, chunks=chunk, fill_value=fill)

    _write(selection, root, create, [], dtype, sequences)


def _write(
    selection: Selection, root: Any, create: _Create, no_names: Any, dtype: str, sequences: bool
) -> None:
    """Write the tree; ``no_names`` is an empty list of strings, as an attribute of ``root``."""

    def group(path: str, kind: str, version: str, **attributes: Any) -> None:
        node = root.require_group(path) if path else root
        node.attrs.update({"encoding-type": kind, "encoding-version": version, **attributes})

    def array(
        path: str, shape: tuple[int, ...], kind: str, chunk: tuple[int, ...], encoding: str = ""
    ) -> Any:
        made = create(path, shape, kind, chunk)
        encoding = encoding or ("string-array" if kind == _TEXT else "array")
        made.attrs.update({"encoding-type": encoding, "encoding-version": "0.2.0"})
        return made

    store, rows = selection.store, len(selection)
    columns = [*obs_columns(store), *(SEQUENCES if sequences else ())]
    flags = [f"filled_{model.name}" for model in selection.view.models]
    scores = obs_scores(store)
    listed = {"_index": "_index", "column-order": ["sample", *columns, *flags, *scores]}
    group("", "anndata", "0.1.0")
    group("obs", "dataframe", "0.2.0", **listed)
    group("obs/sample", "categorical", "0.2.0", ordered=False)
    for path in ("obsm", "uns", "uns/vnp"):
        group(path, "dict", "0.1.0")
    group("var", "dataframe", "0.2.0", **{**listed, "column-order": no_names})
    array("var/_index", (0,), _TEXT, (1,))
    names = [sample.name for sample in store.schema.samples]
    categories = array("obs/sample/categories", (len(names),), _TEXT, (len(names),))
    categories[:] = np.array(names, dtype=object)
    for model in selection.view.models:
        text = array(f"uns/vnp/{model.name}", (), _TEXT, (), "string")
        text[()] = json.dumps(store.provenance(model.name), sort_keys=True)

    targets = {"id": "_index", "sample": "sample/codes"}
    targets |= {name: name for name in (*columns, *scores)}
    chunk = (min(rows, COLUMN_CHUNK_ROWS),)
    arrays = {}
    for name, target in targets.items():
        empty = read_obs(store, name, 0, 0)
        kind = str(empty.dtype) if isinstance(empty, np.ndarray) else _TEXT
        arrays[name] = array(f"obs/{target}", (rows,), kind, chunk)
    bands = []
    for name, band in selection.view.bands.items():
        dim = band.stop - band.start
        block = (min(rows, selection.view.block_rows), dim)
        matrix = array(f"obsm/X_{name}", (rows, dim), dtype, block)
        bands.append((band, matrix, array(f"obs/filled_{name}", (rows,), "bool", chunk)))
    done = 0
    for segment in selection.segments():  # a chunk of each column: written once, if rows begin one
        end = done + len(segment)
        for name, column in arrays.items():
            if name not in SEQUENCES:
                column[done:end] = _as_written(segment.column(name))
        certified = np.empty((len(bands), len(segment)), dtype=bool)
        for batch in segment.batches():
            here = slice(batch.start - segment.start, batch.stop - segment.start)
            there = slice(done + here.start, done + here.stop)
            for name in SEQUENCES if sequences else ():
                arrays[name][there] = _as_written(batch.column(name))
            merged = batch.values(dtype)
            for number, (band, embeddings, _) in enumerate(bands):
                embeddings[there] = merged[:, band]
                certified[number, here] = ~np.isnan(merged[:, band.start])  # such a row is finite
        for number, (_, _, filled) in enumerate(bands):
            filled[done:end] = certified[number]
        done = end


def _as_written(values: NDArray[Any] | Ragged) -> NDArray[Any]:
    return values if isinstance(values, np.ndarray) else np.array(values.decode(), dtype=object)
