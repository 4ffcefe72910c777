"""The tree of an HDF5 store, made and grown through the HDF5 library.

It is the tree of :mod:`store.layout`, a valid h5ad; docs/format.md lists the differences.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from store.errors import UsageError
from store.geometry import n_blocks
from store.hdf5.commit import COMMIT_BYTES
from store.hdf5.heap import collection_bytes
from store.hdf5.home import COMMIT, MERGED, length_of, refer, set_aside
from store.hdf5.overlay import Overlay
from store.layout import (
    Column,
    category_column,
    certificate_column,
    embedding_column,
    filled_column,
    listed_columns,
    provenance_column,
    row_columns,
    score_columns,
)
from store.schema import Model, Schema, to_attribute

log = logging.getLogger(__name__)

HEAP = "obs/vnp/heap"  # letters of all string columns
MAP = "obs/vnp/map"  # raw content: see `store.hdf5.map`
CHECKSUMS = "obs/vnp/checksums"  # CRC-32C (n_blocks, columns): a block of each appender's column
_X = "X"  # no values: all are in obsm
CERTIFICATE_BYTES = 1024
# Bytes of a provenance: at least; and for each number of a row. int8 has 7 scales of a byte for
# each in each layer, in base64: 448 in 48 layers (ESM-2 15B) if they do not compress at all.
_PROVENANCE_LEAST, _PROVENANCE_PER_NUMBER = 16_384, 512
ALIGNMENT = 4096  # of whatever is at least so large
CERTIFICATES_PER_CHUNK = 16
CHECKSUMS_PER_CHUNK = 256

_UNLIMITED = h5py.h5s.UNLIMITED
_LEAST_MAP = 1 << 14  # bytes


def open_library(overlay: Overlay, mode: str) -> h5py.File:
    """Open the file behind an overlay: ``w`` to make it, ``r+`` to grow it, ``r`` to read it."""
    return h5py.File(
        overlay,
        mode,
        libver="earliest",
        alignment_threshold=ALIGNMENT,
        alignment_interval=ALIGNMENT,
    )


def create_tree(tree: h5py.File, schema: Schema) -> None:
    """Make the whole tree of a store without rows."""
    _encode(tree, "anndata", "0.1.0")
    obs = tree.create_group("obs")
    _encode(obs, "dataframe", "0.2.0", _index="_index")
    _encode(tree.create_group("obs/sample"), "categorical", "0.2.0", ordered=False)
    tree.create_group("obs/vnp")
    _contiguous(tree, COMMIT, (COMMIT_BYTES,), np.dtype("u1"))
    make_map(tree, 0)
    for column in row_columns(schema).values():
        _chunked(tree, column.path, _dtype(column), (0,), (schema.block_rows,), early=False)
    category = category_column(schema)
    _chunked(tree, category.path, h5py.string_dtype(), (0,), category.chunk, early=False)
    heap = collection_bytes(schema.block_rows, schema.segment_length)
    _chunked(tree, HEAP, np.dtype("u1"), (0,), (heap,), early=False)
    columns = len(row_columns(schema))
    _chunked(
        tree, CHECKSUMS, np.dtype("<u4"), (0, columns), (CHECKSUMS_PER_CHUNK, columns), early=False
    )
    var = tree.create_group("var")
    _encode(var, "dataframe", "0.2.0", _index="_index")
    var.attrs["column-order"] = np.empty(0, dtype=h5py.string_dtype())
    _chunked(tree, "var/_index", h5py.string_dtype(), (0,), (1,), early=False)
    for group in ("obsm", "uns", "uns/vnp"):
        _encode(tree.create_group(group), "dict", "0.1.0")
    for model in schema.models:
        _add_arrays(tree, schema, model)
    _grow_x(tree, schema)
    _write_schema(tree, schema)
    _write_merged(tree, schema)
    refer(tree)


def grow(tree: h5py.File, schema: Schema, checksums: dict[int, NDArray[np.uint32]]) -> None:
    """Make what is new in ``schema``, and grow everything but the row columns to its rows.

    ``checksums`` has the new row of ``obs/vnp/checksums`` for each block that got rows.
    """
    made = False
    if MAP not in tree:  # a file that was made before there was one
        make_map(tree, 0)
    for model in schema.models:
        if provenance_column(model).path not in tree:
            _add_arrays(tree, schema, model)
            made = True
            continue
        for column in worker_columns(schema, model):
            tree[column.path].resize(column.shape)
    for scores in schema.scores:
        for column in score_columns(schema, scores.name):
            tree[column.path].resize(column.shape)
    table = tree[CHECKSUMS]
    table.resize(n_blocks(schema.n_rows, schema.block_rows), axis=0)
    for block, row in sorted(checksums.items()):
        table[block] = row
    categories = tree[category_column(schema).path]
    had = categories.shape[0]
    categories.resize((len(schema.samples),))
    names = [sample.name for sample in schema.samples[had:]]
    if names:
        categories[had:] = np.array(names, dtype=object)
    set_aside(tree, schema)
    _grow_x(tree, schema)
    refer(tree)
    _write_schema(tree, schema)
    if made:
        _write_merged(tree, schema)


def make_map(tree: h5py.File, size: int) -> None:
    """Make the place of the map again, so that ``size`` bytes fit and it need not grow soon."""
    if MAP in tree:
        del tree[MAP]
    capacity = max(_LEAST_MAP, 1 << (2 * size).bit_length())
    _contiguous(tree, MAP, (capacity,), np.dtype("u1"))


def write_scores(
    tree: h5py.File,
    columns: list[Column],
    values: NDArray[np.float32],
    ranges: Iterable[tuple[int, int]],
    *,
    kept: int,
) -> None:
    """Rewrite both columns of scores; rows that are appended later read NaN."""
    scores = np.full((columns[0].shape[0], len(columns)), np.nan, dtype=np.float32)
    for at, column in enumerate(columns):
        if kept:
            scores[:kept, at] = tree[column.path][:kept]
    for start, stop in ranges:
        scores[start:stop] = values[start:stop]
    for at, column in enumerate(columns):
        if column.path in tree:
            del tree[column.path]
        tree.create_dataset(
            column.path,
            data=scores[:, at],
            dtype="<f4",
            maxshape=(None,),
            chunks=column.chunk,
            fillvalue=np.float32(np.nan),
        )
        _encode(tree[column.path], "array", "0.2.0")


def check_models(schema: Schema) -> None:
    """Refuse a model whose array would take the merged view's name."""
    if any(f"obsm/X_{model.name}" == MERGED for model in schema.models):
        raise UsageError("a model of an HDF5 store cannot be named 'merged': X_merged is the view")


