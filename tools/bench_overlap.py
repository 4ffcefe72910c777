"""Does a worker keep its device busy? Measured on a simulated one, all else being real.

``python tools/bench_overlap.py [--records 120000] [--run dnabert_s] [--run dnabert_s,esm2_650m]``

A store of 150-bp reads is filled by one worker in this process, or by ``--workers`` of them at a
time, each a process with a device of its own, which begin together. Claims, reading, tokenising,
batches, buffers, publishing are the real ones; the device takes a time in proportion to the rows of
a batch, that of an H200 (docs/benchmarks/gpu-h200.md), and for each kernel of a layer the host is
busy for as long as a launch takes, letting go of the interpreter as torch does. Printed for each
store, to be read as those of tools/bench_embed.py:

- the share of the engine's own rate: the time that the tokens would take the same engine and
  device, those of four blocks joined and held in memory, over the time from the first block
  submitted to the last result; of several workers, a worker's part over the longest such time;
- the share of that time in which the device computed; of several, in the worst and the mean;
- seconds of CPU that the whole worker took for a block, and how many cores 8 such workers need.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from bench_embed import store_of, whole_batches  # noqa: E402
from bench_tokens import trained  # noqa: E402

from store.open import open_store  # noqa: E402
from vnp.embed.config import WorkerConfig  # noqa: E402
from vnp.embed.worker import Worker  # noqa: E402
from vnp.inference.batch_layout import BatchLayout  # noqa: E402
from vnp.inference.device import Placement  # noqa: E402
from vnp.inference.load import tokenizer_of, usual_tokens  # noqa: E402
from vnp.inference.pipeline import EngineEncoder  # noqa: E402
from vnp.inference.streams import Event, Streams  # noqa: E402
from vnp.models import registry  # noqa: E402
from vnp.models.tokens import Tokens  # noqa: E402

_LAUNCH_SECONDS = 20e-6  # of the host, for one kernel
_ALONE_BLOCKS, _ALONE_SECONDS = 4, 2.0


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model is on the device."""

    rows: float  # a second
    launches: int  # kernels of a batch


SPEEDS = {
    "dnabert_s": Speed(2_505_000, 12 * 7),
    "esm2_650m": Speed(470_000, 33 * 6),
    "esm2_3b": Speed(115_000, 36 * 6),
}


class _Mark:
    """A point in the work of the device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._at = 0.0

    def record(self) -> None:
        self._at = max(time.perf_counter(), self._device.free)

    def wait(self) -> None:
        """Streams need no order where all work has one."""

    def synchronize(self) -> None:
        time.sleep(max(self._at - time.perf_counter(), 0))

    def query(self) -> bool:
        return time.perf_counter() >= self._at

    def elapsed_time(self, end_event: Event) -> float:
        assert isinstance(end_event, _Mark)
        return 1000 * (end_event._at - self._at)


class Device(Streams):
    """A device that takes time and computes nothing."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.free = 0.0  # when the last batch will be done

    def event(self, *, timed: bool = False) -> Event:  # noqa: ARG002
        """Make an event."""
        return _Mark(self)


class _Engine:
    """A model on that device."""

    padding_id = 1

    def __init__(self, device: Device, speed: Speed, slower: float) -> None:
        self._device, self._speed, self._slower = device, speed, slower
        self._scratch = torch.zeros(1)

    def workspace(self, rows: int) -> Any:
        return argparse.Namespace(rows=rows)

    def states(self, layout: BatchLayout, work: Any) -> Tensor:
        raise NotImplementedError

    def __call__(self, layout: BatchLayout, work: Any, out_nD: Tensor) -> None:  # noqa: ARG002
        starts = max(time.perf_counter(), self._device.free)
        for _ in range(self._speed.launches):
            until = time.perf_counter() + _LAUNCH_SECONDS
            while time.perf_counter() < until:
                self._scratch.add_(1)
        ends = starts + self._slower * layout.rows / self._speed.rows
        self._device.free = max(ends, time.perf_counter())


class _Encoder(EngineEncoder):
    """The real pipeline, less what the device does by itself: copies."""

    def _new_slot(self, integers: int) -> Any:
        slot = super()._new_slot(integers)
        slot.rows.zero_()
        slot.rows_host, slot.tokens = slot.rows, slot.tokens_host
        return slot


