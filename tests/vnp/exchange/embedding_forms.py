"""Embeddings of others in each form that can be imported, and stores to import them into."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from store.open import create_store, open_store
from store.schema import Model
from store.store import Store
from tests.rows import append, batch, commit
from vnp.exchange.import_embeddings import EmbeddingImport

SMALL = Model("small", 8)
DIM = 6
ROWS = 40


def new_store(path: Path) -> Store:
    """Two samples, 30 and 10 rows; blocks of 16."""
    store = create_store(path, models=[SMALL], segment_length=500, block_rows=16)
    append(store, "first", 30)
    append(store, "second", 10)
    return store


def twin_samples(path: Path, *, rows: int = 10) -> Store:
    """Two samples whose records are called the same."""
    store = create_store(path, models=[SMALL], segment_length=500, block_rows=16)
    for name in ("one", "two"):
        with store.appending() as appending:
            appending.write(batch("x", 0, rows))
            commit(appending, name, rows)
    return store


def made(rows: int = ROWS, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(rows, dim)).astype("f4")


def npy(folder: Path, names: list[str], values: np.ndarray) -> Path:
    np.save(folder / "e.npy", values)
    (folder / "e.rows.tsv").write_text("row\tid\n" + "".join(f"0\t{name}\n" for name in names))
    return folder / "e.npy"


def npy_by_column(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return npy(folder, names, np.asfortranarray(values))


def npz_matrix(folder: Path, names: list[str], values: np.ndarray) -> Path:
    np.savez_compressed(folder / "e.npz", embeddings=values, ids=np.array(names))
    return folder / "e.npz"


def npz_single(folder: Path, names: list[str], values: np.ndarray) -> Path:
    np.savez(folder / "e.npz", **dict(zip(names, values, strict=True)))
    return folder / "e.npz"


def csv_with_header(folder: Path, names: list[str], values: np.ndarray) -> Path:
    with (folder / "e.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", *range(values.shape[1])])  # as pandas writes it
        writer.writerows([name, *map(float, row)] for name, row in zip(names, values, strict=True))
    return folder / "e.csv"


def tsv_without_header(folder: Path, names: list[str], values: np.ndarray) -> Path:
    rows = zip(names, values.tolist(), strict=True)
    lines = ["\t".join([name, *map(repr, row)]) for name, row in rows]
    (folder / "e.tsv").write_text("\r\n".join(lines) + "\r\n\r\n")
    return folder / "e.tsv"


def h5_single(folder: Path, names: list[str], values: np.ndarray) -> Path:
    with h5py.File(folder / "e.h5", "w") as file:
        for name, row in zip(names, values, strict=True):
            file[name] = row[None]  # one row of one record
    return folder / "e.h5"


def bio_embeddings(folder: Path, names: list[str], values: np.ndarray) -> Path:
    with h5py.File(folder / "e.hdf5", "w") as file:
        for number, (name, row) in enumerate(zip(names, values, strict=True)):
            file.create_dataset(str(number), data=row, compression="gzip")
            file[str(number)].attrs["original_id"] = name
    return folder / "e.hdf5"


def h5_matrix(folder: Path, names: list[str], values: np.ndarray) -> Path:
    with h5py.File(folder / "e.h5", "w") as file:
        file.create_dataset("embeddings", data=values)
        file.create_dataset("ids", data=names, dtype=h5py.string_dtype())
    return folder / "e.h5"


def anndata_file(folder: Path, names: list[str], values: np.ndarray, suffix: str) -> Path:
    anndata = pytest.importorskip("anndata")
    import pandas

    data = anndata.AnnData(obs=pandas.DataFrame(index=names))
    data.obsm["other"] = np.zeros((len(names), 3), "f4")
    data.obsm["X_mine"] = values
    (data.write_h5ad if suffix == ".h5ad" else data.write_zarr)(folder / f"e{suffix}")
    return folder / f"e{suffix}"


def h5ad(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return anndata_file(folder, names, values, ".h5ad")


def zarr(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return anndata_file(folder, names, values, ".zarr")


def parquet_file(folder: Path, columns: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(columns), folder / "e.parquet", row_group_size=7)
    return folder / "e.parquet"


def parquet_lists(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return parquet_file(folder, {"id": names, "embedding": values.tolist(), "length": [1] * ROWS})


def parquet_columns(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return parquet_file(folder, {"id": names, **{f"d{n}": values[:, n] for n in range(DIM)}})


WRITERS: dict[str, Callable[[Path, list[str], np.ndarray], Path]] = {
    writer.__name__: writer
    for writer in (
        npy, npy_by_column, npz_matrix, npz_single, csv_with_header, tsv_without_header,
        h5_single, bio_embeddings, h5_matrix, h5ad, zarr, parquet_lists, parquet_columns,
    )
}  # fmt: skip


def assert_imported(path: Path, values: np.ndarray, report: EmbeddingImport) -> None:
    store = open_store(path)
    np.testing.assert_array_equal(store.read("mine"), values.astype("f2"))
    assert store.certify("mine").complete
    assert list(store.verify()) == []
    assert list(store.sidecar.tmp.iterdir()) == []
    assert report.complete
    assert (report.leftovers_file, report.unknown, report.without, report.waiting) == ("", 0, 0, 0)
    assert (report.matched, report.rows, report.certified) == (ROWS, ROWS, ROWS)
