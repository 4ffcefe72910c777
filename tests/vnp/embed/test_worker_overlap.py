"""A worker with a pipelined encoder: the next block goes to the device before the last is done.

The device is simulated, and so is the worker's clock: it stands still but when the host waits for a
batch. So the times a worker tells do not depend on this machine.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.errors import DataError
from store.io.ragged import Ragged
from store.open import create_store
from store.store import Store
from tests.rows import MODELS, append
from tests.vnp.embed.stub_worker import StubEncoder, stub_rows
from vnp.embed.config import WorkerConfig
from vnp.embed.report import Accounts, WorkerReport
from vnp.embed.worker import BlockError, Worker
from vnp.inference.encoder import PipelinedEncoder
from vnp.models.tokens import Tokens

pytestmark = pytest.mark.slow

BLOCKS, ROWS = 5, 16
SLOTS, BATCHES, SECONDS = 3, 8, 0.5  # in flight, of a block, of a batch


@dataclass
class Batch:
    run: DeviceRun
    number: int
    ends: float


class Device(StubEncoder):
    """Batches one after the other, three in flight, as the engine does."""

    busy_seconds = 0.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.now = 100.0
        self.log: list[str] = []
        self.runs = 0
        self.in_flight: deque[Batch] = deque()
        self.late = False  # hold a block's tokens back until the worker has polled the one before
        self.polled = [threading.Event() for _ in range(BLOCKS + 1)]  # of each run, from 1
        self.on_done: Callable[[str], None] = lambda _: None
        self.on_ready: Callable[[int], None] = lambda _: None

    def qualify(self, store: Store, model: str) -> None:
        pass

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:
        if self.late and self.runs:
            assert self.polled[self.runs].wait(timeout=60)
        return super().tokenise(nucleotide, protein)

    def submit(self, tokens: Tokens, *, between: Callable[[int], None] | None = None) -> DeviceRun:
        self.runs += 1
        run = DeviceRun(self, self.runs, tokens, between)
        for number in range(1, BATCHES + 1):
            if len(self.in_flight) == SLOTS:
                self.retire()
            free = self.in_flight[-1].ends if self.in_flight else self.now
            self.in_flight.append(Batch(run, number, free + SECONDS))
            self.log.append(f"start {run.number}.{number}")
        return run

    def retire(self) -> None:
        batch = self.in_flight.popleft()
        self.now = max(self.now, batch.ends)
        self.log.append(f"done {batch.run.number}.{batch.number}")
        batch.run.done = batch.number
        self.on_done(self.log[-1])
        if batch.run.between is not None:
            batch.run.between(len(batch.run.tokens) * batch.number // BATCHES)


class DeviceRun:
    def __init__(
        self,
        device: Device,
        number: int,
        tokens: Tokens,
        between: Callable[[int], None] | None,
    ) -> None:
        self.device, self.number = device, number
        self.tokens, self.between = tokens, between
        self.done = 0

    @property
    def in_last_batch(self) -> bool:
        return self.device.runs == self.number

    def ready(self) -> bool:
        """Time goes by while the worker polls; half a block at most if the next one is late."""
        self.device.polled[self.number].set()
        self.device.on_ready(self.number)
        awaited = self.device.late and self.device.runs == self.number < BLOCKS
        if awaited and self.done >= BATCHES // 2:
            return False
        if self.done < BATCHES:
            self.device.retire()
        return self.done == BATCHES

    def result(self) -> np.ndarray:
        while self.done < BATCHES:
            self.device.retire()
        self.device.log.append(f"result {self.number}")
        return stub_rows(*self.device._columns.pop(id(self.tokens)), self.device.dim)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=ROWS)
    append(store, "a", ROWS * BLOCKS)
    return store


@pytest.fixture
def device() -> Device:
    return Device("small")


def work(store: Store, device: Device, *, stop: threading.Event | None = None) -> WorkerReport:
    return Worker(
        store.path,
        config=WorkerConfig(models=("small",), poll=0.01, heartbeat=0.05),
        stop=stop or threading.Event(),
        load=lambda *_, **__: device,
        clock=lambda: device.now,
    ).run()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each block, as entered in the accounts."""
    entered: list[float] = []
    plain = Accounts.embedded

    def note(self: Accounts, model: str, **times: Any) -> float:
        entered.append(plain(self, model, **times))
        return entered[-1]

    monkeypatch.setattr(Accounts, "embedded", note)
    return entered


