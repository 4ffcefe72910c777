"""Embeddings in an AnnData's X, as programs write it that have nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from store.store import Store
from tests.vnp.exchange.embedding_forms import ROWS, assert_imported, made
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
