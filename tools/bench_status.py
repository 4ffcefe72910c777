"""How long `vnp status` and finding the next claim take on a store of 100 million rows.

The store has its metadata, its `filled` chunks and its claims, but no embeddings: that is all
that status and claims look at. Run: python tools/bench_status.py [--rows 100000000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from store.claims.participant import Participant
from store.claims.worklist import WorkList
from store.layout import filled_column
from store.open import create_store
from store.schema import Model, Sample
from store.store import Store
from store.zarr.codec import encode_numbers
from store.zarr.transaction import write_documents

MODELS = (Model("dnabert_s", 768), Model("esm2_3b", 2560))


def make_store(folder: Path, *, rows: int, share: float, samples: int) -> Store:
    """Make a store of ``rows`` rows, ``share`` of its blocks filled and claimed."""
    store = create_store(folder / "run.zarr", models=MODELS, segment_length=500)
    ends = np.linspace(0, rows, samples + 1).astype(int).tolist()
    made = tuple(
        Sample(f"s{i}", start, stop, 1, 0, 1, 500, 0, f"{i}", "", f"s{i}.fa", "")
        for i, (start, stop) in enumerate(pairwise(ends))
    )
    schema = replace(store.schema, samples=made)
    write_documents(store.path, before=store.schema, after=schema, tmp_dir=store.sidecar.tmp)
    store.refresh()
    full = np.ones(schema.block_rows, dtype=bool)
    for model in MODELS:
        column = filled_column(schema, model)
        content = encode_numbers(full, column=column)
        claims = store.sidecar.path / "claims" / model.name
        claims.mkdir(parents=True)
        # Files of one content may be links to each other: the names are what is measured.
        first = store.path / column.chunk_key(0)
        first.write_bytes(content)
        (claims / "0.1").write_text("{}")
        for block in range(1, int(store.n_blocks * share)):
            os.link(first, store.path / column.chunk_key(block))
            os.link(claims / "0.1", claims / f"{block}.1")
            os.link(claims / "0.1", claims / f"{block}.1.released")
    return store


def time_status(store: Store, runs: int) -> list[float]:
    """Seconds of whole `vnp status` processes."""
    command = [sys.executable, "-m", "vnp", "status", str(store.path), "--json"]
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds.append(time.perf_counter() - began)
    assert json.loads(output)["rows"] == store.n_rows
    return seconds


def time_claims(store: Store, count: int) -> tuple[float, list[float], float]:
    """Seconds of a worker's first claim and of each of the next; processor seconds of one."""
    with Participant(store.sidecar.room) as participant:
        work = WorkList(
            participant.claims, model="esm2_3b", open_blocks=lambda: store.open_blocks("esm2_3b")
        )
        seconds = []
        for number in range(count + 1):
            if number == 1:
                processor = time.process_time()
            began = time.perf_counter()
            assert work.next() is not None
            seconds.append(time.perf_counter() - began)
        processor = time.process_time() - processor
    return seconds[0], seconds[1:], processor / count


def main() -> None:
    """Make the store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--filled", type=float, default=0.6, help="share of the blocks")
    parser.add_argument("--folder", type=Path, help="where to make the store (default: temporary)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        store = make_store(folder, rows=options.rows, share=options.filled, samples=options.samples)
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
        print(
            f"{store.n_rows:,} rows, {store.n_blocks:,} blocks, {options.samples:,} samples, "
            f"{len(MODELS)} models, {options.filled:.0%} filled"
        )
        status = time_status(store, runs=5)
        print(f"vnp status, whole process: median {statistics.median(status):.2f} s of 5")
        first, others, processor = time_claims(store, count=1000)
        print(f"first claim of a worker:   {1e3 * first:.1f} ms")
        print(
            f"each further claim:        median {1e3 * statistics.median(others):.2f} ms, "
            f"highest of 1,000 {1e3 * max(others):.2f} ms; "
            f"processor {1e6 * processor:.0f} us"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
