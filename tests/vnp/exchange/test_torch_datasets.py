"""Torch datasets: every row once, in a seeded order, whatever the workers."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from store.errors import UsageError
from store.open import create_store
from store.store import Store
from tests.rows import MODELS, append, expected, publish
from vnp.exchange.torch_datasets import RowDataset, ShuffledRows, to_torch

pytestmark = pytest.mark.slow

ROWS = 150


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Block 4 of ``small`` is open."""
    path = tmp_path_factory.mktemp("torch") / "run.zarr"
    store = create_store(path, models=MODELS, segment_length=500, block_rows=16)
    append(store, "first", ROWS)
    for model in MODELS:
        for block in range(store.n_blocks):
            if not (model is MODELS[0] and block == 4):
                publish(store, model.name, block)
    return store


CERTIFIED = [row for row in range(ROWS) if row // 16 != 4]


def matrix(store: Store) -> np.ndarray:
    return np.concatenate([expected(store, model.name) for model in MODELS], axis=1)


def test_rows_by_index(opened: Store) -> None:
    data = to_torch(opened)
    assert isinstance(data, RowDataset)
    assert data.rows.tolist() == CERTIFIED
    assert (len(data), data[0].dtype) == (134, torch.float32)
    np.testing.assert_array_equal(data[70], matrix(opened)[CERTIFIED[70]])
    np.testing.assert_array_equal(data[-1], matrix(opened)[-1])
    with pytest.raises(IndexError):
        data[134]
    half = to_torch(opened, models=["wide"], rows=slice(60, 70), dtype=torch.float16)
    assert half[0].dtype == torch.float16
    np.testing.assert_array_equal(torch.stack(list(half)), expected(opened, "wide")[60:70])


def test_labels_go_with_their_rows(opened: Store) -> None:
    labels = np.arange(ROWS) * 2
    for shuffle in (False, True):
        data = to_torch(opened, rows=[100, 3], labels=labels, shuffle=shuffle)  # type: ignore[call-overload]
        found = {int(label): row for row, label in data}
        assert set(found) == {200, 6}
        np.testing.assert_array_equal(found[200], matrix(opened)[100])
    with pytest.raises(UsageError, match="each needs a label"):
        to_torch(opened, labels=[1, 2])


def test_rows_that_are_not_certified_are_refused(opened: Store) -> None:
    with pytest.raises(UsageError, match="2 of the rows .* first is row 70"):
        to_torch(opened, rows=[3, 70, 64])
    assert len(to_torch(opened, models=["wide"])) == ROWS


@pytest.mark.parametrize(
    ("options", "words"),
    [({"buffer_blocks": 0}, "buffer_blocks"), ({"rank": 2, "world_size": 2}, "rank 2")],
)
def test_options_that_cannot_be(opened: Store, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        to_torch(opened, shuffle=True, **options)


@settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.sets(st.sampled_from(CERTIFIED), min_size=1),
    workers=st.integers(1, 5),
    world_size=st.integers(1, 3),
    buffer_blocks=st.integers(1, 12),
    epoch=st.integers(0, 3),
)
def test_each_row_goes_to_one_worker_once(
    opened: Store,
    rows: set[int],
    workers: int,
    world_size: int,
    buffer_blocks: int,
    epoch: int,
) -> None:
    given_out = []
    for rank in range(world_size):
        data = to_torch(
            opened,
            rows=list(rows),
            shuffle=True,
            seed=5,
            buffer_blocks=buffer_blocks,
            rank=rank,
            world_size=world_size,
        )
        data.set_epoch(epoch)
        for worker in range(workers):
            given_out += [row for part in data.order(worker, workers) for row in part.tolist()]
    assert sorted(given_out) == sorted(rows)


def test_the_order_is_seeded_mixed_and_new_each_epoch(opened: Store) -> None:
    def order(seed: int, epoch: int, blocks: int = 4) -> list[int]:
        data = to_torch(opened, shuffle=True, seed=seed, buffer_blocks=blocks)
        data.set_epoch(epoch)
        return [row for part in data.order(0, 1) for row in part.tolist()]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    first = {row // 16 for row in order(1, 0)[:16]}
    assert 3 <= len(first) <= 4
    assert len({row // 16 for row in order(1, 0, 1)[:6]}) == 1


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")  # which another test may have imported
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_data_loader_workers_share_the_rows(opened: Store, context: str) -> None:
    plain = matrix(opened)
    data = to_torch(opened, shuffle=True, seed=3, labels=np.arange(ROWS))
    loader = DataLoader(
        data, batch_size=10, num_workers=2, multiprocessing_context=context, persistent_workers=True
    )
    seen = []
    for epoch in range(2):
        data.set_epoch(epoch)
        order = []
        for values, rows in loader:
            np.testing.assert_array_equal(values, plain[rows])
            order += rows.tolist()
        assert sorted(order) == CERTIFIED
        seen.append(order)
    assert seen[0] != seen[1]


def test_a_data_loader_reads_a_batch_at_once(
    opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = to_torch(opened)
    reads = []
    whole = RowDataset.__getitems__
    monkeypatch.setattr(
        RowDataset, "__getitems__", lambda self, at: (reads.append(len(at)), whole(self, at))[1]
    )
    batches = list(DataLoader(data, batch_size=50, shuffle=True))
    assert reads == [50, 50, 34]
    rows = torch.cat(batches).numpy()
    order = np.lexsort(rows.T)
    wanted = matrix(opened)[CERTIFIED].astype("f4")
    np.testing.assert_array_equal(rows[order], wanted[np.lexsort(wanted.T)])


def test_datasets_are_pickled(opened: Store, tmp_path: Path) -> None:
    data = to_torch(opened, shuffle=True, seed=3)
    data.set_epoch(2)
    copy = ForkingPickler.loads(ForkingPickler.dumps(data))
    assert isinstance(copy, ShuffledRows)
    np.testing.assert_array_equal(torch.stack(list(copy)), torch.stack(list(data)))
