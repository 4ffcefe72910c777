"""The Zarr backend: the conformance class, and what outside readers make of it."""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import numpy as np

from store.zarr_store import ZarrStore
from tests.rows import MODELS
from tests.store_conformance import StoreConformance


class TestZarrStore(StoreConformance):
    def create(self, folder: Path) -> ZarrStore:
        return ZarrStore.create(
            folder / "run.zarr", models=MODELS, segment_length=500, block_rows=self.R
        )

    def reopen(self, store: ZarrStore) -> ZarrStore:
        return ZarrStore.open(store.path)

    def raw_get(self, store: ZarrStore, model: str, block: int) -> np.ndarray:
        raw = (store.path / f"obsm/X_{model}/c.{block}.0").read_bytes()[:-4]
        return np.frombuffer(raw, "<f2").reshape(self.R, -1)

    def raw_set(self, store: ZarrStore, model: str, block: int, rows: np.ndarray) -> None:
        chunk = np.full((self.R, rows.shape[1]), np.nan, dtype="<f2")
        chunk[: len(rows)] = rows
        body = chunk.tobytes()
        crc = google_crc32c.value(body).to_bytes(4, "little")
        (store.path / f"obsm/X_{model}/c.{block}.0").write_bytes(body + crc)
