"""Unmodified AnnData, xarray, dask, scanpy and zarr read a store, half filled and growing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from store.open import create_store
from store.store import Store
from tests.rows import MODELS, append, batch, commit, expected, nucleotide, publish

anndata = pytest.importorskip("anndata")
xarray = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")


@pytest.fixture(autouse=True)
def _outside_warnings() -> Iterator[None]:
    """Warnings that other packages give about themselves are theirs; ours stay errors."""
    with warnings.catch_warnings():
        for module in ("anndata", "zarr", "xarray", "scanpy", "dask", "numba", "sklearn", "umap"):
            warnings.filterwarnings("ignore", module=rf"{module}(\..*)?\Z")
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two samples; of model ``small`` blocks 1 and 3 are filled, of ``wide`` all."""
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "first", 40)
    append(store, "second", 17)
    for block in (1, 3):
        publish(store, "small", block)
    for block in range(store.n_blocks):
        publish(store, "wide", block)
    return store


def half_filled(store: Store) -> np.ndarray:
    values = expected(store, "small")
    rows = np.arange(len(values))
    values[(rows < 16) | ((rows >= 32) & (rows < 48))] = np.nan
    return values


def test_anndata_reads_it_whole(store: Store) -> None:
    data = anndata.read_zarr(store.path)
    assert data.shape == (57, 0)
    np.testing.assert_array_equal(data.obsm["X_small"], half_filled(store))
    np.testing.assert_array_equal(data.obsm["X_wide"], expected(store, "wide"))
    assert data.obs["sample"].tolist() == ["first"] * 40 + ["second"] * 17
    assert data.obs_names[41] == "second_1_chunk_1F1"
    assert data.obs["contig"].iloc[0] == "first_0"
    assert data.obs["end"].tolist()[:2] == [500, 510]
    np.testing.assert_array_equal(data.obs["filled_small"], ~np.isnan(half_filled(store)[:, 0]))
    assert data.obs["filled_wide"].all()
    assert "nucleotide" not in data.obs, "sequences are not loaded unasked"
    assert data.uns["vnp"]["small"] == '{"name": "small"}'


def test_anndata_reads_it_lazily(store: Store) -> None:
    from anndata.experimental import read_lazy

    data = read_lazy(store.path)
    assert data.shape == (57, 0)
    part = data[16:32].to_memory()
    np.testing.assert_array_equal(part.obsm["X_small"], expected(store, "small")[16:32])
    assert part.obs["strand"].tolist() == [-1, 1] * 8


def test_xarray_and_dask_read_it(store: Store) -> None:
    pytest.importorskip("dask")
    embeddings = xarray.open_zarr(store.path, group="obsm")
    assert embeddings.X_wide.dims == ("record", "wide_dim")
    assert embeddings.X_wide.chunks == ((16, 16, 16, 9), (20,))
    np.testing.assert_array_equal(embeddings.X_wide.values, expected(store, "wide"))
    mean = embeddings.X_wide.data.astype("f4").mean(axis=0).compute()
    np.testing.assert_allclose(mean, expected(store, "wide").astype("f4").mean(axis=0), rtol=1e-5)
    obs = xarray.open_zarr(store.path, group="obs")
    assert obs.protein.values[0] == "M"


def test_plain_zarr_reads_it(store: Store) -> None:
    tree = zarr.open_group(store.path, mode="r")
    np.testing.assert_array_equal(tree["obsm/X_small"][:], half_filled(store))
    assert tree["obs/nucleotide"][41] == nucleotide("second", 1).decode()
    assert tree["obs/digest"][:].tolist() == store.column("digest").tolist()
    assert tree["obs/certificate_small"][0] == ""
    assert '"rows":16' in str(tree["obs/certificate_small"][1])
    unconsolidated = zarr.open_group(store.path, mode="r", use_consolidated=False)
    np.testing.assert_array_equal(unconsolidated["obsm/X_small"][:], half_filled(store))


@pytest.mark.slow
def test_scanpy_uses_it(store: Store) -> None:
    scanpy = pytest.importorskip("scanpy")
    data = anndata.read_zarr(store.path)
    data = data[data.obs["filled_wide"].to_numpy()].copy()
    scanpy.pp.neighbors(data, n_neighbors=5, use_rep="X_wide")
    assert data.obsp["distances"].shape == (57, 57)


def test_readers_see_the_old_rows_until_the_commit(store: Store) -> None:
    before = zarr.open_group(store.path, mode="r")["obsm/X_wide"]
    old = expected(store, "wide")
    with store.appending() as appending:
        for first in range(0, 200, 50):
            appending.write(batch("third", first, 50))
        during = anndata.read_zarr(store.path)
        assert during.shape == (57, 0)
        np.testing.assert_array_equal(during.obsm["X_wide"], old)
        commit(appending, "third", 200)
    assert anndata.read_zarr(store.path).shape == (257, 0)
    np.testing.assert_array_equal(before[:], old)


def test_a_grown_tail_reads_right_for_old_and_new_readers(store: Store) -> None:
    old = zarr.open_group(store.path, mode="r")["obsm/X_wide"]
    was = expected(store, "wide")
    append(store, "third", 12)
    publish(store, "wide", 3)
    np.testing.assert_array_equal(old[:], was)
    data = anndata.read_zarr(store.path)
    np.testing.assert_array_equal(data.obsm["X_wide"][:64], expected(store, "wide")[:64])
    assert data.obs["filled_wide"].sum() == 64
