"""How fast the merged view reads: random rows against plain zarr, one row, and everything in order.

Makes a store of random numbers with the two arrays of VirNucPro's recipe (768 and 2,560 numbers a
record; 1 million records are 6.7 GB), reads it through the view and through zarr, checks that both
give the same numbers, prints a table, and removes the store. ``warm`` is with the files in the
system's cache, ``cold`` right after they were dropped from it.

    python tools/bench_views.py --rows 1000000 --folder /some/disk
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import zarr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import store
from store.io.ragged import Ragged
from store.rows import RowBatch
from tests.rows import HeldClaim

MODELS = (store.Model("dnabert_s", 768), store.Model("esm2_3b", 2560))
RANDOM_ROWS = 10_000
BATCH = 1 << 16


def main() -> None:
    """Make the store, measure, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the store is made (default: temporary)")
    parser.add_argument("--suffix", choices=(".zarr", ".h5"), default=".zarr", help="backend")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each fast case")
    options = parser.parse_args()
    need = options.rows * sum(model.dim for model in MODELS) * 2
    folder = Path(tempfile.mkdtemp(prefix="bench-views-", dir=options.folder))
    try:
        free = shutil.disk_usage(folder).free
        if free < 1.2 * need:
            parser.error(f"{need / 1e9:.1f} GB are needed in {folder}, {free / 1e9:.1f} are free")
        opened = make(folder / f"run{options.suffix}", options.rows)
        print(f"{options.rows:,} rows x {opened.merged().shape[1]}, {need / 1e9:.2f} GB")
        print(f"{cpu()}, {len(os.sched_getaffinity(0))} CPUs, {memory() / 2**30:.0f} GiB memory")
        print(f"Python {platform.python_version()}, NumPy {np.__version__}, zarr {version('zarr')}")
        measure(opened, options.repeats)
    finally:
        shutil.rmtree(folder)


def make(path: Path, rows: int) -> store.Store:
    """A store whose rows cost little and whose embeddings are random and certified."""
    made = store.create(path, models=MODELS, segment_length=500)
    with made.appending() as appending:
        for first in range(0, rows, BATCH):
            appending.write(batch(first, min(BATCH, rows - first)))
        appending.commit(
            "random",
            contigs=rows,
            contigs_without_records=0,
            segments=rows,
            bases=rows * 6,
            content="random",
            source="random",
        )
    rng = np.random.default_rng(1)
    for model in MODELS:
        noise = rng.standard_normal((made.schema.block_rows, model.dim), dtype=np.float32)
        made.pin_provenance(model.name, {"bench": "random numbers"})
        for block in range(made.n_blocks):
            start, stop = made.block_bounds(block)
            values = np.roll(noise, 17 * block, axis=1)[: stop - start].astype(np.float16)
            values[:, 0] = np.arange(start, stop) % 2048  # a row in a wrong place would show
            made.publish(HeldClaim(model.name, block), values)
    return store.open(path)


def batch(first: int, count: int) -> RowBatch:
    """Rows with six bases each."""
    numbers = np.arange(first, first + count)
    ids = np.char.mod("r%08d", numbers).astype("S9")
    fixed = np.arange(count + 1, dtype=np.int64)
    text = Ragged(np.frombuffer(ids.tobytes(), np.uint8), fixed * 9)
    return RowBatch(
        id=text,
        contig=text,
        segment=np.ones(count, np.int32),
        start=numbers,
        end=numbers + 6,
        strand=np.ones(count, np.int8),
        frame=np.ones(count, np.int8),
        nucleotide=Ragged(np.frombuffer(b"ACGTAC" * count, np.uint8), fixed * 6),
        protein=Ragged(np.frombuffer(b"TY" * count, np.uint8), fixed * 2),
        contig_length=numbers + 6,
    )


