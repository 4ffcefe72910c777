"""What an exact search of embeddings costs: one record compared with all, from disk or memory.

The store is synthetic (`tools/synthetic_store.py`), but the values of every block are a file of
their own: 6.7 GB a million rows. Run::

    OPENBLAS_NUM_THREADS=1 python -m tools.bench_search --rows 6e5 --folder DIR
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from store.open import open_store
from store.read.search import searching
from tools.synthetic_store import make_store

_REPEATS = 2


def make_distinct(store: Path) -> list[Path]:
    """Replace links to one chunk of values by files that hold the numbers in other places."""
    random, files = np.random.default_rng(1), []
    for model in sorted((store / "obsm").iterdir()):
        for file in sorted(model.glob("c.*")):
            content = bytearray(file.read_bytes())
            values = np.frombuffer(content, np.uint16)
            values[:-2] = np.roll(values[:-2], int(random.integers(len(values))))
            file.unlink()
            file.write_bytes(content)
            files.append(file)
    return files


def forget(files: list[Path]) -> None:
    """Have the system drop files from its memory; the host of a virtual machine may keep them."""
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(store: Path, what: str) -> None:
    """Search once."""
    view = open_store(store).merged()
    query = np.asarray(view[5])
    began, busy = time.perf_counter(), _processor()
    first = 0.0
    for compared in searching(view, query, 21, scattered=True):
        first = first or (time.perf_counter() - began if compared.done else 0.0)
    seconds, spent = time.perf_counter() - began, _processor() - busy
    print(
        f"{what}: {compared.done:,} rows of {view.shape[1]:,} numbers in {seconds:.2f} s, first "
        f"{first:.2f} s; a row {1e6 * seconds / compared.done:.2f} us, "
        f"{1e6 * spent / compared.done:.2f} us of the processor; "
        f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000} MB",
        flush=True,
    )


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Make the store, search, delete it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=6e5)
    parser.add_argument("--folder", type=Path, help="where to make the store (default: temporary)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        store, rows = folder / "run.zarr", int(options.rows)
        make_store(
            store, rows=rows, samples=20, workers=4, filled=1.0, certified=True, contigs=rows // 3
        )
        files = make_distinct(store)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()}")
        for _ in range(_REPEATS):
            forget(files)
            measure(store, "from disk")
            measure(store, "from memory")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
