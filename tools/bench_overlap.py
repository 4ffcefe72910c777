"""Does one worker keep its device busy? Measured on a simulated one, with real tokenising.

``python tools/bench_overlap.py [--records 60000] [--seconds 0.1 0.15 ...] [--batches 3]``

A store of 150-bp reads is filled by one worker in this process whose device takes a fixed time for
a block, in batches of which it holds three, as the engine does. Claiming, reading, tokenising
(DNABERT's, with the demo vocabulary) and publishing are the real ones. Printed, for each time of a
block: the share of the time from the first block submitted to the last result in which the device
had work, and how often it had run dry when the next block came. Neither can be good where
tokenising a block takes longer than the device does.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from bench_embed import store_of  # noqa: E402

from store.io.ragged import Ragged  # noqa: E402
from store.store import Store  # noqa: E402
from vnp.embed.config import WorkerConfig  # noqa: E402
from vnp.embed.worker import Worker  # noqa: E402
from vnp.inference.encoder import Between, Provenance  # noqa: E402
from vnp.models import demo  # noqa: E402
from vnp.models.tokens import BpeTokenizer, Tokens  # noqa: E402

_MODEL = "dnabert_s"
_SLOTS = 3  # batches in flight


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch in flight."""

    run: Run
    ends: float
    done: int  # records of its block with it


class Run:
    """A block on the simulated device."""

    def __init__(self, device: Device, count: int, between: Between | None) -> None:
        self.rows = np.ones((count, device.dim), dtype=np.float32)
        self.between = between
        self.done = 0
        self._device = device

    def ready(self) -> bool:
        """Whether the device would be done."""
        while self._device.in_flight and self._device.in_flight[0].ends <= time.perf_counter():
            self._device.retire()
        return self.done == len(self.rows)

    def result(self) -> NDArray[np.float32]:
        """Wait until it would be."""
        while self.done < len(self.rows):
            self._device.retire()
        return self.rows


class Device:
    """A pipelined encoder whose batches take a fixed time, one after the other."""

    token_budget = 0
    dim = 768
    busy_seconds = 0.0

    def __init__(self, seconds: float, *, batches: int) -> None:
        self.spec: Any = SimpleNamespace(name=_MODEL)
        self.tokenising: list[float] = []  # seconds of each block
        self.leads: list[float] = []  # seconds of work left when a block came, none for the first
        self.in_flight: deque[Batch] = deque()
        self._seconds = seconds / batches
        self._batches = batches
        self._free = 0.0  # when the last batch will be done
        self._tokenizer = BpeTokenizer(demo.tokenizer_file(), vocab=4096)

    def provenance(self) -> Provenance:
        """Name the simulation."""
        return Provenance({"model": _MODEL}, {"device": "simulated"})

    def qualify(self, store: Store, model: str) -> None:
        """Nothing to check."""

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:  # noqa: ARG002
        """Tokenise as DNABERT does."""
        began = time.perf_counter()
        tokens = self._tokenizer(nucleotide)
        self.tokenising.append(time.perf_counter() - began)
        return tokens

    def submit(self, tokens: Tokens, *, between: Between | None = None) -> Run:
        """Put a block's batches behind those there are, waiting for a slot if all are taken."""
        if self._free:
            self.leads.append(self._free - time.perf_counter())
        run = Run(self, len(tokens), between)
        for batch in range(1, self._batches + 1):
            if len(self.in_flight) == _SLOTS:
                self.retire()
            self._free = max(self._free, time.perf_counter()) + self._seconds
            self.in_flight.append(Batch(run, self._free, len(tokens) * batch // self._batches))
        return run

    def retire(self) -> None:
        """Wait for the oldest batch."""
        batch = self.in_flight.popleft()
        time.sleep(max(batch.ends - time.perf_counter(), 0))
        batch.run.done = batch.done
        if batch.run.between is not None:
            batch.run.between(batch.done)

    def embed(self, tokens: Tokens, *, between: Between | None = None) -> NDArray[np.float32]:
        """Submit and wait."""
        return self.submit(tokens, between=between).result()


def measure(folder: Path, *, records: int, seconds: float, batches: int) -> None:
    """Fill one store and print how much of the time the device had work."""
    store = store_of(folder, f"{seconds}", records=records, models=[_MODEL])
    device = Device(seconds, batches=batches)
    report = Worker(
        store,
        config=WorkerConfig(),
        stop=threading.Event(),
        load=lambda *_, **__: device,
    ).run()
    print(
        f"a block takes the device {1000 * seconds:.0f} ms: {report.blocks} blocks in "
        f"{report.span_seconds:.2f} s, busy {report.blocks * seconds / report.span_seconds:.1%}, "
        f"dry before {sum(lead <= 0 for lead in device.leads)} of {len(device.leads)}, with "
        f"{1000 * statistics.median(device.leads):.0f} ms of work left in the median; "
        f"tokenising one {1000 * statistics.median(device.tokenising):.0f} ms",
        flush=True,
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.1, 0.15, 0.2, 0.3])
    parser.add_argument("--batches", type=int, default=3, help="batches of a block")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in options.seconds:
            measure(Path(folder), records=options.records, seconds=seconds, batches=options.batches)


if __name__ == "__main__":
    main()
