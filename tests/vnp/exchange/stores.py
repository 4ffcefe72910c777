"""Stores to export from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from store.io.ragged import from_items
from store.open import create_store
from store.rows import RowBatch
from store.schema import Model
from store.store import Store
from tests.rows import append, batch, commit, expected, publish

DEMO = (Model("demo_dnabert_s", 6), Model("demo_esm2", 5))


def demo(path: Path, rows: int = 40, *, gaps: bool = False) -> Store:
    """Two samples; with ``gaps`` the block 1 of the DNA model is open."""
    store = create_store(path, models=DEMO, segment_length=500, block_rows=16)
    append(store, "first", rows - 10)
    append(store, "second", 10)
    for model in DEMO:
        for block in range(store.n_blocks):
            if not (gaps and model is DEMO[0] and block == 1):
                publish(store, model.name, block)
    return store


def merged(store: Store) -> np.ndarray:
    return np.concatenate([expected(store, model.name) for model in store.schema.models], axis=1)


def ids(store: Store) -> list[str]:
    return store.column("id").decode()  # type: ignore[union-attr]


def named_store(path: Path, names: list[str]) -> Store:
    """One sample whose records have these ids."""
    store = create_store(path, models=DEMO, segment_length=500, block_rows=16)
    with store.appending() as appending:
        part = batch("x", 0, len(names))
        columns = {field: getattr(part, field) for field in part.__slots__}
        appending.write(RowBatch(**{**columns, "id": from_items([n.encode() for n in names])}))
        commit(appending, "x", len(names))
    for model in DEMO:
        publish(store, model.name, 0)
    return store
