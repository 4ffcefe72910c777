"""Many workers on one store, with simulated devices that take a fixed time per token.

``python tools/bench_scaling.py [--workers 64] [--seconds 4] [--blocks 8]``

Every worker is a process of its own that sleeps instead of computing, so 64 of them fit a machine
with two cores, as long as what is measured (claims, reading, tokenising, publishing) does. Printed:
the time of all workers against that of one, and how far apart fast and slow workers end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from store.io.ragged import Ragged, from_items
from store.open import create_store
from store.rows import RowBatch
from store.schema import Model
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.worker import Worker
from vnp.inference.encoder import Provenance
from vnp.models.tokens import ResidueTokenizer, Tokens

_ROWS = 256  # a block
_SLICES = 20  # batches of a block


class SleepingEncoder:
    """Sleeps a fixed time per token; all workers begin their first block together."""

    token_budget = 0
    dim = 64

    def __init__(self, seconds_per_token: float, ready: Any) -> None:
        self.spec: Any = SimpleNamespace(name="stub")
        self._seconds = seconds_per_token
        self._ready = ready
        self._tokenise = ResidueTokenizer()
        self.began = 0.0
        self.ended = 0.0

    def provenance(self) -> Provenance:
        """Name the stub."""
        return Provenance({"model": "stub"}, {"device": "simulated"})

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:  # noqa: ARG002
        """Tokenise as ESM-2 does."""
        return self._tokenise(protein)

    def embed(self, tokens: Tokens, *, between: Callable[[int], None] | None = None) -> Any:
        """Sleep, batch by batch."""
        if not self.began:
            self._ready.wait()
            self.began = time.monotonic()
        end = time.monotonic()
        for part in range(1, _SLICES + 1):
            end += self._seconds * len(tokens.ids) / _SLICES
            time.sleep(max(end - time.monotonic(), 0))
            if between is not None:
                between(len(tokens) * part // _SLICES)
        self.ended = time.monotonic()
        return np.ones((len(tokens), self.dim), dtype=np.float32)


def work(path: Path, seconds_per_token: float, ready: Any, results: Any) -> None:
    """Run one worker process and report when it computed and how much."""
    encoder = SleepingEncoder(seconds_per_token, ready)
    worker = Worker(
        path,
        config=WorkerConfig(poll=0.2),
        stop=threading.Event(),
        load=lambda *_, **__: encoder,
    )
    report = worker.run()
    results.put((encoder.began, encoder.ended, report.blocks, seconds_per_token))


def make_store(folder: Path, *, blocks: int) -> tuple[Store, int]:
    """Make a store of so many blocks; return it and the tokens of a block."""
    rows = blocks * _ROWS
    folder.mkdir()
    store = create_store(
        folder / "run.zarr", models=[Model("stub", 64)], segment_length=500, block_rows=_ROWS
    )
    generator = np.random.default_rng(0)
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)
    proteins = letters[generator.integers(0, 20, (rows, 166))]
    ids = from_items([f"c{row}_chunk_1F1".encode() for row in range(rows)])
    number = np.arange(rows)
    with store.appending() as append:
        append.write(
            RowBatch(
                id=ids,
                contig=ids,
                segment=np.ones(rows, np.int32),
                start=number,
                end=number + 500,
                strand=np.ones(rows, np.int8),
                frame=np.ones(rows, np.int8),
                nucleotide=from_items([b"ACGT" * 125] * rows),
                protein=from_items([row.tobytes() for row in proteins]),
                contig_length=number + 500,
            )
        )
        append.commit(
            "s",
            contigs=rows,
            contigs_without_records=0,
            segments=rows,
            bases=500 * rows,
            content="made up",
            source="made up",
        )
    return store, 168 * _ROWS


def run(folder: Path, *, blocks: int, speeds: list[float], seconds: float) -> list[Any]:
    """Fill a store with one worker per speed (block times as multiples of ``seconds``)."""
    store, tokens = make_store(folder, blocks=blocks)
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(len(speeds)), context.Queue()
    processes = [
        context.Process(target=work, args=(store.path, seconds * speed / tokens, ready, results))
        for speed in speeds
    ]
    for process in processes:
        process.start()
    reports = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert store.certify("stub").complete
    return reports


def main() -> None:
    """Measure one worker, many, and a mixed crowd."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0, help="time of a block")
    parser.add_argument("--blocks", type=int, default=8, help="blocks per worker")
    options = parser.parse_args()
    workers, seconds = options.workers, options.seconds
    print(f"{platform.machine()}, {os.cpu_count()} cores; a block takes {seconds} s of sleep")
    folder = Path(tempfile.mkdtemp())
    try:
        [(began, ended, done, _)] = run(
            folder / "one", blocks=options.blocks, speeds=[1.0], seconds=seconds
        )
        one = done / (ended - began)
        print(f"one worker: {done} blocks in {ended - began:.2f} s, {one:.4f} blocks/s")
        reports = run(
            folder / "all",
            blocks=options.blocks * workers,
            speeds=[1.0] * workers,
            seconds=seconds,
        )
        took = max(r[1] for r in reports) - min(r[0] for r in reports)
        rate = sum(r[2] for r in reports) / took
        print(
            f"{workers} workers: {sum(r[2] for r in reports)} blocks in {took:.2f} s, "
            f"{rate:.3f} blocks/s = {rate / (workers * one):.1%} of {workers} times one"
        )
        mixed = [1.0 if number % 2 else 2.0 for number in range(workers)]
        blocks = options.blocks * workers * 3 // 4 + workers // 2
        reports = run(folder / "mixed", blocks=blocks, speeds=mixed, seconds=seconds)
        ends = [r[1] for r in reports]
        for name, factor in (("fast", 1.0), ("slow", 2.0)):
            chosen = [r for r in reports if abs(r[3] * 168 * _ROWS / seconds - factor) < 0.1]
            each = [(ended - began) / done for began, ended, done, _ in chosen]
            print(
                f"{name} workers did {statistics.mean(r[2] for r in chosen):.2f} blocks each; a "
                f"block took {statistics.mean(each):.2f} s on average, {max(each):.2f} s at most"
            )
        print(f"first and last worker ended {max(ends) - min(ends):.2f} s apart")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
