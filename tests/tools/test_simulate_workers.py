"""Thirty workers in virtual time: every block once, few requests, devices busy, the dead tidied."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("greenlet")

from tools.simulate_workers import simulate

WORKERS, BLOCKS = 30, 600


@pytest.mark.parametrize(("storage", "requests"), [("lustre", 110), ("s3", 60)])
def test_every_block_is_done_once_by_devices_that_are_busy(storage, requests):
    found, world = simulate(storage=storage, workers=WORKERS, blocks=BLOCKS)
    assert sorted(world.filled) == list(range(BLOCKS))
    assert world.published == dict.fromkeys(range(BLOCKS), 1)
    assert found.stolen == 0
    assert world.is_released.all()
    assert found.requests_per_block < requests
    assert found.utilisation > 0.9, "of twenty blocks each, the first and the last cost some"
    assert world.beats == {}, "who leaves in order takes its heartbeat along"


def test_blocks_of_workers_that_vanish_are_taken_over():
    _, world = simulate(storage="lustre", workers=WORKERS, blocks=BLOCKS, kill=10)
    assert sorted(world.filled) == list(range(BLOCKS))
    stolen = set(np.flatnonzero(world.epoch > 1).tolist())
    assert 10 <= len(stolen) <= 40, "what each had in hand: one embedded, one ahead, one behind"
    assert {block for block, times in world.published.items() if times > 1} <= stolen
    assert set(world.published) == set(range(BLOCKS))


def test_files_of_past_workers_cost_nothing_and_go():
    without, _ = simulate(storage="lustre", workers=WORKERS, blocks=BLOCKS)
    found, world = simulate(storage="lustre", workers=WORKERS, blocks=BLOCKS, past=2000)
    assert found.seconds == pytest.approx(without.seconds, rel=0.05)
    assert found.requests_per_block < without.requests_per_block + 15
    assert len(world.beats) < 1700, "each worker removes those of its window once a lease"


def test_slow_workers_do_not_hold_up_the_end():
    found, world = simulate(storage="lustre", workers=WORKERS, blocks=BLOCKS, slow=0.5)
    assert world.published == dict.fromkeys(range(BLOCKS), 1)
    # The first to find nothing has a block in hand; the last takes one of the slow.
    assert found.tail < (1 + 3) * 6.2 * 1.03


def test_the_same_seed_gives_the_same_run():
    first, second = (
        simulate(storage="s3", workers=5, blocks=40, kill=1, seed=3)[0] for _ in range(2)
    )
    assert first.blocks == second.blocks == 40
