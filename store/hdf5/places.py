"""Where everything of an HDF5 store lies, asked of the HDF5 library."""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError, NotAStoreError
from store.hdf5.commit import COMMIT_BYTES
from store.hdf5.home import COMMIT, Home
from store.hdf5.layout import CHECKSUMS, HEAP, MAP, worker_columns
from store.hdf5.map import Places
from store.layout import provenance_column, row_columns
from store.schema import Schema, from_attribute


def worker_paths(schema: Schema) -> list[str]:
    """Datasets in chunks that workers write."""
    return [column.path for model in schema.models for column in worker_columns(schema, model)]


def checksummed_paths(schema: Schema) -> list[str]:
    """Datasets in chunks whose content has checksums of its own, or is one."""
    rows = [column.path for column in row_columns(schema).values()]
    return [*rows, HEAP, CHECKSUMS, *worker_paths(schema)]


def places_in(tree: Home, *, where: str) -> Places:
    """Ask the library where everything of a store lies; its structures' spans are left out.

    Raises
    ------
    NotAStoreError
        If the tree is not a store's.
    DamageError
        If its datasets are not laid out as a store's are.
    """
    text = tree.attrs.get("vnp")
    if not isinstance(text, str):
        raise NotAStoreError(
            f"{where} is not a vnp store: its root has no attribute 'vnp'; make one with "
            f"'vnp init {where}'"
        )
    try:
        value: Any = json.loads(text)
    except ValueError:
        raise NotAStoreError(f"{where}: the attribute 'vnp' is damaged: not JSON") from None
    schema = from_attribute(value, where=where)
    if COMMIT not in tree:
        raise DamageError(
            f"{where}: obs was rewritten by another program (AnnData's write() does that), and "
            "what vnp kept in it is gone, sequences and certificates among it: restore the file "
            "from a copy"
        )
    columns = row_columns(schema)
    names = [*(column.path for column in columns.values()), CHECKSUMS, *worker_paths(schema)]
    for name in names:
        if tree[name].id.get_create_plist().get_nfilters():
            raise DamageError(
                f"{where}: {name} is compressed; undo it: h5repack -f NONE {where} repacked.h5"
            )
    expected: dict[str, tuple[int, ...]] = {
        column.path: (schema.block_rows,) for column in columns.values()
    }
    for model in schema.models:
        expected |= {column.path: column.chunk for column in worker_columns(schema, model)[:2]}
    for name, chunk in expected.items():
        if tree[name].chunks != chunk:
            raise DamageError(f"{where}: {name} has chunks of {tree[name].chunks}, not {chunk}")
    chunks = {name: chunk_offsets(tree[name]) for name in names}
    return Places(schema, chunks, fixed_fields(tree, schema), int(tree[HEAP].chunks[0]))


def fixed_fields(tree: h5py.File | Home, schema: Schema) -> dict[str, tuple[int, int]]:
    """Offset and length of what is contiguous: commit record, map and provenances."""
    fields = {COMMIT: (int(tree[COMMIT].id.get_offset()), COMMIT_BYTES)}
    if MAP in tree:
        fields[MAP] = (int(tree[MAP].id.get_offset()), int(tree[MAP].shape[0]))
    for model in schema.models:
        path = provenance_column(model).path
        fields[path] = (int(tree[path].id.get_offset()), tree[path].dtype.itemsize)
    return fields


def chunk_offsets(dataset: h5py.Dataset) -> NDArray[np.int64]:
    """Byte at which each chunk along the first axis begins; -1 where there is none."""
    rows = dataset.chunks[0]
    offsets = np.full(-(-dataset.shape[0] // rows), -1, dtype=np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        number = chunk.chunk_offset[0] // rows
        if number < len(offsets):
            offsets[number] = chunk.byte_offset

    if len(offsets):
        dataset.id.chunk_iter(note)
    return offsets


def chunk_bytes(dataset: h5py.Dataset) -> int:
    """Bytes of a chunk."""
    size = dataset.id.get_type().get_size()
    for length in dataset.chunks:
        size *= length
    return int(size)
