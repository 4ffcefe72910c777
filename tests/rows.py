"""Made-up rows and embeddings with known values, for tests of the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from store.append import Append
from store.io.ragged import from_items
from store.open import create_store
from store.rows import RowBatch
from store.schema import Model
from store.store import Store

MODELS = (Model("small", 8), Model("wide", 20))


def batch(tag: str, first: int, count: int) -> RowBatch:
    """Rows ``first .. first + count`` of sample ``tag``, each with its own sequences."""
    numbers = np.arange(first, first + count)
    return RowBatch(
        id=from_items([f"{tag}_{n}_chunk_1F1".encode() for n in numbers]),
        contig=from_items([f"{tag}_{n}".encode() for n in numbers]),
        segment=np.ones(count, dtype=np.int32),
        start=numbers * 10,
        end=numbers * 10 + 500,
        strand=np.where(numbers % 2, 1, -1).astype(np.int8),
        frame=(numbers % 3 + 1).astype(np.int8),
        nucleotide=from_items([nucleotide(tag, n) for n in numbers]),
        protein=from_items([b"MKV"[: n % 3 + 1] * (n % 11 + 1) for n in numbers]),
        contig_length=numbers * 10 + 700,
    )


def nucleotide(tag: str, number: int) -> bytes:
    return (b"ACGT" * 3)[number % 4 :] * (number % 7 + 1) + tag.encode().upper()


def commit(append: Append, name: str, rows: int, *, content: str = "") -> None:
    append.commit(
        name,
        contigs=rows,
        contigs_without_records=0,
        segments=rows,
        bases=500 * rows,
        content=content or f"content of {name}",
        source=f"{name}.fa",
    )


def append(store: Store, name: str, rows: int, *, step: int = 37) -> None:
    """Append a sample of ``rows`` rows in batches of ``step``."""
    with store.appending() as appending:
        for first in range(0, rows, step):
            appending.write(batch(name, first, min(step, rows - first)))
        commit(appending, name, rows)


@dataclass(frozen=True)
class HeldClaim:
    """A claim that nobody disputes, unless it is made with ``current=False``."""

    model: str
    block: int
    epoch: int = 1
    worker: str = "0" * 32
    current: bool = True

    def is_current(self) -> bool:
        return self.current


def embeddings(store: Store, model: str, block: int) -> np.ndarray:
    """What an undisturbed worker publishes for a block: known numbers for each row."""
    start, stop = store.block_bounds(block)
    return expected(store, model)[start:stop]


def expected(store: Store, model: str) -> np.ndarray:
    """Embeddings of every row."""
    dim = store.schema.model(model).dim
    rows = np.arange(store.n_rows)[:, None]
    return ((rows * 7 + np.arange(dim) * 3) % 251 / 8 - 10).astype(np.float16)


def publish(store: Store, model: str, block: int, *, epoch: int = 1) -> None:
    store.pin_provenance(model, {"name": model})
    store.publish(HeldClaim(model, block, epoch=epoch), embeddings(store, model, block))


def filled_store(path: Path, *, rows: int = 100, block_rows: int = 16) -> Store:
    """A small store with two samples and every block of both models filled."""
    store = create_store(path, models=MODELS, segment_length=500, block_rows=block_rows)
    append(store, "first", rows - rows // 3)
    append(store, "second", rows // 3)
    for model in MODELS:
        for block in range(store.n_blocks):
            publish(store, model.name, block)
    return store
