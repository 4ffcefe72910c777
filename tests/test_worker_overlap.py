"""A worker with a pipelined encoder gives its device the next block before the last one is done."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from store.interface import Store
from store.ragged import Ragged
from store.zarr_store import ZarrStore
from tests.rows import MODELS, append
from tests.stub_worker import StubEncoder, stub_rows
from vnp.config import WorkerConfig
from vnp.models.encoder import PipelinedEncoder
from vnp.models.tokens import Tokens
from vnp.worker import Worker

BLOCKS = 5


class PipelinedStub(StubEncoder):
    """Is done with a block when the next one is there, and tokenises that only once it was asked
    whether it is done: the next block always comes late, but never too late."""

    busy_seconds = 0.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.log: list[str] = []
        self.submitted = 0
        self.asked = threading.Event()
        self.asked.set()  # nothing to ask before the first

    def qualify(self, store: Store) -> None:
        pass

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:
        assert self.asked.wait(timeout=60)
        self.asked.clear()
        return super().tokenise(nucleotide, protein)

    def submit(self, tokens: Tokens, *, between: object = None) -> StubRun:
        self.submitted += 1
        self.log.append(f"submit {self.submitted}")
        return StubRun(self, self.submitted, tokens)


class StubRun:
    def __init__(self, encoder: PipelinedStub, number: int, tokens: Tokens) -> None:
        self.encoder = encoder
        self.number = number
        self.tokens = tokens

    def ready(self) -> bool:
        self.encoder.asked.set()
        return self.encoder.submitted > self.number or self.number == BLOCKS

    def result(self) -> np.ndarray:
        self.encoder.log.append(f"result {self.number}")
        self.encoder.asked.set()  # a worker that asks too early shall fail, not hang
        return stub_rows(*self.encoder._columns.pop(id(self.tokens)), self.encoder.dim)


@pytest.fixture
def store(tmp_path: Path) -> ZarrStore:
    store = ZarrStore.create(
        tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16
    )
    append(store, "a", 16 * BLOCKS)
    return store


def test_a_block_that_comes_late_is_submitted_before_the_last_is_waited_for(
    store: ZarrStore,
) -> None:
    encoder = PipelinedStub("small")
    assert isinstance(encoder, PipelinedEncoder)
    report = Worker(
        store.path,
        config=WorkerConfig(models=("small",), poll=0.01, heartbeat=0.05),
        stop=threading.Event(),
        say=lambda _: None,
        load=lambda *_, **__: encoder,
    ).run()
    assert report.blocks == BLOCKS
    pairs = [(f"submit {n + 1}", f"result {n}") for n in range(1, BLOCKS)]
    assert encoder.log == ["submit 1", *(step for pair in pairs for step in pair), "result 5"]
    assert store.snapshot().certify("small").complete
