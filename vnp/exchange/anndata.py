"""Export as AnnData on disk, ``.h5ad`` or ``.zarr``, written column by column and block by block.

AnnData's own writer wants every column in memory; its format is public and simple enough to be
written in pieces: https://anndata.readthedocs.io/en/latest/fileformat-prose.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from store.io.optional import require
from store.read.adapters import SEQUENCES, obs_columns
from store.schema import COLUMN_CHUNK_ROWS
from vnp.exchange.selection import Selection

_TEXT = "text"


class _Tree(Protocol):
    """A file that groups and arrays are written into."""

    def group(self, path: str, attributes: Mapping[str, Any]) -> None: ...
    def array(
        self, path: str, shape: tuple[int, ...], dtype: str, chunk: tuple[int, ...], encoding: str
    ) -> Any: ...


def write_h5ad(selection: Selection, path: Path, *, dtype: str, sequences: bool) -> None:
    """Write one HDF5 file."""
    h5py = require("h5py", for_what="export to .h5ad")
    with h5py.File(path, "w") as file:
        _write(selection, _Hdf5Tree(file, h5py.string_dtype()), dtype, sequences)


def write_zarr(selection: Selection, path: Path, *, dtype: str, sequences: bool) -> None:
    """Write a directory of Zarr format 3."""
    zarr = require("zarr", for_what="export to .zarr")
    root = zarr.open_group(path, mode="w", zarr_format=3)
    _write(selection, _ZarrTree(root), dtype, sequences)


def _write(selection: Selection, tree: _Tree, dtype: str, sequences: bool) -> None:
    store, rows = selection.store, len(selection)
    columns = [*obs_columns(store), *(SEQUENCES if sequences else ())]
    flags = [f"filled_{model.name}" for model in selection.view.models]
    tree.group("", _encoding("anndata", "0.1.0"))
    listed = ["sample", *columns, *flags]
    frame = _encoding("dataframe", "0.2.0")
    tree.group("obs", {**frame, "_index": "_index", "column-order": listed})
    tree.group("obs/sample", {**_encoding("categorical", "0.2.0"), "ordered": False})
    tree.group("obsm", _encoding("dict", "0.1.0"))
    tree.group("uns", _encoding("dict", "0.1.0"))
    tree.group("uns/vnp", _encoding("dict", "0.1.0"))
    tree.group("var", {**frame, "_index": "_index", "column-order": []})
    tree.array("var/_index", (0,), _TEXT, (1,), "string-array")
    names = [sample.name for sample in store.schema.samples]
    categories = tree.array(
        "obs/sample/categories", (len(names),), _TEXT, (len(names),), "string-array"
    )
    categories[:] = np.array(names, dtype=object)
    for model in selection.view.models:
        text = tree.array(f"uns/vnp/{model.name}", (), _TEXT, (), "string")
        text[()] = json.dumps(store.provenance(model.name), sort_keys=True)

    targets = {"id": "_index", "sample": "sample/codes"} | {name: name for name in columns}
    chunk = (min(rows, COLUMN_CHUNK_ROWS),)
    arrays = {}
    for name, target in targets.items():
        empty = store.column(name, 0, 0)
        kind = str(empty.dtype) if isinstance(empty, np.ndarray) else _TEXT
        encoding = "string-array" if kind == _TEXT else "array"
        arrays[name] = tree.array(f"obs/{target}", (rows,), kind, chunk, encoding)
    bands = [
        (
            band,
            tree.array(
                f"obsm/X_{name}",
                (rows, band.stop - band.start),
                dtype,
                (min(rows, selection.view.block_rows), band.stop - band.start),
                "array",
            ),
            tree.array(f"obs/filled_{name}", (rows,), "bool", chunk, "array"),
        )
        for name, band in selection.view.bands.items()
    ]
    done = 0
    for batch in selection.batches():
        end = done + len(batch)
        for name, array in arrays.items():
            values = store.column(name, batch.start, batch.stop)
            array[done:end] = (
                values
                if isinstance(values, np.ndarray)
                else np.array(values.decode(), dtype=object)
            )
        matrix = batch.values(dtype)
        for band, array, filled in bands:
            array[done:end] = matrix[:, band]
            filled[done:end] = ~np.isnan(matrix[:, band.start])  # a certified row is finite
        done = end


class _Hdf5Tree:
    def __init__(self, file: Any, text: Any) -> None:
        self._file = file
        self._text = text

    def group(self, path: str, attributes: Mapping[str, Any]) -> None:
        node = self._file.require_group(path) if path else self._file
        for name, value in attributes.items():
            if isinstance(value, list):  # an empty list has no type of its own
                node.attrs.create(name, np.array(value, dtype=object), dtype=self._text)
            else:
                node.attrs[name] = value

    def array(
        self, path: str, shape: tuple[int, ...], dtype: str, chunk: tuple[int, ...], encoding: str
    ) -> Any:
        kind = self._text if dtype == _TEXT else np.dtype(dtype)
        array = self._file.create_dataset(
            path, shape, dtype=kind, chunks=chunk if all(shape) else None
        )
        array.attrs.update(_encoding(encoding, "0.2.0"))
        return array


class _ZarrTree:
    def __init__(self, root: Any) -> None:
        self._root = root

    def group(self, path: str, attributes: Mapping[str, Any]) -> None:
        node = self._root.create_group(path) if path else self._root
        node.attrs.update(attributes)

    def array(
        self, path: str, shape: tuple[int, ...], dtype: str, chunk: tuple[int, ...], encoding: str
    ) -> Any:
        return self._root.create_array(
            path,
            shape=shape,
            dtype=str if dtype == _TEXT else dtype,
            chunks=chunk,
            fill_value="" if dtype == _TEXT else 0,
            attributes=_encoding(encoding, "0.2.0"),
        )


def _encoding(kind: str, version: str) -> dict[str, str]:
    return {"encoding-type": kind, "encoding-version": version}
