"""What a store of 10 million to a billion rows costs: opening, status, claims, appends, certify.

The store is synthetic (`tools/synthetic_store.py` says what of it is real) and each measurement is
a process of its own, so memory is that of this measurement alone. Run::

    python -m tools.bench_scale --rows 1e9 --samples 10000 --workers 10000 --folder DIR
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from store.claims.participant import Participant
from store.claims.worklist import WorkList
from store.io.files import mapped_file
from store.io.ragged import Ragged, from_items
from store.open import open_store
from store.read.columns import take_scores
from store.rows import RowBatch
from store.store import Store

MODEL = "esm2_3b"


def measure_open(path: Path) -> dict[str, Any]:
    """Open the store ten times."""
    open_store(path)
    return {"ms": _each(lambda: open_store(path), 10)}


def measure_rows_filled(path: Path) -> dict[str, Any]:
    """Count filled rows of every block."""
    store = open_store(path)
    return {"ms": _each(lambda: store.rows_filled(MODEL), 5)}


def measure_claims(path: Path) -> dict[str, Any]:
    """Take the first claim and 1,000 more."""
    store = open_store(path)
    with Participant(store.sidecar.room) as participant:
        work = WorkList(
            participant.claims, model=MODEL, open_blocks=lambda: store.open_blocks(MODEL)
        )
        seconds = [_seconds(work.next) for _ in range(1001)]
    return {
        "first_ms": round(1e3 * seconds[0], 1),
        "next_ms": round(1e3 * statistics.median(seconds[1:]), 3),
        "slowest_next_ms": round(1e3 * max(seconds[1:]), 2),
    }


def measure_filled(path: Path) -> dict[str, Any]:
    """Ask which rows are filled: of a million, and of all."""
    store = open_store(path)
    middle = store.n_rows // 2
    before = _peak()
    some = _seconds(lambda: store.filled(MODEL, middle, middle + 10**6))
    whole = _seconds(lambda: store.filled(MODEL))
    return {
        "million_ms": round(1e3 * some, 1),
        "all_s": round(whole, 2),
        "bytes_a_row": round((_peak() - before) * 1e6 / store.n_rows, 2),
    }


def measure_append(path: Path, *, records: int) -> dict[str, Any]:
    """Append a sample of new records; its name and content are looked up among all samples."""
    store = open_store(path)
    name = f"new_{uuid4().hex}"
    batch = _batch(records, seed=time.time_ns())
    before = _read_bytes()
    began = time.perf_counter()
    with store.appending() as append:
        append.write(batch)
        append.commit(
            name,
            contigs=1,
            contigs_without_records=0,
            segments=records,
            bases=500 * records,
            content=name,
            source="new.fa",
        )
    seconds = time.perf_counter() - began
    return {"s": round(seconds, 3), "read_mb": round((_read_bytes() - before) / 1e6, 2)}


def measure_certify(path: Path) -> dict[str, Any]:
    """Certify one model."""
    store = open_store(path)
    found: list[int] = []
    seconds = _seconds(lambda: found.append(store.certify(MODEL).certified))
    return {"s": round(seconds, 1), "rows": found[0]}


def measure_find(path: Path) -> dict[str, Any]:
    """Look a thousand ids up among those of all rows."""
    from vnp.exchange.record_index import RecordIndex

    store = open_store(path)
    ids = [f"absent_{n}" for n in range(1000)]
    with _anonymous() as peak:
        seconds = _seconds(lambda: RecordIndex(store, among=ids).find(ids))
    return {"s": round(seconds, 1), "more_mb": peak()}


def measure_scores(path: Path) -> dict[str, Any]:
    """Keep scores of all rows, as predict does, and read those of ten rows."""
    store = open_store(path)
    file = store.sidecar.make().temporary("scores")
    held = mapped_file(file, dtype=np.float32, shape=(store.n_rows, 2))
    edges = [(sample.start, sample.stop) for sample in store.schema.samples]
    try:
        with _anonymous() as peak:
            seconds = _seconds(
                lambda: store.save_scores(
                    "bench", digest="bench", values=held, rows=edges, replace=True
                )
            )
        ten = np.linspace(0, store.n_rows - 1, 10).astype(np.int64)
        with _anonymous() as peak_of_ten:
            read = _seconds(lambda: take_scores(store, "bench", ten))
    finally:
        file.unlink()
    return {
        "save_s": round(seconds, 1),
        "save_more_mb": peak(),
        "ten_rows_ms": round(1e3 * read, 1),
        "ten_rows_more_mb": peak_of_ten(),
    }


def measure_status(path: Path) -> dict[str, Any]:
    """Run ``vnp status`` five times, whole processes."""
    command = [sys.executable, "-m", "vnp", "status", str(path), "--json"]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    return {"s": round(statistics.median(seconds), 2), "status_mb": round(peak)}


MEASUREMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "open": measure_open,
    "status": measure_status,
    "rows_filled": measure_rows_filled,
    "claims": measure_claims,
    "filled": measure_filled,
    "append of 12 records": lambda path: measure_append(path, records=12),
    "append of 12 records again": lambda path: measure_append(path, records=12),
    "append of one contig (2 records)": lambda path: measure_append(path, records=2),
    "append of 100,000 records": lambda path: measure_append(path, records=100_000),
    "certify": measure_certify,
    "find 1,000 ids": measure_find,
    "scores": measure_scores,
}


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _each(work: Callable[[], Any], times: int) -> float:
    return round(1e3 * statistics.median(_seconds(work) for _ in range(times)), 2)


def _peak() -> float:
    """Highest memory of this process so far, in MB."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if "VmHWM" in line) / 1e3


