"""Embeddings in HDF5 (one dataset a record, or a matrix and its ids) and in AnnData.

One dataset a record is how bio-embeddings, protspace and UniProt give per-protein embeddings; where
its name is not the id, as bio-embeddings has it, the attribute ``original_id`` is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from store.io.optional import require
from store.io.words import count
from vnp.exchange.embedding_rows import (
    EmbeddingFile,
    EmbeddingFileError,
    Rows,
    check_counts,
    check_row_shape,
    checked_dim,
    checked_ids,
    checked_type,
    matrix_batches,
    reading,
    shown,
    stacked,
)

_MOST_LINKS = 16  # soft ones that lead to one another


def open_hdf5(path: Path, *, key: str | None, model: str) -> EmbeddingFile:
    """Open an HDF5 file: AnnData, datasets ``embeddings`` and ``ids``, or a dataset a record."""
    with _hdf5(path) as (h5py, file):
        names = _names(path, file)
        if {"obsm", "obs"} <= set(names):
            return _open_anndata(path, file, key=key, model=model)
        if key is not None:
            raise EmbeddingFileError(f"{path} is not an AnnData: --key has nothing to choose there")
        both = {"embeddings", "ids"} <= set(names)
        if both and getattr(matrix := _item(h5py, file, "embeddings", path), "ndim", 0) == 2:
            dtype = checked_type(matrix.dtype, where=f"{path}: embeddings")
            dim = checked_dim(matrix.shape[1], where=str(path))
            found = _item(h5py, file, "ids", path)
            ids = _ids(found, len(matrix), path=path, ids_from=f"{path}: ids")
            form = "HDF5, embeddings and ids"
            return EmbeddingFile(path, form, dim, dtype, lambda: _of_hdf5(path, "embeddings", ids))
        names = []
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        if not names:
            raise EmbeddingFileError(f"{path} holds no dataset")
        if not all(isinstance(name, str) for name in names):
            raise EmbeddingFileError(f"{path}: the name of a dataset is not UTF-8 text")
        first = _dataset(h5py, file, names[0], path)
        where = f"{path}: record 1 ({shown(names[0])})"
        dim = check_row_shape(first.shape, None, where=where)
        dtype = checked_type(first.dtype, where=where)
        escaped = "escaped" in file.attrs  # as vnp export writes them

    def single() -> Iterator[tuple[str, NDArray[Any]]]:
        with _hdf5(path) as (h5py, file):
            for number, name in enumerate(names, start=1):
                found = _dataset(h5py, file, name, path)
                check_row_shape(found.shape, dim, where=f"{path}: record {number} ({shown(name)})")
                original = found.attrs.get("original_id")
                if isinstance(original, bytes):
                    original = original.decode(errors="surrogateescape")
                record = original if isinstance(original, str) else name
                yield unquote(record) if escaped else record, found[()]

    form = "HDF5, a dataset a record"
    return EmbeddingFile(path, form, dim, dtype, lambda: stacked(single(), dim, path=path))


@contextmanager
def _hdf5(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open an HDF5 file; yield the library and the file."""
    h5py = require("h5py", for_what=f"{path}: embeddings in HDF5")
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        yield h5py, file


def _names(path: Path, group: Any) -> list[str]:
    """Names in a group, whose targets are not looked at."""
    names = list(group)
    if not all(isinstance(name, str) for name in names):
        raise EmbeddingFileError(f"{path}: the name of a dataset is not UTF-8 text")
    return names


def _dataset(h5py: Any, file: Any, name: str, path: Path) -> Any:
    """A dataset that `_item` finds."""
    found = _item(h5py, file, name, path)
    if not isinstance(found, h5py.Dataset):
        raise EmbeddingFileError(f"{path}: {shown(name)} is not a dataset")
    return found


def _item(h5py: Any, file: Any, name: str, path: Path, *, links: int = 0) -> Any:
    """A group, or a dataset whose numbers are in this very file: the file may be a stranger's.

    No link to another file is followed, not even to look what is there.
    """
    elsewhere = f"{path}: {shown(name)} refers to other files, which are not read"
    at = file
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts, start=1):
        link = at.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink) or links > _MOST_LINKS:
            raise EmbeddingFileError(elsewhere)
        if isinstance(link, h5py.SoftLink):
            start = "" if link.path.startswith("/") else f"{at.name}/"
            target = "/".join([f"{start}{link.path}", *parts[number:]])
            return _item(h5py, file, target, path, links=links + 1)
        at = at[part]
    if isinstance(at, h5py.Dataset):
        if at.is_virtual or at.external:
            raise EmbeddingFileError(elsewhere)
        if at.shape is None:
            raise EmbeddingFileError(f"{path}: {shown(name)} holds nothing")
    return at


def _of_hdf5(
    path: Path, name: str, ids: list[str], samples: list[str] | None = None
) -> Iterator[Rows]:
    with _hdf5(path) as (h5py, file):
        matrix = _dataset(h5py, file, name, path)
        yield from matrix_batches(matrix, ids, samples=samples, where=f"{path}: {name}")


def open_anndata_zarr(path: Path, *, key: str | None, model: str) -> EmbeddingFile:
    """Open an AnnData that is a Zarr directory."""
    zarr = require("zarr", for_what=f"{path}: embeddings in Zarr")
    with reading(path, "a Zarr group"):
        root = zarr.open_group(path, mode="r")
        if "obsm" not in root or "obs" not in root:
            raise EmbeddingFileError(f"{path} is not an AnnData: it has no obs and obsm")
        return _open_anndata(path, root, key=key, model=model)


