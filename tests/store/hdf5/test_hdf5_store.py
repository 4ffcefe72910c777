"""The HDF5 backend under the conformance class, reached around it with plain h5py."""

from __future__ import annotations

import h5py
import numpy as np

from store.store import Store
from tests.store.conformance import StoreConformance


class TestHdf5Store(StoreConformance):
    suffix = ".h5"

    def raw_get(self, store: Store, model: str, block: int) -> np.ndarray:
        with h5py.File(store.path, "r") as tree:
            return tree[f"obsm/X_{model}"][block * self.R : (block + 1) * self.R]

    def raw_set(self, store: Store, model: str, block: int, rows: np.ndarray) -> None:
        with h5py.File(store.path, "r") as tree:
            dataset = tree[f"obsm/X_{model}"]
            [at] = [
                chunk.byte_offset
                for chunk in (dataset.id.get_chunk_info(i) for i in range(store.n_blocks))
                if chunk.chunk_offset[0] == block * self.R
            ]
        chunk = np.zeros((self.R, rows.shape[1]), dtype="<f2")
        chunk[: len(rows)] = rows
        with store.path.open("r+b") as file:
            file.seek(at)
            file.write(chunk.tobytes())

    def raw_provenance(self, store: Store, model: str, *, vanish: bool) -> str:
        with h5py.File(store.path, "r") as tree:
            at = tree[f"uns/vnp/{model}"].id.get_offset()
        with store.path.open("r+b") as file:
            file.seek(at)
            file.write(bytes(16384) if vanish else b"{}".ljust(16384, b"\0"))
        return f"uns/vnp/{model}"
