"""Memory by row of what must work at a billion rows, counted on stores of millions.

The stores have their metadata and which blocks are filled, and no embeddings. Bounds are bytes a
row; a mask has 1, row numbers have 8.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from store import convert
from store.layout import filled_column
from store.open import create_store
from store.schema import Model, Sample
from store.store import Store
from store.zarr.codec import encode_numbers
from store.zarr.transaction import write_documents
from vnp.exchange import compare
from vnp.exchange.selection import select
from vnp.exchange.torch_datasets import to_torch

MODELS = (Model("small", 8), Model("wide", 20))
ROWS = 1000 * 4096 + 77


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Of a thousand blocks every third is open, for one of the models."""
    store = create_store(
        tmp_path_factory.mktemp("many") / "run.zarr", models=MODELS, segment_length=500
    )
    edges = [0, 1_000_000, 1_000_000, 2_500_000, ROWS]
    samples = tuple(
        Sample(f"s{n}", start, stop, 1, 0, 1, 500, 0, f"{n}", "", f"s{n}.fa", "")
        for n, (start, stop) in enumerate(pairwise(edges))
    )
    schema = replace(store.schema, samples=samples)
    write_documents(store.path, before=store.schema, after=schema, tmp_dir=store.sidecar.tmp)
    store.refresh()
    for model in MODELS:
        column = filled_column(schema, model)
        first = store.path / column.chunk_key(0)
        first.write_bytes(encode_numbers(np.ones(schema.block_rows, np.bool_), column=column))
        for block in range(1, store.n_blocks - 1):
            if model.name == "small" or block % 3:
                os.link(first, store.path / column.chunk_key(block))
    return store


@contextmanager
def at_most(bytes_a_row: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak / ROWS <= bytes_a_row, f"{peak / ROWS:.2f} bytes a row"


def warmed(function: Callable[[], Any]) -> Callable[[], Any]:
    """Import what is imported at the first call."""
    function()
    return function


def mask(store: Store) -> np.ndarray:
    return store.filled("small") & store.filled("wide")


def test_rows_that_are_converted(store: Store) -> None:
    for only, wanted in ((False, ROWS), (True, int(mask(store).sum()))):
        with at_most(0.25):
            rows = convert._chosen_rows(store, only_certified=only)
            assert len(rows) == wanted
            batches = lengths = 0
            for sample in store.schema.samples:
                for part in convert._batches(rows, sample):
                    batches += 1
                    lengths += len(part)
        assert lengths == wanted
        assert batches >= (1000 if not only else 600)


@pytest.mark.parametrize("incomplete", ["skip", "nan"])
def test_rows_that_are_exported(store: Store, incomplete: Any) -> None:
    chosen = warmed(lambda: select(store, incomplete=incomplete, samples=["s0", "s3"]))
    with at_most(0.25):
        selection = chosen()
    wanted = np.zeros(ROWS, bool)
    wanted[:1_000_000] = wanted[2_500_000:] = True
    if incomplete == "skip":
        wanted &= mask(store)
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).tolist()
    assert selection.runs == tuple(zip(edges[::2], edges[1::2], strict=True))
    assert len(selection) == int(wanted.sum())


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_of_a_torch_dataset(store: Store, shuffle: Any) -> None:
    made = warmed(lambda: to_torch(store, shuffle=shuffle))
    with at_most(0.4):
        data = made()
        found = sum(map(len, data.order(0, 1))) if shuffle else len(data)
    assert found == int(mask(store).sum())
    if not shuffle:
        np.testing.assert_array_equal(data.rows, np.flatnonzero(mask(store)))


def test_rows_that_only_one_store_has(store: Store) -> None:
    counted = warmed(lambda: compare._certified(store, "wide", store.schema.samples))
    with at_most(0.25):
        found = counted()
    assert found == int(store.filled("wide").sum())


def test_rows_that_are_compared() -> None:
    rng = np.random.default_rng(1)
    here = rng.normal(size=(4096, 2)).astype("f4")
    there = here + rng.normal(scale=1e-3, size=here.shape).astype("f4")
    with at_most(10.0):  # 8 MB until they are only counted, and 8 MB of counters
        tally = compare._Tally(5)
        for first in range(0, ROWS, len(here)):
            rows = np.arange(first, first + len(here))
            tally.add(rows, here, there)
    assert tally.spread.count == 1001 * len(here)
    assert len(tally.worst) == 5
    lowest = tally.worst[0][1] % len(here)
    assert [row for _, row, _ in tally.worst] == [lowest + n * len(here) for n in range(5)]


def test_certified_rows_as_xarray_are_made_as_they_are_used(store: Store) -> None:
    pytest.importorskip("xarray")
    made = warmed(lambda: store.to_xarray()["filled_wide"])
    with at_most(0.5):
        filled = made()
    np.testing.assert_array_equal(
        filled[70_000:200_000:3].values, store.filled("wide")[70_000:200_000:3]
    )