def encoder(name: str, tokenizer: Path, slower: float) -> EngineEncoder:
    """The real pipeline around the simulated device."""
    spec = registry.model(name)
    device = Device()
    placement = Placement(torch.device("cpu"), "simulated", "bfloat16", 1, 1, "by the benchmark")
    made = _Encoder(
        spec,
        _Engine(device, SPEEDS[name], slower),
        tokenizer_of(spec, tokenizer if spec.architecture == "mosaicbert" else None),
        placement=placement,
        token_budget=usual_tokens(spec),
        identity={"model": name},
        environment={"device": "simulated"},
        warn=print,
        **({"spans": True} if "spans" in EngineEncoder.__init__.__annotations__ else {}),
    )
    made._streams = device
    return made


def alone(path: Path, name: str, tokenizer: Path, slower: float) -> float:
    """Seconds that the engine alone takes for the tokens of the whole store."""
    made, store = encoder(name, tokenizer, slower), open_store(path)
    some = [made.tokenise(*store.sequences(block)) for block in range(_ALONE_BLOCKS)]
    tokens = Tokens(
        np.concatenate([each.ids for each in some]), np.concatenate([each.lengths for each in some])
    )
    tokens = whole_batches(tokens, made.token_budget)
    last, runs, began = made.submit(tokens), 0, time.perf_counter()
    while time.perf_counter() - began < slower * _ALONE_SECONDS:
        last, before = made.submit(tokens), last
        before.result()
        runs += 1
    rate = runs * len(tokens.ids) / (time.perf_counter() - began)
    return store.n_rows * sum(len(each.ids) for each in some) / sum(map(len, some)) / rate


class Fill(NamedTuple):
    """What one worker did."""

    blocks: int
    span: float  # seconds from the first block submitted to the last result
    busy: float  # seconds in which its device computed
    cpu: float  # seconds


_together: Barrier  # of a process: where workers wait until all can begin


def _join(barrier: Barrier) -> None:
    global _together
    _together = barrier


def _fill_together(path: Path, tokenizer: Path, slower: float) -> Fill:
    _together.wait()
    return fill(path, tokenizer, slower)


def fill(path: Path, tokenizer: Path, slower: float) -> Fill:
    """Fill a store, or what other workers leave of it."""
    began = time.process_time()
    report = Worker(
        path,
        config=WorkerConfig(),
        stop=threading.Event(),
        load=lambda name, **_: encoder(name, tokenizer, slower),
    ).run()
    cpu = time.process_time() - began
    return Fill(report.blocks, report.span_seconds, report.busy_seconds, cpu)


def measure(
    folder: Path, models: list[str], *, records: int, tokenizer: Path, slower: float, workers: int
) -> None:
    """Fill one store and print how near to the engines alone that came."""
    path = store_of(folder, "-".join(models), records=records, models=models)
    own = sum(alone(path, model, tokenizer, slower) for model in models)
    if workers == 1:
        fills = [fill(path, tokenizer, slower)]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            workers, context, initializer=_join, initargs=(context.Barrier(workers),)
        ) as pool:
            asked = [pool.submit(_fill_together, path, tokenizer, slower) for _ in range(workers)]
            fills = [each.result() for each in asked]
    blocks, span = sum(each.blocks for each in fills), max(each.span for each in fills)
    spent = sum(each.cpu for each in fills) / blocks
    shares = [each.busy / each.span for each in fills if each.span]
    least = f"{min(shares):.1%} to " if workers > 1 else ""
    print(
        f"{' + '.join(models)}, {workers} x: {blocks} blocks in {span:.2f} s; "
        f"{own / workers / span:.1%} of the engine alone, device busy "
        f"{least}{sum(shares) / len(shares):.1%}; {1e3 * spent:.0f} ms of CPU a block, 8 workers "
        f"at the engines' rate need {8 * spent * slower * blocks / own:.1f} cores",
        flush=True,
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=120_000)
    parser.add_argument("--run", action="append", help="models of one store, with commas between")
    about = "a device so many times slower, where others use the machine: the host gets its share"
    parser.add_argument("--slower", type=float, default=1.0, help=about)
    parser.add_argument("--workers", type=int, default=1, help="of a store at a time")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json (default: one is trained)")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        tokenizer = options.tokenizer or trained(Path(folder), np.random.default_rng(0))
        for models in options.run or list(SPEEDS):
            measure(
                Path(folder), models.split(","), records=options.records, tokenizer=tokenizer,
                slower=options.slower, workers=options.workers,
            )  # fmt: skip


if __name__ == "__main__":
    main()
