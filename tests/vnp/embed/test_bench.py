"""What ``vnp bench`` foretells, with an encoder whose seconds are counted and not measured."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from store.open import create_store, open_store
from store.store import Store
from tests.rows import MODELS, append
from tests.vnp.embed.stub_worker import StubEncoder
from vnp.embed import bench
from vnp.embed.config import WorkerConfig
from vnp.embed.worker import Worker
from vnp.models.packing import plan
from vnp.models.tokens import Tokens


class Counted(StubEncoder):
    """Takes a second for every group of equal length in a batch, as the CPU nearly does."""

    token_budget = 20_000
    now = 0.0

    def embed(self, tokens: Tokens, **_: Any) -> NDArray[np.float32]:
        batches = plan(tokens.lengths, token_budget=self.token_budget)
        self.now += sum(len(batch.groups) + batch.tokens / 1e4 for batch in batches)
        return super().embed(tokens)


def whole(store: Store, encoder: Counted) -> float:
    """Seconds that all blocks of a store take a worker."""
    before = encoder.now
    config = WorkerConfig(models=(encoder.name,), poll=0.01, heartbeat=0.05)
    Worker(store.path, config=config, stop=threading.Event(), load=lambda *_, **__: encoder).run()
    assert store.snapshot().certify(encoder.name).complete
    return encoder.now - before


@pytest.mark.parametrize("seconds", [150.0, 1000.0])
@pytest.mark.parametrize(
    ("block_rows", "samples", "repeats"),
    [(512, ["a", "b", "c", "d"], False), (4096, ["abcd"], True)],
)
def test_bench_foretells_what_the_blocks_of_a_store_take(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    block_rows: int,
    samples: list[str],
    repeats: bool,
) -> None:
    path = tmp_path / "a.zarr"
    store = create_store(path, models=MODELS, segment_length=500, block_rows=block_rows)
    for sample in samples:
        append(store, sample, 3200 // len(samples))  # a name repeats after 924
    encoder = Counted("small")
    monkeypatch.setattr(bench, "load_for", lambda *_, **__: encoder)
    monkeypatch.setattr(bench.time, "monotonic", lambda: encoder.now)
    speed = bench.measure(store, model="small", config=WorkerConfig(), seconds=seconds)
    assert speed.rows_left == 3200
    assert (speed.repeats_share > 0) is repeats
    assert speed.seconds_left == pytest.approx(whole(store, encoder), rel=0.25)


def test_a_small_store_is_not_measured_for_longer_than_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    append(create_store(path, models=MODELS, segment_length=500, block_rows=512), "a", 40)
    encoder = Counted("small")
    monkeypatch.setattr(bench, "load_for", lambda *_, **__: encoder)
    monkeypatch.setattr(bench.time, "monotonic", lambda: encoder.now)
    store = open_store(path)
    speed = bench.measure(store, model="small", config=WorkerConfig(), seconds=1e6)
    once = whole(store, encoder)
    assert 3 <= len(speed.rounds) <= 10
    assert speed.seconds < 10 * once
    assert speed.seconds_left == pytest.approx(once, rel=0.25)


def test_what_is_left_counts_real_lengths_and_not_what_is_copied() -> None:
    left = bench.seconds_left(
        1000, repeats_share=0.25, tokens_per_record=100.0, tokens_per_second=50.0
    )
    assert left == 1000 * 0.75 * 100 / 50


def test_samples_are_taken_from_all_over() -> None:
    assert bench.middles(100, 4) == [12, 37, 62, 87]
    assert bench.middles(3, 4) == [0, 1, 2]
    assert bench.middles(1, 4) == [0]
