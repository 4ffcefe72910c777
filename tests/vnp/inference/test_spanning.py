"""Batches that span blocks: every row where it belongs, whatever shares a batch, and no wait.

The model is arithmetic on a record's own ids, so that rows can be compared bit by bit; kernels are
held to the same by the tests on a GPU.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from store.open import create_store
from store.schema import Model
from tests.rows import append
from tests.vnp.inference.engine_setup import placed, tokens_of
from tests.vnp.models.checkpoints import tiny
from vnp.embed.config import WorkerConfig
from vnp.embed.in_flight import BlocksInFlight
from vnp.embed.worker import Worker
from vnp.inference.pipeline import EngineEncoder
from vnp.inference.streams import _HostEvent
from vnp.models.errors import RecordTooLongError
from vnp.models.tokens import ResidueTokenizer

SPEC = dataclasses.replace(tiny("esm2", dim=8, heads=1), name="small")
BUDGET = 256


class Arithmetic:
    """A model whose rows are sums over a record's ids, and which notes its batches."""

    padding_id = 1

    def __init__(self, room=1 << 30):
        self.room = room
        self.rows, self.records = [], []

    def workspace(self, rows):
        return SimpleNamespace(rows=rows)

    def __call__(self, layout, work, out_nD):
        if layout.rows > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.rows.append(layout.rows)
        self.records.append(layout.n_records)
        for row, (first, last) in enumerate(layout.bounds.tolist()):
            ids = layout.ids[first:last].double()
            weights = torch.arange(1, len(ids) + 1).double()
            out_nD[row] = (ids * weights).sum() + 1000 * torch.arange(8) + len(ids)


def encoder_of(*, spans=True, engine=None, said=None, kind=EngineEncoder):
    return kind(
        SPEC,
        engine or Arithmetic(),
        ResidueTokenizer(),
        spans=spans,
        placement=placed("cpu", "float32"),
        token_budget=BUDGET,
        identity={"model": SPEC.name},
        environment={},
        warn=(said if said is not None else []).append,
    )


def blocks_of(counts, *, seed=0):
    generator = np.random.default_rng(seed)
    return [
        tokens_of(generator.integers(3, 60, count), seed=seed + number)
        for number, count in enumerate(counts)
    ]


def alone(blocks):
    return [encoder_of(spans=False).embed(tokens) for tokens in blocks]


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_those_of_blocks_one_by_one(seed):
    counts = np.random.default_rng(seed).integers(0, 40, 12)
    blocks = blocks_of(counts, seed=seed)
    encoder, waiting, found = encoder_of(), deque(), []
    for tokens in blocks:
        waiting.append(encoder.submit(tokens))
        if len(waiting) > 3:
            found.append(waiting.popleft().result())
    found += [run.result() for run in waiting]
    for rows, expected in zip(found, alone(blocks), strict=True):
        assert np.array_equal(rows, expected)


