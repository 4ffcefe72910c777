"""Unmodified h5py, AnnData and pyfive read an HDF5 store, half filled and growing."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from store.open import create_store
from store.store import Store
from tests.rows import MODELS, append, batch, commit, expected, nucleotide, publish

anndata = pytest.importorskip("anndata")
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _outside_warnings() -> Iterator[None]:
    """Warnings that other packages give about themselves are theirs; ours stay errors."""
    with warnings.catch_warnings():
        for module in ("anndata", "h5py", "pyfive", "zarr"):
            warnings.filterwarnings("ignore", module=rf"{module}(\..*)?\Z")
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two samples; of model ``small`` blocks 1 and 3 are filled, of ``wide`` all."""
    store = create_store(tmp_path / "run.h5ad", models=MODELS, segment_length=500, block_rows=16)
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
    values[(rows < 16) | ((rows >= 32) & (rows < 48))] = 0
    return values


@pytest.mark.parametrize("backed", [None, "r"])
def test_anndata_reads_it(store: Store, backed: str | None) -> None:
    data = anndata.read_h5ad(store.path, backed=backed)
    assert data.shape == (57, 0)
    np.testing.assert_array_equal(data.obsm["X_small"][:], half_filled(store))
    np.testing.assert_array_equal(data.obsm["X_wide"][:], expected(store, "wide"))
    np.testing.assert_array_equal(data.obsm["X_merged"][:, 8:], expected(store, "wide"))
    assert data.obs["sample"].tolist() == ["first"] * 40 + ["second"] * 17
    assert data.obs_names[41] == "second_1_chunk_1F1"
    assert data.obs["contig"].iloc[0] == "first_0"
    assert data.obs["filled_small"].sum() == 25
    assert data.obs["filled_wide"].all()
    assert "nucleotide" not in data.obs, "sequences are not loaded unasked"
    assert json.loads(data.uns["vnp"]["small"])["name"] == "small"
    if backed:
        data.file.close()


def test_plain_h5py_reads_it(store: Store) -> None:
    with h5py.File(store.path, "r") as tree:
        merged = np.hstack([half_filled(store), expected(store, "wide")])
        np.testing.assert_array_equal(tree["obsm/X_merged"][:], merged)
        np.testing.assert_array_equal(tree["obsm/X_merged"][[3, 20, 56]], merged[[3, 20, 56]])
        assert tree["obs/nucleotide"].asstr()[41] == nucleotide("second", 1).decode()
        assert tree["obs/digest"][:].tolist() == store.column("digest").tolist()
        assert tree["obs/certificate_small"][0] == b""
        assert b'"rows":16' in tree["obs/certificate_small"][1]


def test_pyfive_reads_it(store: Store) -> None:
    """An implementation that shares no code with the HDF5 library."""
    pyfive = pytest.importorskip("pyfive")
    with pyfive.File(str(store.path)) as tree:
        np.testing.assert_array_equal(tree["obsm/X_wide"][:], expected(store, "wide"))
        np.testing.assert_array_equal(tree["obsm/X_small"][:], half_filled(store))
        assert list(tree["obs/_index"][40:42]) == [b"second_0_chunk_1F1", b"second_1_chunk_1F1"]
        assert list(tree["obs/nucleotide"][:]) == store.column("nucleotide").tolist()
        assert tree["obs/end"][:].tolist() == store.column("end").tolist()
        assert json.loads(tree.attrs["vnp"])["block_rows"] == 16


def test_the_merged_view_grows_with_the_store(store: Store) -> None:
    from store.schema import Model

    append(store, "third", 12)
    publish(store, "wide", 3)
    publish(store, "wide", 4)
    store.add_model(Model("late", 4))
    publish(store, "late", 4)
    with h5py.File(store.path, "r") as tree:
        merged = tree["obsm/X_merged"]
        assert merged.shape == (69, 32)
        np.testing.assert_array_equal(merged[:, 8:28], expected(store, "wide"))
        np.testing.assert_array_equal(merged[64:, 28:], expected(store, "late")[64:])
        assert not merged[:64, 28:].any()


def test_readers_see_the_old_rows_until_the_commit(store: Store) -> None:
    old = expected(store, "wide")
    with h5py.File(store.path, "r") as before:
        with store.appending() as appending:
            for first in range(0, 200, 50):
                appending.write(batch("third", first, 50))
            during = anndata.read_h5ad(store.path)
            assert during.shape == (57, 0)
            np.testing.assert_array_equal(during.obsm["X_wide"], old)
            commit(appending, "third", 200)
        np.testing.assert_array_equal(before["obsm/X_wide"][:], old)
    assert anndata.read_h5ad(store.path).shape == (257, 0)


def test_unfilled_rows_read_zero_however_the_file_came_to_be(store: Store) -> None:
    """Rubbish that a killed appender left beyond the end does not show in new rows."""
    with store.path.open("ab") as file:
        file.write(b"\x55" * 200_000)
    append(store, "third", 50)
    with h5py.File(store.path, "r") as tree:
        assert not tree["obsm/X_wide"][57:].any()
        assert not tree["obs/filled_wide"][57:].any()
    assert list(store.verify()) == []


def test_r_reads_it(store: Store) -> None:
    """R's rhdf5, in a process of its own: Debian's r-bioc-rhdf5, which .ci/run installs."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("R is not installed (Debian: r-bioc-rhdf5)")
    probe = subprocess.run(
        [rscript, "-e", "library(rhdf5)"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip("R has no rhdf5 (Debian: r-bioc-rhdf5)")
    output = subprocess.run(
        [rscript, str(ROOT / "tools/read_h5.R"), str(store.path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    merged = np.concatenate([store.read(m.name) for m in store.schema.models], axis=1)
    total = np.nan_to_num(merged.astype("f8")).sum()
    assert f"rows: {store.n_rows}" in output
    assert f"merged: {merged.shape[1]} columns of {merged.shape[0]} rows" in output
    found = float(output.partition("checksum ")[2].split()[0])
    assert found == pytest.approx(total, rel=1e-5)
    for model in store.schema.models:
        filled = int(store.filled(model.name).sum())
        assert f"filled_{model.name} : {filled} of {store.n_rows} rows" in output


def test_anndata_takes_rows_of_a_file_in_backed_mode(store: Store) -> None:
    data = anndata.read_h5ad(store.path, backed="r")
    part = data[38:43].to_memory()
    data.file.close()
    assert part.shape == (5, 0)
    assert part.obs_names.tolist() == store.column("id", 38, 43).decode()
    np.testing.assert_array_equal(part.obsm["X_wide"], expected(store, "wide")[38:43])
    append(store, "third", 30)
    data = anndata.read_h5ad(store.path, backed="r")
    assert data[80:].to_memory().shape == (7, 0)
    data.file.close()
    assert list(store.verify()) == []