def measure(opened: store.Store, repeats: int) -> None:
    """Time the view and plain zarr, and compare what they read."""
    view = opened.merged()
    rng = np.random.default_rng(2)
    rows = rng.choice(view.shape[0], size=min(RANDOM_ROWS, view.shape[0]), replace=False)
    arrays = [plain(opened, model.name) for model in MODELS]

    def plain_rows() -> np.ndarray:
        return np.concatenate([array[rows] for array in arrays], axis=1)

    def in_order() -> int:
        return sum(len(values) for _, values in view.batches(reuse=True))

    random_bytes, all_bytes = len(rows) * view.shape[1] * 2, view.nbytes
    warm(opened)
    seconds = best(lambda: view[rows], repeats)
    line("view, random rows, warm", seconds, random_bytes)
    slow, wanted = timed(plain_rows)
    line(f"plain {opened.path.suffix[1:]}, the same rows, warm", slow, random_bytes)
    print(f"{'':44} {slow / seconds:.0f} times faster through the view")
    if not np.array_equal(view[rows], wanted):
        raise SystemExit("the view and the plain arrays differ")
    cold_view = statistics.median(cold(opened, lambda: view[rows]) for _ in range(3))
    line("view, random rows, cold", cold_view, random_bytes)
    cold_plain = cold(opened, plain_rows)
    line("plain, the same rows, cold", cold_plain, random_bytes)
    print(f"{'':44} {cold_plain / cold_view:.0f} times faster through the view")
    warm(opened)
    one = iter(rows.tolist() * 100)
    line("view, one row", best(lambda: view[next(one)], 2000, median=True), view.shape[1] * 2)
    line("view, everything in order, warm", best(in_order, 3), all_bytes)
    line("view, everything in order, cold", cold(opened, in_order), all_bytes)
    line("files read whole, warm (the bound)", best(lambda: read_files(opened), 3), all_bytes)
    line("files read whole, cold (the bound)", cold(opened, lambda: read_files(opened)), all_bytes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of this process, files it has mapped among it: {peak:.2f} GiB")


def plain(opened: store.Store, model: str) -> zarr.Array | np.ndarray:
    """The array as its own library opens it."""
    if opened.path.is_dir():
        return zarr.open_array(opened.path / f"obsm/X_{model}", mode="r")
    import h5py

    return Sorted(h5py.File(opened.path)[f"obsm/X_{model}"])


class Sorted:
    """Row numbers in any order, which h5py itself does not take."""

    def __init__(self, array: object) -> None:
        self._array = array

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        order = np.argsort(rows)
        out = np.empty((len(rows), self._array.shape[1]), np.float16)
        out[order] = self._array[rows[order]]
        return out


def chunks(opened: store.Store) -> Iterator[Path]:
    """Every file that holds embeddings."""
    paths = (
        opened.values_file(model.name, block)[0]
        for model in MODELS
        for block in range(opened.n_blocks)
    )
    yield from dict.fromkeys(paths)


def read_files(opened: store.Store) -> None:
    """Read the files into one buffer, again and again."""
    buffer = memoryview(bytearray(32 << 20))
    for path in chunks(opened):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def warm(opened: store.Store) -> None:
    """Bring the files into the system's cache."""
    read_files(opened)


def cold(opened: store.Store, call: Callable[[], object]) -> float:
    """Seconds of a call right after the files were dropped from the system's cache."""
    os.sync()
    for path in chunks(opened):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    return timed(call)[0]


def timed(call: Callable[[], object]) -> tuple[float, object]:
    """Seconds and result of a call."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def best(call: Callable[[], object], repeats: int, *, median: bool = False) -> float:
    """Fastest of several runs, or their median."""
    runs = [timed(call)[0] for _ in range(repeats)]
    return statistics.median(runs) if median else min(runs)


def line(what: str, seconds: float, size: int) -> None:
    """Print one line of the table."""
    shown = f"{seconds:9.3f} s" if seconds >= 0.01 else f"{1e6 * seconds:8.0f} us"
    print(f"{what:<44} {shown}  {size / seconds / 1e9:6.2f} GB/s", flush=True)


def cpu() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()


def memory() -> int:
    """Bytes of memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


if __name__ == "__main__":
    main()
