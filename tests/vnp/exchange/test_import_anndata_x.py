"""Embeddings in AnnData: in X, as programs write it that have nothing else; texts with a mask."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from store.store import Store
from tests.vnp.exchange.embedding_forms import ROWS, assert_imported, made, twin_samples
from tests.vnp.exchange.stores import ids
from vnp.exchange.embedding_rows import EmbeddingFileError
from vnp.exchange.import_embeddings import import_embeddings

pytestmark = pytest.mark.slow

anndata = pytest.importorskip("anndata")
pandas = pytest.importorskip("pandas")


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("others", [False, True])
def test_x_is_taken_by_name_or_where_it_is_all_there_is(
    store: Store, tmp_path: Path, suffix: str, others: bool
) -> None:
    values = made()
    data = anndata.AnnData(X=values, obs=pandas.DataFrame(index=ids(store)))
    if others:
        data.obsm["pca"] = np.zeros((ROWS, 2), np.float32)
        data.obsm["umap"] = np.zeros((ROWS, 2), np.float32)
    path = tmp_path / f"x{suffix}"
    data.write_h5ad(path) if suffix == ".h5ad" else data.write_zarr(path)
    if others:
        with pytest.raises(EmbeddingFileError, match="say which with --key, X for"):
            import_embeddings(store, [path], model="mine")
    report = import_embeddings(store, [path], model="mine", key="X" if others else None)
    assert report.format == "AnnData, X"
    assert_imported(store.path, values, report)


def with_masks(
    path: Path, names: list[str], samples: list[str], masks: dict[str, list[bool]]
) -> Path:
    """A file as anndata 0.13 writes it with pandas 3: texts are values and a mask."""
    with h5py.File(path, "w") as file:
        file["obsm/X_mine"] = made()
        obs = file.create_group("obs")
        obs.attrs["_index"] = "record"
        for column, texts in (("record", names), ("sample", samples)):
            obs.create_dataset(f"{column}/values", data=texts, dtype=h5py.string_dtype())
            obs[f"{column}/mask"] = masks.get(column, [False] * ROWS)
    return path


def test_texts_may_have_a_mask(tmp_path: Path) -> None:
    store = twin_samples(tmp_path / "run.zarr", rows=20)
    samples = ["one"] * 20 + ["two"] * 20
    path = with_masks(tmp_path / "e.h5ad", ids(store), samples, {})
    assert_imported(store.path, made(), import_embeddings(store, [path], model="mine"))


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({"record": [False] * 3 + [True] * 37}, "names of obs: record 4 has none"),
        ({"record": [False] * 39}, "obs/record has a mask that does not fit"),
        ({"sample": [True] * 40}, "40 are not there"),
    ],
    ids=["a record without name", "a mask too short", "no sample"],
)
def test_what_a_mask_hides_is_not_taken(
    tmp_path: Path, masks: dict[str, list[bool]], words: str
) -> None:
    store = twin_samples(tmp_path / "run.zarr", rows=20)
    path = with_masks(tmp_path / "e.h5ad", ids(store), ["one"] * 40, masks)
    with pytest.raises(EmbeddingFileError, match=words):
        import_embeddings(store, [path], model="mine")


@pytest.mark.parametrize("count", [5, 41])
def test_samples_are_one_a_record(tmp_path: Path, count: int) -> None:
    store = twin_samples(tmp_path / "run.zarr", rows=20)
    path = with_masks(tmp_path / "e.h5ad", ids(store), ["one"] * count, {"sample": [False] * count})
    with pytest.raises(EmbeddingFileError, match=f"sample names {count} records, and there are 40"):
        import_embeddings(store, [path], model="mine")