def worker_columns(schema: Schema, model: Model) -> list[Column]:
    """Datasets of a model in chunks that workers write: embeddings, filled rows, certificates."""
    return [
        embedding_column(schema, model),
        filled_column(schema, model),
        certificate_column(schema, model),
    ]


def _add_arrays(tree: h5py.File, schema: Schema, model: Model) -> None:
    embedding, filled, certificate = worker_columns(schema, model)
    _chunked(tree, embedding.path, np.dtype("<f2"), embedding.shape, embedding.chunk)
    _chunked(tree, filled.path, np.dtype(np.bool_), filled.shape, filled.chunk)
    text = h5py.string_dtype("utf-8", CERTIFICATE_BYTES)
    _chunked(tree, certificate.path, text, certificate.shape, (CERTIFICATES_PER_CHUNK,))
    size = max(_PROVENANCE_LEAST, _PROVENANCE_PER_NUMBER * model.dim)
    _contiguous(tree, provenance_column(model).path, (), h5py.string_dtype("utf-8", size))
    _encode(tree[provenance_column(model).path], "string", "0.2.0")


def _write_schema(tree: h5py.File, schema: Schema) -> None:
    """Write the root attribute and the names of the columns that AnnData reads.

    Columns that another program added are named too, while they have a value for each row.
    """
    tree.attrs["vnp"] = json.dumps(to_attribute(schema), separators=(",", ":"))
    listed = listed_columns(schema)
    obs = tree["obs"]
    current = list(obs.attrs.get("column-order", ()))
    added = [name for name in current if name not in listed]
    for name in added:
        if length_of(obs, name) == schema.n_rows:
            listed.append(name)
        else:
            log.warning(
                "obs/%s, which another program added, has no value for new records: it stays in "
                "the file, but AnnData does not show it",
                name,
            )
    if current != listed:
        obs.attrs["column-order"] = np.array(listed, dtype=h5py.string_dtype())


