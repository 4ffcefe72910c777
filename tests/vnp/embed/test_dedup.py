"""Identical records are embedded once, and come out as if each had been embedded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.duplicates import NO_DUPLICATE
from store.io.ragged import from_items
from store.open import create_store
from store.read.certified import CertifiedRows
from store.rows import RowBatch
from store.store import Store
from tests.rows import MODELS, commit, publish
from tests.vnp.embed.stub_worker import StubEncoder
from tests.vnp.embed.test_worker import assert_whole, work
from vnp.embed.config import WorkerConfig
from vnp.embed.dedup import originals, plan_copies


def append_kinds(store: Store, name: str, kinds: list[int]) -> None:
    """Append rows whose sequences follow from their kind alone."""
    n = len(kinds)
    with store.appending() as appending:
        appending.write(
            RowBatch(
                id=from_items([f"{name}_{i}".encode() for i in range(n)]),
                contig=from_items([f"{name}_{i}".encode() for i in range(n)]),
                segment=np.ones(n, np.int32),
                start=np.zeros(n, np.int64),
                end=np.full(n, 500),
                strand=np.ones(n, np.int8),
                frame=np.ones(n, np.int8),
                nucleotide=from_items([b"ACGT" * (kind % 9 + 1) + b"T" * kind for kind in kinds]),
                protein=from_items([b"M" * (kind % 5 + 1) for kind in kinds]),
                contig_length=np.full(n, 500),
            )
        )
        commit(appending, name, n)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)


class Counting(StubEncoder):
    """Counts what the model is given."""

    embedded = 0

    def embed(self, tokens, **kwargs):
        type(self).embedded += len(tokens)
        return super().embed(tokens, **kwargs)


@pytest.fixture(autouse=True)
def _from_nothing() -> None:
    Counting.embedded = 0


@pytest.mark.slow
def test_a_resequenced_sample_with_30_percent_repeats_costs_30_percent_less(
    store: Store,
) -> None:
    append_kinds(store, "first", list(range(200)))
    work(store, encoder=Counting)
    assert Counting.embedded == 2 * 200
    # 200 rows more, of which every tenth, and its two neighbours, are in the first sample.
    again = [kind if kind % 10 < 3 else 1000 + kind for kind in range(200)]
    append_kinds(store, "again", again)
    assert store.schema.samples[-1].repeats == 60
    report = work(store, encoder=Counting)
    # The tail block of the first sample has grown and is published again; its 8 old rows are kept.
    assert Counting.embedded == 2 * (200 + 140)
    assert report.copied == 2 * 60
    assert_whole(store)


def test_repeats_within_one_block_are_embedded_once(store: Store) -> None:
    append_kinds(store, "a", [1, 2, 1, 1, 3, 2] * 5)
    assert store.column("twin").tolist()[:7] == [
        NO_DUPLICATE,
        NO_DUPLICATE,
        0,
        0,
        NO_DUPLICATE,
        1,
        0,
    ]
    report = work(store, encoder=Counting, config=WorkerConfig(models=("small",), poll=0.01))
    # Block 1 finds all its rows in block 0, unless it came first.
    assert Counting.embedded in (3, 6)
    assert report.copied == 30 - Counting.embedded
    np.testing.assert_array_equal(
        store.read("small"), store.read("small")[np.array([0, 1, 0, 0, 4, 1] * 5)]
    )


def test_without_dedup_everything_is_embedded(store: Store) -> None:
    append_kinds(store, "a", [1] * 40)
    report = work(store, encoder=Counting, config=WorkerConfig(dedup=False, poll=0.01))
    assert (Counting.embedded, report.copied) == (80, 0)
    assert_whole(store)


def test_a_damaged_original_is_not_copied(store: Store) -> None:
    append_kinds(store, "a", list(range(16)))
    work(store, encoder=Counting)
    path = store.path / "obsm/X_small/c.0.0"
    raw = bytearray(path.read_bytes())
    raw[5] ^= 1
    path.write_bytes(bytes(raw))
    append_kinds(store, "b", list(range(16)))
    Counting.embedded = 0
    work(store, encoder=Counting)
    assert Counting.embedded == 16, "of the damaged model all, of the sound one none"
    np.testing.assert_array_equal(store.snapshot().read("wide", 16), store.read("wide", 0, 16))


def test_only_certified_rows_are_given_out(store: Store) -> None:
    append_kinds(store, "a", list(range(40)))
    publish(store, "small", 1)
    rows = np.array([3, 20, 39, 16, 20])
    values, found = CertifiedRows().take(store, model="small", rows=rows)
    assert found.tolist() == [False, True, False, True, True]
    np.testing.assert_array_equal(values, store.read("small")[[20, 16, 20]])


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    kinds=st.lists(st.integers(0, 8), min_size=1, max_size=40),
    known=st.sets(st.integers(0, 8)),
)
def test_a_block_is_put_together_right(kinds: list[int], known: set[int]) -> None:
    start, first_of = 100, {}
    duplicates = []
    for row, kind in enumerate(kinds):
        # Known kinds are in rows 0 to 8 of the store; others first in this block.
        if kind in known:
            duplicates.append(kind)
        else:
            duplicates.append(first_of.get(kind, NO_DUPLICATE))
            first_of.setdefault(kind, start + row)
    original = originals(np.array(duplicates), start=start)
    plan = plan_copies(original, copied=original < start)
    assert len(plan.embed) == len(set(kinds) - known)
    assert plan.embed.tolist() == sorted(plan.embed.tolist())
    table = np.arange(18, dtype=np.float16).reshape(9, 2)
    block = table[kinds]
    out = plan.assemble(block[plan.embed], table[original[plan.copied]])
    np.testing.assert_array_equal(out, block)
    assert plan.rows == len(kinds)
    assert plan.saved == len(kinds) - len(plan.embed)