def _open_anndata(path: Path, root: Any, *, key: str | None, model: str) -> EmbeddingFile:
    """Open a matrix of ``obsm``, or ``X``; ids are the names of ``obs``, samples its ``sample``."""
    if "vnp" in root.attrs:
        raise EmbeddingFileError(
            f"{path} is a vnp store, whose rows count only where they are certified: write them to "
            "a file with 'vnp export' first (or copy a whole store with 'vnp convert')"
        )
    of_hdf5 = not hasattr(root, "store")  # which groups of Zarr have

    def item(name: str) -> Any:
        return (
            _item(require("h5py", for_what=str(path)), root, name, path) if of_hdf5 else root[name]
        )

    keys = sorted(_names(path, item("obsm")))
    wanted = [key] if key is not None else [f"X_{model}", model]
    chosen = next((name for name in wanted if name in keys), None)
    if chosen is None and key is None and len(keys) == 1:
        chosen = keys[0]
    in_x = "X" in root and chosen is None and (key == "X" or (key is None and not keys))
    if in_x:  # as programs write it that have nothing but embeddings
        chosen = "X"
    if chosen is None:
        raise EmbeddingFileError(
            f"{path}: obsm has {', '.join(map(shown, keys[:10])) or 'nothing'}, and not "
            f"{' or '.join(wanted)}: say which with --key, X for the matrix of that name"
        )
    name = "X" if in_x else f"obsm/{chosen}"
    matrix = item(name)
    if len(getattr(matrix, "shape", ())) != 2:
        raise EmbeddingFileError(f"{path}: {name} is not a dense matrix of rows and columns")
    dtype = checked_type(matrix.dtype, where=f"{path}: {name}")
    dim = checked_dim(matrix.shape[1], where=f"{path}: {name}")
    obs = item("obs")
    column, missing = _column(item, f"obs/{obs.attrs.get('_index', '_index')}", path)
    ids = _ids(column, matrix.shape[0], path=path, ids_from=f"{path}: names of obs")
    if missing:
        raise EmbeddingFileError(f"{path}: names of obs: record {missing[0] + 1} has none")
    samples = _samples(item, path) if "sample" in set(obs) else None
    if samples is not None and len(samples) != len(ids):
        raise EmbeddingFileError(
            f"{path}: obs/sample names {count(len(samples), 'record')}, and there are {len(ids):,}"
        )

    def batches() -> Iterator[Rows]:
        if of_hdf5:
            yield from _of_hdf5(path, name, ids, samples)
            return
        with reading(path, "a Zarr group"):
            yield from matrix_batches(matrix, ids, samples=samples, where=f"{path}: {name}")

    return EmbeddingFile(path, f"AnnData, {name}", dim, dtype, batches)


def _samples(item: Callable[[str], Any], path: Path) -> list[str]:
    """The column ``sample`` of ``obs``: texts, some of them missing, or categories and codes."""
    where = f"{path}: obs/sample"
    column, missing = _column(item, "obs/sample", path)
    if hasattr(column, "shape"):
        texts = _texts(column, where=where)
        for row in missing:
            texts[row] = ""
        return texts
    names = np.array([*_texts(item("obs/sample/categories"), where=where), ""], dtype=object)
    codes = np.asarray(item("obs/sample/codes")[:])
    if codes.dtype.kind not in "iu" or ((codes < -1) | (codes >= len(names) - 1)).any():
        raise EmbeddingFileError(f"{path}: obs/sample has codes of no category")
    chosen: list[str] = names[codes].tolist()  # -1, which means none, is the empty name
    return chosen


def _column(item: Callable[[str], Any], name: str, path: Path) -> tuple[Any, list[int]]:
    """Array of a column of ``obs``, or the group of its categories; rows whose value is missing.

    AnnData writes pandas 3's texts as a group of values and a mask.
    """
    column = item(name)
    if hasattr(column, "shape") or not {"values", "mask"} <= set(column):
        return column, []
    values, mask = item(f"{name}/values"), item(f"{name}/mask")
    if getattr(mask, "shape", None) != getattr(values, "shape", None) or mask.dtype != bool:
        raise EmbeddingFileError(f"{path}: {shown(name)} has a mask that does not fit its values")
    return values, np.flatnonzero(mask[:]).tolist()


def _ids(array: Any, n_rows: int, *, path: Path, ids_from: str) -> list[str]:
    """Ids of an array of HDF5 or Zarr; that they are one a row is known before they are read."""
    shape: tuple[int, ...] = getattr(array, "shape", ())
    if len(shape) == 1:
        check_counts(shape[0], n_rows, path=path, ids_from=ids_from)
    ids = _texts(array, where=ids_from)
    checked_ids(ids, n_rows, path=path, ids_from=ids_from)
    return ids


def _texts(array: Any, *, where: str) -> list[str]:
    """Texts of an array of HDF5 or Zarr; bytes are taken for UTF-8."""
    if len(getattr(array, "shape", ())) != 1:
        raise EmbeddingFileError(f"{where}: a list of texts belongs there")
    values = array[:].tolist()
    texts = [
        item.decode(errors="surrogateescape") if isinstance(item, bytes) else item
        for item in values
    ]
    if not all(isinstance(item, str) for item in texts):
        raise EmbeddingFileError(f"{where}: numbers, where texts belong")
    return texts
