"""How fast blocks are published and read: both backends against plain h5py and plain zarr.

Publishes blocks of 4096 x 2560 float16 (ESM-2 3B), one after another and each safe on disk before
the next, then reads them all, from the page cache. The plain writers write the same chunks without
checksums' read-back, certificates or claims; ``synced`` ones call fsync after each block.

    python -m tools.bench_store [--blocks 24] [--folder DIR]
    python -m tools.bench_store --base CHECKOUT [--rounds 9] [--folder /dev/shm]

With ``--base`` our two cases run in processes of this checkout and of another in turns, and the
ratios of their processor times are printed: above 1, this checkout is faster.
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
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import zarr

from store.open import create_store
from store.schema import Model
from tests.rows import HeldClaim, append

ROWS, DIM = 4096, 2560


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def our_store(path: Path, values: np.ndarray, blocks: int) -> tuple[float, float]:
    """Seconds to publish and to read, checksums compared."""
    store = create_store(path, models=(Model("esm", DIM),), segment_length=500)
    append(store, "a", blocks * ROWS, step=ROWS)

    def publish() -> None:
        for block in range(blocks):
            store.publish(HeldClaim("esm", block), values)

    def read() -> None:
        for block in range(blocks):
            store.read("esm", block * ROWS, (block + 1) * ROWS)

    return timed(publish), timed(read)


def plain_h5py(path: Path, values: np.ndarray, blocks: int, *, sync: bool) -> tuple[float, float]:
    """The same chunks through h5py."""

    def write() -> None:
        with h5py.File(path, "w") as tree:
            data = tree.create_dataset(
                "x", (blocks * ROWS, DIM), dtype="<f2", chunks=(ROWS, DIM), fillvalue=0
            )
            fd = os.open(path, os.O_RDWR)
            for block in range(blocks):
                data[block * ROWS : (block + 1) * ROWS] = values
                if sync:
                    tree.flush()
                    os.fsync(fd)
            os.close(fd)

    def read() -> None:
        with h5py.File(path, "r") as tree:
            for block in range(blocks):
                tree["x"][block * ROWS : (block + 1) * ROWS]

    return timed(write), timed(read)


def plain_zarr(path: Path, values: np.ndarray, blocks: int) -> tuple[float, float]:
    """The same chunks through zarr, uncompressed, with its crc32c codec; zarr never syncs."""
    data = zarr.create_array(
        path,
        shape=(blocks * ROWS, DIM),
        chunks=(ROWS, DIM),
        dtype="float16",
        compressors=[zarr.codecs.Crc32cCodec()],
    )

    def write() -> None:
        for block in range(blocks):
            data[block * ROWS : (block + 1) * ROWS] = values

    def read() -> None:
        for block in range(blocks):
            data[block * ROWS : (block + 1) * ROWS]

    return timed(write), timed(read)


_CHILD = """
import importlib.util, json, sys, tempfile, time
from pathlib import Path
import numpy as np

path = Path("tools/bench_store.py").resolve()
spec = importlib.util.spec_from_file_location("bench_store", path)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)

def timed(work):
    began = time.process_time()
    work()
    return time.process_time() - began

bench.timed = timed
values = np.random.default_rng(1).normal(size=(bench.ROWS, bench.DIM)).astype(np.float16)
with tempfile.TemporaryDirectory(dir=sys.argv[1] or None) as folder:
    took = [bench.our_store(Path(folder, name), values, int(sys.argv[2]))
            for name in ("a.zarr", "a.h5")]
print(json.dumps([seconds for pair in took for seconds in pair]))
"""


def compare(base: Path, *, rounds: int, blocks: int, folder: Path | None) -> None:
    """Print the ratios of processor time, the other checkout's over this one's."""
    here = Path(__file__).resolve().parents[1]
    took: dict[Path, list[list[float]]] = {here: [], base: []}
    for number in range(rounds):
        for checkout in (here, base) if number % 2 else (base, here):
            output = subprocess.run(
                [sys.executable, "-c", _CHILD, str(folder or ""), str(blocks)],
                cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
                stdout=subprocess.PIPE, text=True, check=True,
            ).stdout  # fmt: skip
            took[checkout].append(json.loads(output))
    print(f"{'':20}{'ratio':>8}{'lowest':>8}{'highest':>9}")
    for at, name in enumerate(("Zarr, publish", "Zarr, read", "HDF5, publish", "HDF5, read")):
        ratios = [b[at] / a[at] for a, b in zip(took[here], took[base], strict=True)]
        print(f"{name:20}{statistics.median(ratios):8.3f}{min(ratios):8.2f}{max(ratios):9.2f}")


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary one)")
    parser.add_argument("--base", type=Path, help="a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=9, help="runs of each checkout")
    options = parser.parse_args()
    if options.base:
        compare(
            options.base.resolve(),
            rounds=options.rounds,
            blocks=options.blocks,
            folder=options.folder,
        )
        return 0
    values = np.random.default_rng(1).normal(size=(ROWS, DIM)).astype(np.float16)
    size = options.blocks * values.nbytes / 1e6
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    blocks = options.blocks
    cases: dict[str, Callable[[], tuple[float, float]]] = {
        "vnp, Zarr": lambda: our_store(folder / "a.zarr", values, blocks),
        "vnp, HDF5": lambda: our_store(folder / "a.h5", values, blocks),
        "zarr": lambda: plain_zarr(folder / "b.zarr", values, blocks),
        "h5py": lambda: plain_h5py(folder / "b.h5", values, blocks, sync=False),
        "h5py, synced": lambda: plain_h5py(folder / "c.h5", values, blocks, sync=True),
    }
    print(
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, h5py {h5py.__version__}, "
        f"zarr {zarr.__version__}; {blocks} blocks, {size:,.0f} MB a case"
    )
    print(f"{'':14}{'publish MB/s':>14}{'read MB/s':>12}")
    try:
        for name, case in cases.items():
            write, read = case()
            print(f"{name:14}{size / write:14,.0f}{size / read:12,.0f}", flush=True)
            os.sync()
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
