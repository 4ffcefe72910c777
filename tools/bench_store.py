"""How fast blocks are published and read: both backends against plain h5py and plain zarr.

Publishes blocks of 4096 x 2560 float16 (ESM-2 3B), one after another and each safe on disk before
the next, then reads them all, from the page cache: a block a call, and all in one call. The plain
writers write the same chunks without checksums' read-back, certificates or claims; ``synced`` ones
call fsync after each block.

    python -m tools.bench_store [--blocks 24] [--folder DIR]
    python -m tools.bench_store --base CHECKOUT [--rounds 9] [--folder /dev/shm]

With ``--base`` our two cases run in processes of this checkout and of another in turns, with plain
zarr's reading beside them, and the ratios of their times are printed: above 1, this checkout is
faster.
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


Took = tuple[float, float, float]  # seconds to publish, to read by block, and to read in one call


def our_store(path: Path, values: np.ndarray, blocks: int) -> Took:
    """Publish and read, checksums compared."""
    store = create_store(path, models=(Model("esm", DIM),), segment_length=500)
    append(store, "a", blocks * ROWS, step=ROWS)

    def publish() -> None:
        for block in range(blocks):
            store.publish(HeldClaim("esm", block), values)

    def read() -> None:
        for block in range(blocks):
            store.read("esm", block * ROWS, (block + 1) * ROWS)

    return timed(publish), timed(read), timed(lambda: store.read("esm"))


def plain_h5py(path: Path, values: np.ndarray, blocks: int, *, sync: bool) -> Took:
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

    def read_all() -> None:
        with h5py.File(path, "r") as tree:
            tree["x"][:]

    return timed(write), timed(read), timed(read_all)


def plain_zarr(path: Path, values: np.ndarray, blocks: int) -> Took:
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

    return timed(write), timed(read), timed(lambda: data[:])


_CHILD = """
import importlib.util, json, sys, tempfile, time
from pathlib import Path
import numpy as np

path = Path("tools/bench_store.py").resolve()
spec = importlib.util.spec_from_file_location("bench_store", path)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)

def timed(work):
    began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began[0], time.process_time() - began[1]

bench.timed = timed
values = np.random.default_rng(1).normal(size=(bench.ROWS, bench.DIM)).astype(np.float16)
with tempfile.TemporaryDirectory(dir=sys.argv[1] or None) as folder:
    took = [bench.our_store(Path(folder, name), values, int(sys.argv[2]))
            for name in ("a.zarr", "a.h5")]
    took.append(bench.plain_zarr(Path(folder, "b.zarr"), values, int(sys.argv[2])))
print(json.dumps([seconds[:3] for seconds in took]))
"""


def compare(base: Path, *, rounds: int, blocks: int, folder: Path | None) -> None:
    """Print medians of wall and processor times, and ratios: the other's or zarr's over ours."""
    here = Path(__file__).resolve().parents[1]
    took: dict[Path, list[np.ndarray]] = {here: [], base: []}
    for number in range(rounds):
        for checkout in (here, base) if number % 2 else (base, here):
            output = subprocess.run(
                [sys.executable, "-c", _CHILD.replace("tools/bench_store.py", __file__),
                 str(folder or ""), str(blocks)],
                cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
                stdout=subprocess.PIPE, text=True, check=True,
            ).stdout  # fmt: skip
            took[checkout].append(np.array(json.loads(output)))
    ours, other = np.array(took[here]), np.array(took[base])  # run, store, action, clock
    ratios = {"before/now": other[:, :2] / ours[:, :2], "zarr/now": ours[:, 2:] / ours[:, :2]}
    size = blocks * ROWS * DIM * 2 / 1e6
    print(f"{'':24}{'before MB/s':>12}{'now MB/s':>10}{'zarr MB/s':>10}", end="")
    print("".join(f"{name + ' ' + clock:>17}" for name in ratios for clock in ("wall", "CPU")))
    for store, name in enumerate(("Zarr", "HDF5")):
        for action, what in enumerate(("publish", "read by block", "read at once")):
            speeds = (other[:, store, action], ours[:, store, action], ours[:, 2, action])
            shown = [size / statistics.median(times[:, 0]) for times in speeds]
            print(
                f"{name + ', ' + what:24}{shown[0]:12,.0f}{shown[1]:10,.0f}{shown[2]:10,.0f}",
                end="",
            )
            for ratio in ratios.values():
                for clock in (0, 1):
                    print(f"{statistics.median(ratio[:, store, action, clock]):17.2f}", end="")
            print()


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
    cases: dict[str, Callable[[], Took]] = {
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
    print(f"{'':14}{'publish MB/s':>14}{'read MB/s':>12}{'at once MB/s':>14}")
    try:
        for name, case in cases.items():
            write, read, whole = case()
            print(
                f"{name:14}{size / write:14,.0f}{size / read:12,.0f}{size / whole:14,.0f}",
                flush=True,
            )
            os.sync()
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
