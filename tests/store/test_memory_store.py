"""The backend in memory under the conformance class, and views of a store without files."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np

from store.backend import Cell, Part
from store.schema import Schema
from store.store import Store
from tests.rows import MODELS, append, expected, publish
from tests.store.conformance import StoreConformance
from tests.store.memory_backend import BUCKETS, CRC_BYTES, MemoryBackend


class TestMemoryStore(StoreConformance):
    suffix = ".memory"

    def new(self, path: Path) -> Store:
        schema = Schema(block_rows=self.R, segment_length=500, models=MODELS, contig_lengths=True)
        return Store(MemoryBackend.new(path, schema))

    def open(self, path: Path) -> Store:
        return Store(MemoryBackend.open(path))

    def contents(self, store: Store) -> object:
        bucket = BUCKETS[store.path]
        return bucket.commit, copy.copy(bucket.cells)

    def raw_get(self, store: Store, model: str, block: int) -> np.ndarray:
        raw = BUCKETS[store.path].cells[Cell(Part.VALUES, model, block)]
        return np.frombuffer(raw[CRC_BYTES:], "<f2").reshape(self.R, -1)

    def raw_set(self, store: Store, model: str, block: int, rows: np.ndarray) -> None:
        content, _ = MemoryBackend.open(store.path).encode(model, rows)
        BUCKETS[store.path].cells[Cell(Part.VALUES, model, block)] = content

    def raw_provenance(self, store: Store, model: str, *, vanish: bool) -> str:
        cell = Cell(Part.PROVENANCE, model)
        BUCKETS[store.path].cells[cell] = bytes(40)
        if vanish:
            del BUCKETS[store.path].cells[cell]
        return f"provenance/{model}/0"

    def test_a_view_reads_where_nothing_can_be_mapped(self, store: Store) -> None:
        append(store, "a", 40)
        for block in range(3):
            publish(store, "small", block)
        np.testing.assert_array_equal(store["small"][5:39:3], expected(store, "small")[5:39:3])
        np.testing.assert_array_equal(store["small"][[39, 0]], expected(store, "small")[[39, 0]])
