"""How long certifying a billion rows takes where every file opened costs the file system's latency.

``python tools/bench_certify.py [--blocks 488281] [--latency-ms 2] [--threads N]``

A Zarr store of one model is made with its ``filled`` chunks, certificates and (tiny) embeddings of
every block; then it is certified by the code of ``vnp embed``, through a backend that sleeps before
each cell it opens, as a network file system makes one wait. A block costs three opens. Files are
hard links to a few of the same content: names and opens are what is measured. Printed: the time,
the opens, the peak of memory above what the process had before.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from store.backend import Backend, Cell, Part
from store.blocks import certify, publish
from store.open import create_store
from store.schema import Model, Sample
from store.store import Store
from store.zarr.backend import ZarrBackend
from store.zarr.transaction import write_documents

MODEL = Model("small", 1)
_LINKS = 30_000  # of one file, at most: ext4 allows 65,000


class HeldClaim:
    """A claim that nobody disputes."""

    model, epoch, worker = MODEL.name, 1, "0" * 32

    def __init__(self, block: int) -> None:
        self.block = block

    def is_current(self) -> bool:
        """Nobody disputes it."""
        return True


class SlowBackend:
    """Another backend, whose cells take a while to open."""

    def __init__(self, inner: Backend, *, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds
        self._opens = itertools.count()

    @property
    def opens(self) -> int:
        """Cells opened so far; the count goes on with each question."""
        return next(self._opens)

    def read(self, cell: Cell) -> bytes | None:
        """Read after the latency."""
        self._wait()
        return self._inner.read(cell)

    def checksum(self, cell: Cell, rows: int) -> str | None:
        """Read after the latency."""
        self._wait()
        return self._inner.checksum(cell, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _wait(self) -> None:
        next(self._opens)
        if self._seconds:
            time.sleep(self._seconds)


def make_store(folder: Path, *, blocks: int, block_rows: int) -> Store:
    """Make a store whose blocks are all filled."""
    store = create_store(
        folder / "run.zarr", models=[MODEL], segment_length=500, block_rows=block_rows
    )
    rows = blocks * block_rows
    sample = Sample("s", 0, rows, 1, 0, 1, 500, 0, "content", "", "s.fa", "")
    schema = replace(store.schema, samples=(sample,))
    write_documents(store.path, before=store.schema, after=schema, tmp_dir=store.sidecar.tmp)
    backend = ZarrBackend(store.path, schema)
    values = np.ones((block_rows, MODEL.dim), np.float16)
    for first in range(0, blocks, _LINKS):
        publish(backend, HeldClaim(first), values, {})
        for part in (Part.VALUES, Part.CERTIFICATE, Part.FILLED):
            source = store.path / backend.name(Cell(part, MODEL.name, first))
            begin, end = source.name.split(str(first), 1)
            for block in range(first + 1, min(first + _LINKS, blocks)):
                os.link(source, source.with_name(f"{begin}{block}{end}"))
    return Store(backend)


def main() -> None:
    """Make the store, certify, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=488_281)
    parser.add_argument("--block-rows", type=int, default=8, help="rows of a block (small)")
    parser.add_argument("--latency-ms", type=float, default=2.0, help="of each file opened")
    parser.add_argument("--threads", type=int, help="default: as vnp embed chooses")
    parser.add_argument("--folder", type=Path, help="where to make the store (default: temporary)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        store = make_store(folder, blocks=options.blocks, block_rows=options.block_rows)
        slow = SlowBackend(store._backend, seconds=options.latency_ms / 1e3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, processor = time.perf_counter(), time.process_time()
        result = certify(slow, MODEL.name, threads=options.threads)
        seconds = time.perf_counter() - began
        assert result.complete, result.failed[:3]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        opens = slow.opens
        waited = opens * options.latency_ms / 1e3
        print(
            f"{options.blocks:,} blocks, {opens:,} opens of {options.latency_ms:g} ms, "
            f"{options.threads or 'chosen'} threads: {seconds:.1f} s "
            f"({waited:,.0f} s one after the other; processor {time.process_time() - processor:.1f}"
            f" s), {peak / 1024:.0f} MB above what the process had"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