def certified_seconds(store: Store) -> list[float]:
    certificates = [store.snapshot().certificate("small", block) for block in range(BLOCKS)]
    return [float(str(found.details["seconds"])) for found in certificates if found is not None]


def filled(store: Store) -> int:
    """Blocks that are filled."""
    return int(store.snapshot().rows_filled("small").sum()) // ROWS


@pytest.mark.parametrize("late", [False, True], ids=["prompt", "late"])
def test_each_block_is_timed_by_itself_and_finished_when_its_last_batch_is_done(
    store: Store, device: Device, timed: list[float], late: bool
) -> None:
    assert isinstance(device, PipelinedEncoder)
    device.late = late
    report = work(store, device)
    whole = BATCHES * SECONDS
    assert timed == pytest.approx([whole] * BLOCKS)
    assert certified_seconds(store) == pytest.approx([whole] * BLOCKS)
    assert report.blocks == BLOCKS
    assert report.span_seconds == pytest.approx(BLOCKS * whole)
    assert report.embed_seconds == pytest.approx(BLOCKS * whole)
    for number in range(1, BLOCKS + 1):
        at = device.log.index(f"done {number}.{BATCHES}")
        assert device.log[at + 1] == f"result {number}"  # before anything else is waited for
    assert store.snapshot().certify("small").complete


def test_a_block_that_comes_late_is_submitted_before_the_last_one_is_done(
    store: Store, device: Device
) -> None:
    device.late = True
    work(store, device)
    for number in range(1, BLOCKS):
        started = device.log.index(f"start {number + 1}.1")
        assert started < device.log.index(f"done {number}.{BATCHES}")


def test_told_to_stop_it_publishes_what_is_done_and_drops_the_rest(
    store: Store, device: Device
) -> None:
    stop = threading.Event()
    device.on_done = lambda what: stop.set() if what == "done 2.1" else None
    report = work(store, device, stop=stop)
    assert (report.stopped, report.blocks) == (True, 1)
    assert filled(store) == 1


def test_told_to_stop_while_it_waits_for_the_next_block(store: Store, device: Device) -> None:
    stop = threading.Event()
    device.late = True
    device.on_ready = lambda _: stop.set()
    report = work(store, device, stop=stop)
    assert (report.stopped, report.blocks) == (True, 0)


def test_an_error_of_the_device_names_the_block(store: Store, device: Device) -> None:
    def fail(what: str) -> None:
        if what == "done 3.2":
            raise RuntimeError("launch failure")

    device.on_done = fail
    with pytest.raises(BlockError, match=r"small block \d: RuntimeError: launch failure"):
        work(store, device)
    assert filled(store) == 2


def test_a_block_given_up_in_flight_is_not_published(store: Store, device: Device) -> None:
    device.late = True

    def refuse(number: int) -> None:
        if number == 2:
            raise DataError("no good")

    device.on_ready = refuse
    report = work(store, device)
    (failure,) = report.failures
    assert failure.reason == "no good"
    assert store.snapshot().rows_filled("small")[failure.block] == 0
    assert filled(store) == report.blocks == BLOCKS - 1


def test_a_block_is_finished_before_another_models_block_is_begun(
    store: Store, device: Device
) -> None:
    wide = Device("wide")
    wide.log = device.log
    report = Worker(
        store.path,
        config=WorkerConfig(poll=0.01, heartbeat=0.05),
        stop=threading.Event(),
        load=lambda name, **_: {"small": device, "wide": wide}[name],
        clock=lambda: device.now + wide.now,
    ).run()
    assert report.blocks == 2 * BLOCKS
    last, first = f"result {BLOCKS}", len(device.log) - 1 - device.log[::-1].index("start 1.1")
    assert device.log.index(last) < first


def test_weights_that_are_missing_do_not_cost_the_block_in_hand(
    store: Store, device: Device
) -> None:
    def load(name: str, **_: object) -> Device:
        if name == "wide":
            raise DataError("no weights")
        return device

    worker = Worker(
        store.path,
        config=WorkerConfig(poll=0.01, heartbeat=0.05),
        stop=threading.Event(),
        load=load,
        clock=lambda: device.now,
    )
    [failure] = worker.run().failures
    assert (failure.model, failure.block) == ("wide", None)
    assert "no weights" in failure.reason
    assert filled(store) == BLOCKS
