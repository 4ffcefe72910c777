"""Does one worker keep its device busy? Measured on a simulated one, with real tokenising.

``python tools/bench_overlap.py [--records 60000] [--seconds 0.06 0.08 ...]``

A store of 150-bp reads is filled by one worker in this process whose device takes a fixed time for
a block, in three batches of which it holds three, as the engine does. Claiming, reading, tokenising
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
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from bench_embed import store_of  # noqa: E402

from store.interface import Store  # noqa: E402
from store.ragged import Ragged  # noqa: E402
from vnp.config import WorkerConfig  # noqa: E402
from vnp.models import demo  # noqa: E402
from vnp.models.encoder import Provenance  # noqa: E402
from vnp.models.tokens import BpeTokenizer, Tokens  # noqa: E402
from vnp.worker import Worker  # noqa: E402

_MODEL = "dnabert_s"
_BATCHES = 3  # of a block, and as many in flight


class Run:
    """A block on the simulated device."""

    def __init__(self, ends: float, rows: NDArray[np.float32]) -> None:
        self._ends = ends
        self._rows = rows

    def ready(self) -> bool:
        """Whether the device would be done."""
        return time.perf_counter() >= self._ends

    def result(self) -> NDArray[np.float32]:
        """Wait until it would be."""
        time.sleep(max(self._ends - time.perf_counter(), 0))
        return self._rows


class Device:
    """A pipelined encoder whose batches take a fixed time, one after the other."""

    token_budget = 0
    dim = 768
    busy_seconds = 0.0

    def __init__(self, seconds: float) -> None:
        self.spec: Any = SimpleNamespace(name=_MODEL)
        self.tokenising: list[float] = []  # seconds of each block
        self.leads: list[float] = []  # seconds of work left when a block came, none for the first
        self._seconds = seconds / _BATCHES
        self._tokenizer = BpeTokenizer(demo.tokenizer_file(), vocab=4096)
        self._ends = deque([0.0] * _BATCHES, _BATCHES)  # of the last batches

    def provenance(self) -> Provenance:
        """Name the simulation."""
        return Provenance({"model": _MODEL}, {"device": "simulated"})

    def qualify(self, store: Store) -> None:
        """Nothing to check."""

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:  # noqa: ARG002
        """Tokenise as DNABERT does."""
        began = time.perf_counter()
        tokens = self._tokenizer(nucleotide)
        self.tokenising.append(time.perf_counter() - began)
        return tokens

    def submit(self, tokens: Tokens, *, between: Callable[[int], None] | None = None) -> Run:
        """Put a block's batches behind those there are."""
        if self._ends[-1]:
            self.leads.append(self._ends[-1] - time.perf_counter())
        for batch in range(_BATCHES):
            time.sleep(max(self._ends[0] - time.perf_counter(), 0))
            self._ends.append(max(self._ends[-1], time.perf_counter()) + self._seconds)
            if between is not None:
                between(len(tokens) * batch // _BATCHES)
        return Run(self._ends[-1], np.ones((len(tokens), self.dim), dtype=np.float32))

    def embed(
        self, tokens: Tokens, *, between: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Submit and wait."""
        return self.submit(tokens, between=between).result()


def measure(folder: Path, *, records: int, seconds: float) -> None:
    """Fill one store and print how much of the time the device had work."""
    store = store_of(folder, f"{seconds}", records=records, models=[_MODEL])
    device = Device(seconds)
    report = Worker(
        store,
        config=WorkerConfig(),
        stop=threading.Event(),
        say=print,
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
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in options.seconds:
            measure(Path(folder), records=options.records, seconds=seconds)


if __name__ == "__main__":
    main()
