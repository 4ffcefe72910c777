"""How fast a store is scored, exported and verified, row by row: with few numbers a row.

Makes a store of records as assemblies give them (ten segments a contig, two records a segment)
with 16 numbers a record, so that what is done for each row is measured and not the embeddings, and
a classifier of random weights. With ``--base`` processes of this checkout and of an older one work
on the same store in turns, one of format 3, which both read; printed are their medians and, pair by
pair, the ratios.

    python -m tools.bench_calls --rows 1000000 --folder /dev/shm [--base CHECKOUT] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import store
from store.io.ragged import from_items
from store.rows import RowBatch
from tests.rows import HeldClaim
from tests.vnp.classify.classify_files import publish

MODELS = (store.Model("dnabert_s", 8), store.Model("esm2_3b", 8))
FRAMES = (b"F1", b"R2")
SEGMENTS = 10  # of a contig
BATCH = 1 << 16
EXPORTS = (".npy", ".tsv", ".parquet", ".h5ad", ".zarr", ".pt")


def make(path: Path, rows: int, *, contig_lengths: bool) -> None:
    """A store all of whose blocks are certified."""
    made = store.create(path, models=MODELS, segment_length=500, contig_lengths=contig_lengths)
    with made.appending() as appending:
        for first in range(0, rows, BATCH):
            appending.write(batch(first, min(BATCH, rows - first)))
        appending.commit(
            "random", contigs=rows // 20, contigs_without_records=0, segments=rows // 2,
            bases=rows * 250, content="random", source="random",
        )  # fmt: skip
    random = np.random.default_rng(1)
    for model in MODELS:
        made.pin_provenance(model.name, {"bench": "random numbers"})
        for block in range(made.n_blocks):
            start, stop = made.block_bounds(block)
            values = random.standard_normal((stop - start, model.dim)).astype(np.float16)
            made.publish(HeldClaim(model.name, block), values)


def batch(first: int, count: int) -> RowBatch:
    """Rows with short sequences."""
    numbers = np.arange(first, first + count)
    segment, contig = numbers // 2 % SEGMENTS + 1, numbers // (2 * SEGMENTS)
    contigs = [b"k141_%d" % number for number in contig.tolist()]
    parts = zip(contigs, segment.tolist(), numbers.tolist(), strict=True)
    return RowBatch(
        id=from_items([b"%b_chunk_%d%b" % (name, at, FRAMES[n % 2]) for name, at, n in parts]),
        contig=from_items(contigs),
        segment=segment.astype(np.int32),
        start=(segment - 1) * 500,
        end=segment * 500,
        strand=np.where(numbers % 2, -1, 1).astype(np.int8),
        frame=(numbers % 2 + 1).astype(np.int8),
        nucleotide=from_items([b"ACGTACGTACGT"] * count),
        protein=from_items([b"TYVR"] * count),
        contig_length=np.full(count, SEGMENTS * 500),
    )


def measure(path: Path, classifier: Path, only: str) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds of each thing done."""
    import torch

    from vnp.classify.files import load_classifier
    from vnp.classify.predict import predict
    from vnp.exchange.export import export_store

    torch.set_num_threads(1)
    opened = store.open(path)
    read = load_classifier(classifier)
    took = {}
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)

        def export(suffix: str) -> Callable[[], object]:
            return lambda: export_store(opened, folder / f"x{suffix}")

        cpu = torch.device("cpu")
        cases: dict[str, Callable[[], object]] = {
            "predict": lambda: predict(opened, read, folder / "calls", device=cpu)
        }
        cases |= {f"export {suffix}": export(suffix) for suffix in EXPORTS}
        cases["verify"] = lambda: list(opened.verify())
        for case, work in cases.items():
            if only in case:
                began = time.perf_counter(), time.process_time()
                work()
                took[case] = time.perf_counter() - began[0], time.process_time() - began[1]
    return took


def main() -> int:
    """Make the store, measure, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where it is made (default: temporary)")
    parser.add_argument("--base", type=Path, help="a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each checkout")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options.only)))
        return 0
    here = Path(__file__).resolve().parents[1]
    checkouts = [here] if options.base is None else [options.base.resolve(), here]
    runs: dict[Path, list[dict[str, list[float]]]] = {checkout: [] for checkout in checkouts}
    folder = Path(tempfile.mkdtemp(prefix="bench-calls-", dir=options.folder))
    try:
        make(folder / "run.zarr", options.rows, contig_lengths=options.base is None)
        publish(folder / "model.pth", sum(model.dim for model in MODELS))
        for number in range(options.rounds):
            for checkout in checkouts[:: 1 if number % 2 else -1]:
                command = [sys.executable, __file__, "--only", options.only, "--measure"]
                output = subprocess.run(
                    [*command, folder / "run.zarr", folder / "model.pth"],
                    cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
                    stdout=subprocess.PIPE, text=True, check=True,
                ).stdout  # fmt: skip
                runs[checkout].append(json.loads(output))
    finally:
        shutil.rmtree(folder)
    report(options.rows, list(runs.values()))
    return 0


def report(rows: int, runs: list[list[dict[str, list[float]]]]) -> None:
    """Print seconds of wall and processor time, the other checkout's first, and their ratios."""
    print(f"{rows:,} rows; medians of {len(runs[0])}: wall and CPU seconds")
    for case in runs[0][0]:
        cells = [
            f"{statistics.median(run[case][clock] for run in each):9.2f}"
            for each in runs
            for clock in (0, 1)
        ]
        if len(runs) > 1:
            pairs = list(zip(*runs, strict=True))
            cells += [
                f"{statistics.median(a[case][clock] / b[case][clock] for a, b in pairs):8.2f}x"
                for clock in (0, 1)
            ]
        print(f"{case:16}{''.join(cells)}")


if __name__ == "__main__":
    sys.exit(main())