def _grow_x(tree: h5py.File, schema: Schema) -> None:
    """Make or grow ``X``, (N, 0): AnnData opens no file without one in backed mode."""
    if _X in tree and tree[_X].maxshape != (None, None):  # AnnData's own
        del tree[_X]
    if _X not in tree:  # also of a file that was made before there was one
        chunk = (schema.block_rows, 1)
        tree.create_dataset(_X, (0, 0), np.float32, maxshape=(None, None), chunks=chunk)
        _encode(tree[_X], "array", "0.2.0")
    tree[_X].resize(schema.n_rows, axis=0)


def _write_merged(tree: h5py.File, schema: Schema) -> None:
    """Make ``X_merged`` again: all models side by side, with as many rows as they have."""
    if MERGED in tree:
        del tree[MERGED]
    if not schema.models:
        return
    width = sum(model.dim for model in schema.models)
    shape, longest = (schema.n_rows, width), (_UNLIMITED, width)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    first = 0
    for model in schema.models:
        target = h5py.h5s.create_simple(shape, longest)
        _select_rows(target, first, model.dim)
        source = h5py.h5s.create_simple((schema.n_rows, model.dim), (_UNLIMITED, model.dim))
        _select_rows(source, 0, model.dim)
        properties.set_virtual(target, b".", f"/obsm/X_{model.name}".encode(), source)
        first += model.dim
    kind = h5py.h5t.py_create(np.dtype("<f2"))
    space = h5py.h5s.create_simple(shape, longest)
    h5py.h5d.create(tree.id, MERGED.encode(), kind, space, properties)
    _encode(tree[MERGED], "array", "0.2.0")


def _select_rows(space: h5py.h5s.SpaceID, first: int, columns: int) -> None:
    """Select columns ``first ..`` of every row there is and will be."""
    space.select_hyperslab((0, first), (_UNLIMITED, 1), stride=(1, 1), block=(1, columns))


def _chunked(
    tree: h5py.File,
    path: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    *,
    early: bool = True,
) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(chunk)
    if early:  # the place of a chunk is known before anything is written into it
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape, (_UNLIMITED, *shape[1:]))
    _make(tree, path, dtype, space, properties)


def _contiguous(tree: h5py.File, path: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    _make(tree, path, dtype, space, properties)


def _make(
    tree: h5py.File,
    path: str,
    dtype: np.dtype,
    space: h5py.h5s.SpaceID,
    properties: h5py.h5p.PropDCID,
) -> None:
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(tree.id, path.encode(), kind, space, properties)
    is_text = h5py.check_string_dtype(dtype) is not None
    _encode(tree[path], "string-array" if is_text else "array", "0.2.0")


def _dtype(column: Column) -> np.dtype[Any]:
    if column.dtype == "string":
        text: np.dtype[Any] = h5py.string_dtype()
        return text
    return np.dtype(column.dtype).newbyteorder("<")


def _encode(node: h5py.HLObject, kind: str, version: str, **attributes: str | bool) -> None:
    node.attrs["encoding-type"] = kind
    node.attrs["encoding-version"] = version
    for name, value in attributes.items():
        node.attrs[name] = value