def test_batches_are_full_and_all_of_one_size():
    blocks = blocks_of([20] * 10)
    separate, joined = Arithmetic(), Arithmetic()
    for tokens in blocks:
        encoder_of(spans=False, engine=separate).embed(tokens)
    encoder = encoder_of(engine=joined)
    runs = [encoder.submit(tokens) for tokens in blocks]
    for run in runs:
        run.result()
    tokens = sum(len(each.ids) for each in blocks)
    assert set(joined.rows) == {BUDGET}
    assert len(joined.rows) == -(-tokens // BUDGET)
    assert len(separate.rows) > len(joined.rows)
    assert sum(joined.records) == 200


def test_what_is_held_goes_with_the_first_batch_of_the_next_block():
    encoder = encoder_of()
    first, second = tokens_of([30] * 3), tokens_of([30] * 60, seed=1)
    run = encoder.submit(first)
    assert run.held
    assert run.done == 0
    encoder.submit(second)
    assert not run.held
    assert encoder._engine.records[0] == BUDGET // 30
    assert np.array_equal(run.result(), alone([first])[0])


def test_what_is_held_goes_alone_when_the_device_has_nothing_else_to_do(monkeypatch):
    drained = []
    monkeypatch.setattr(_HostEvent, "query", lambda event: event in drained)
    encoder = encoder_of()
    run = encoder.submit(tokens_of([30] * 10))  # eight fill a batch
    [slot] = encoder._in_flight
    assert run.held
    assert not run.ready()  # the device has a batch to compute
    assert run.held
    drained.append(slot.returned)
    assert not run.ready()
    assert not run.held  # on their way now
    [slot] = encoder._in_flight
    drained.append(slot.returned)
    assert run.ready()
    assert np.array_equal(run.result(), alone([tokens_of([30] * 10)])[0])


def test_a_block_whose_end_is_in_the_last_batch_is_not_waited_for():
    """Blocks of about one batch: to wait for one would leave the device with nothing to do."""
    blocks = blocks_of([0, *[10] * 8], seed=3)
    blocks = [tokens_of([30] * len(each), seed=seed) for seed, each in enumerate(blocks)]
    encoder, delivered = encoder_of(), []

    def deliver(block):
        delivered.append((block.prepared.name, len(encoder._in_flight)))
        assert np.array_equal(block.embeddings, alone([block.prepared.tokens])[0])

    flights = BlocksInFlight(
        accounts=SimpleNamespace(submitted=lambda _: None, embedded=lambda _, **__: 0.0),
        prefetch=SimpleNamespace(
            submitted=lambda: None, is_due=lambda _: False, embedded=lambda *_: None
        ),
        shutdown=SimpleNamespace(requested=False),
        deliver=deliver,
        give_up=pytest.fail,
        progress=lambda *_: None,
        clock=lambda: 0.0,
    )
    for number, tokens in enumerate(blocks):
        claim = SimpleNamespace(model=SPEC.name)
        flights.submit(SimpleNamespace(tokens=tokens, encoder=encoder, claim=claim, name=number))
    assert [name for name, _ in delivered] == [*range(7)]
    assert all(in_flight for _, in_flight in delivered[1:])  # the first has no records
    flights.drain()
    assert [name for name, _ in delivered] == [*range(9)]


def test_a_record_too_long_is_told_to_its_own_block():
    said = []
    encoder = encoder_of(engine=Arithmetic(room=100), said=said)
    long, short = encoder.submit(tokens_of([10, 200])), tokens_of([20] * 30, seed=3)
    assert long.held
    run = encoder.submit(short)
    assert long.ready()
    with pytest.raises(RecordTooLongError, match="record 2 of 2 has 200 tokens"):
        long.result()
    assert np.array_equal(run.result(), alone([short])[0])
    with pytest.raises(RecordTooLongError, match="record 1 of 1 has 300 tokens"):
        encoder.submit(tokens_of([300]))
    assert np.array_equal(encoder.embed(short), alone([short])[0])
    assert said


def test_memory_that_runs_out_costs_no_row():
    blocks = blocks_of([30, 5, 30, 1, 30])
    encoder = encoder_of()
    runs = [encoder.submit(tokens) for tokens in blocks[:2]]
    encoder._engine.room = 100  # somebody else takes the rest
    runs += [encoder.submit(tokens) for tokens in blocks[2:]]
    for run, expected in zip(runs, alone(blocks), strict=True):
        assert np.array_equal(run.result(), expected)
    assert encoder.token_budget <= 100


def test_a_block_that_is_abandoned_leaves_those_before_it_whole():
    def stop(_done):
        raise KeyboardInterrupt

    blocks = blocks_of([3, 60, 40])
    encoder = encoder_of()
    first = encoder.submit(blocks[0])
    with pytest.raises(KeyboardInterrupt):
        encoder.submit(blocks[1], between=stop)
    last = encoder.submit(blocks[2])
    expected = alone(blocks)
    assert np.array_equal(first.result(), expected[0])
    assert np.array_equal(last.result(), expected[2])


class _NeverDry(EngineEncoder):
    """On a device that is busy until the next block is there, however late the host is."""

    def flush_if_dry(self):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("block_rows", [4, 64])
def test_a_worker_fills_a_store_with_the_same_bytes(tmp_path: Path, block_rows: int) -> None:
    found, batches = [], []
    # With a device that runs dry batches span blocks when these are early enough, so only the bytes
    # are certain.
    for spans, kind in ((False, EngineEncoder), (True, EngineEncoder), (True, _NeverDry)):
        store = create_store(
            tmp_path / f"{len(found)}.zarr", models=[Model("small", 8)], segment_length=500,
            block_rows=block_rows,
        )  # fmt: skip
        append(store, "a", 200)
        engine = Arithmetic()
        report = Worker(
            store.path,
            # What is held goes on its way once there are no more blocks; a worker that lingers
            # looks for some as long as its own are not published.
            config=WorkerConfig(poll=0.01, heartbeat=0.05, linger=kind is EngineEncoder),
            stop=threading.Event(),
            load=lambda *_, engine=engine, spans=spans, kind=kind, **__: encoder_of(
                spans=spans, engine=engine, kind=kind
            ),
        ).run()
        assert report.blocks == store.n_blocks
        filled = store.snapshot()
        assert filled.certify("small").complete
        found.append(filled.read("small"))
        batches.append(len(engine.rows))
        assert sum(engine.records) == 200
    for other in found[1:]:
        assert np.array_equal(found[0], other)
    assert batches[2] < batches[0]
