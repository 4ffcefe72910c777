"""Files of embeddings that others made, of whichever kind: told by the suffix."""

from __future__ import annotations

from pathlib import Path

from store.errors import UsageError
from store.location import require_local
from vnp.exchange.embedding_arrays import open_npy, open_npz, open_table
from vnp.exchange.embedding_containers import open_anndata_zarr, open_hdf5
from vnp.exchange.embedding_parquet import open_parquet
from vnp.exchange.embedding_rows import EmbeddingFile, EmbeddingFileError

_WITH_KEY = (".csv", ".tsv", ".h5ad", ".zarr", ".h5", ".hdf5", ".parquet")
SUFFIXES = (".npy", ".npz", *_WITH_KEY)


def open_embeddings(
    path: Path, *, model: str, ids: Path | None = None, key: str | None = None
) -> EmbeddingFile:
    """Open a file of embeddings.

    Parameters
    ----------
    path
        The file, or the directory of a ``.zarr``.
    model
        Name of the model, which a key or column of the file may be called by.
    ids
        Of an ``.npy``: the file with the ids of its rows, one a line.
    key
        Of AnnData the key of ``obsm``; of Parquet a column of lists; of a table with a column for
        each number see `vnp.exchange.embedding_columns.embedding_columns`.

    Raises
    ------
    UsageError
        If the suffix is none of `SUFFIXES`, an option does not fit it, or a package is missing.
    EmbeddingFileError
        If the file is missing, damaged, or not of this form.
    """
    suffix = path.suffix
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: embeddings are read from files that end in {', '.join(SUFFIXES)}"
        )
    if ids is not None and suffix != ".npy":
        raise UsageError(f"--ids is for .npy, which has no place for them; {path} has its own")
    if key is not None and suffix not in _WITH_KEY:
        raise UsageError(f"--key is for AnnData, Parquet and tables; {path} has one matrix")
    for each in (path, ids):
        if each is None:
            continue
        require_local(each)
        if not each.exists():
            raise EmbeddingFileError(f"{each} does not exist")
    if path.is_dir() != (suffix == ".zarr"):
        raise EmbeddingFileError(
            f"{path} is {'a directory' if path.is_dir() else 'a file'}, which a {suffix} is not"
        )
    for each in (path, ids):
        if each is not None and not (each.is_file() or each.is_dir()):
            raise EmbeddingFileError(f"{each} is not a file: it is read more than once")
    if suffix == ".npy":
        return open_npy(path, ids)
    if suffix == ".npz":
        return open_npz(path)
    if suffix in (".csv", ".tsv"):
        return open_table(path, key=key, model=model)
    if suffix == ".zarr":
        return open_anndata_zarr(path, key=key, model=model)
    if suffix == ".parquet":
        return open_parquet(path, key=key, model=model)
    return open_hdf5(path, key=key, model=model)
