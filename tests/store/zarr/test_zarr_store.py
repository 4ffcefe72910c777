"""The Zarr backend under the conformance class."""

from __future__ import annotations

import google_crc32c
import numpy as np

from store.store import Store
from tests.store.conformance import StoreConformance


class TestZarrStore(StoreConformance):
    suffix = ".zarr"

    def raw_get(self, store: Store, model: str, block: int) -> np.ndarray:
        raw = (store.path / f"obsm/X_{model}/c.{block}.0").read_bytes()[:-4]
        return np.frombuffer(raw, "<f2").reshape(self.R, -1)

    def raw_set(self, store: Store, model: str, block: int, rows: np.ndarray) -> None:
        chunk = np.full((self.R, rows.shape[1]), np.nan, dtype="<f2")
        chunk[: len(rows)] = rows
        body = chunk.tobytes()
        crc = google_crc32c.value(body).to_bytes(4, "little")
        (store.path / f"obsm/X_{model}/c.{block}.0").write_bytes(body + crc)

    def raw_provenance(self, store: Store, model: str, *, vanish: bool) -> str:
        name = f"uns/vnp/{model}/c"
        if vanish:
            (store.path / name).unlink()
        else:
            (store.path / name).write_bytes(b"\0" * 40)
        return name