@contextmanager
def _anonymous() -> Iterator[Callable[[], int]]:
    """Yield what tells by how many MB memory grew at most in the body, without mapped files."""
    over, found = threading.Event(), []

    def look() -> None:
        while True:
            text = Path("/proc/self/status").read_text()
            found.append(next(int(x.split()[1]) for x in text.splitlines() if "RssAnon" in x))
            if over.wait(0.02):
                return

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield lambda: round((max(found) - found[0]) / 1e3)
    finally:
        over.set()
        watcher.join()


def _read_bytes() -> int:
    """Bytes that this process has read from files, cached or not."""
    text = Path("/proc/self/io").read_text()
    return int(dict(line.split(": ") for line in text.splitlines())["rchar"])


def _batch(records: int, *, seed: int) -> RowBatch:
    random = np.random.default_rng(seed)
    ids = from_items(f"c_{n}_chunk_1F1".encode() for n in range(records))
    numbers = np.arange(records)
    return RowBatch(
        id=ids,
        contig=ids,
        segment=np.ones(records, dtype=np.int32),
        start=numbers * 500,
        end=numbers * 500 + 500,
        strand=np.ones(records, dtype=np.int8),
        frame=np.ones(records, dtype=np.int8),
        nucleotide=_letters(random, b"ACGT", records, 500),
        protein=_letters(random, b"ACDEFGHIKLMNPQRSTVWY", records, 166),
        contig_length=numbers * 500 + 500,
    )


def _letters(random: np.random.Generator, letters: bytes, records: int, length: int) -> Ragged:
    alphabet = np.frombuffer(letters, np.uint8)
    data = alphabet[random.integers(0, len(alphabet), records * length)]
    return Ragged(data, np.arange(records + 1, dtype=np.int64) * length)


def _measure_apart(name: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench_scale", "--store", str(path), "--one", name]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def _describe(store: Store) -> None:
    cpu = next(
        line.partition(": ")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    print(f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}")
    runs = json.loads((store.sidecar.digests / "index.json").read_text())["runs"]
    root = (store.path / "zarr.json").stat().st_size
    print(
        f"{store.n_rows:,} rows, {store.n_blocks:,} blocks, {len(store.schema.samples):,} samples, "
        f"{len(store.schema.models)} models; {len(runs)} runs of digests; root of {root:,} bytes",
        flush=True,
    )


def main() -> None:
    """Make the store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=10_000, help="past ones")
    parser.add_argument("--filled", type=float, default=0.6, help="share of the blocks")
    parser.add_argument(
        "--certified", action="store_true", help="distinct files of every block, to certify them"
    )
    parser.add_argument(
        "--digests", action="store_true", help="real digest columns, 16 bytes a row"
    )
    parser.add_argument("--folder", type=Path, help="where to make the store (default: temporary)")
    parser.add_argument("--store", type=Path, help="measure this store, made before with --keep")
    parser.add_argument("--keep", action="store_true", help="do not remove the store")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, help="these measurements")
    parser.add_argument("--one", choices=MEASUREMENTS, help="one measurement, in this process")
    options = parser.parse_args()
    if options.one:
        found = MEASUREMENTS[options.one](options.store)
        print(json.dumps({**found, "peak_mb": round(_peak())}))
        return
    folder = None
    path = options.store
    try:
        if path is None:
            from tools.synthetic_store import make_store

            folder = Path(tempfile.mkdtemp(dir=options.folder))
            path = folder / "run.zarr"
            began = time.perf_counter()
            make_store(
                path,
                rows=int(options.rows),
                samples=options.samples,
                workers=options.workers,
                filled=options.filled,
                certified=options.certified,
                digests=options.digests,
            )
            print(f"{path} made in {time.perf_counter() - began:.0f} s")
        _describe(open_store(path))
        for name in options.only or MEASUREMENTS:
            if name != "certify" or options.certified:
                print(f"{name}: {json.dumps(_measure_apart(name, path))}", flush=True)
    finally:
        if folder is not None and not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
