"""Measure `vnp embed` end to end: a store on local disk, random weights of the published shapes.

``python tools/bench_embed.py FOLDER [--records 200000] [--model NAME ...]``

Writes the checkpoints and a FASTA of 150-bp coding reads to FOLDER, makes a store, appends, embeds
a small store once so that kernels are compiled, and then embeds the large one, one model after the
other. Printed for each model: rates from the first block submitted to the last result (loading is
left out), the share of that time in which the GPU computed, by its own clock, and the rate while it
computed, which is the engine's own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from random_checkpoint import write  # noqa: E402

from vnp.models import registry  # noqa: E402

_CODONS = 50
_FRAMES_PER_READ = 1.5  # stop-free frames in a coding read: its own and chance ones


def write_reads(path: Path, count: int) -> None:
    """Write reads of 50 codons without a stop."""
    generator = np.random.default_rng(0)
    codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
    table = np.array([codon.encode() for codon in codons if codon not in ("TAA", "TAG", "TGA")])
    reads = table[generator.integers(0, len(table), (count, _CODONS))]
    with path.open("wb") as file:
        for number, read in enumerate(reads):
            file.write(b">r%d\n%s\n" % (number, read.tobytes()))


def vnp(*arguments: str) -> dict[str, Any]:
    """Run a command and return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "vnp", *arguments, "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (arguments, done.stdout)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def store_of(folder: Path, name: str, *, records: int, models: list[str]) -> Path:
    """Make and fill a store with reads."""
    reads, store = folder / f"{name}.fasta", folder / f"{name}.zarr"
    write_reads(reads, int(records / _FRAMES_PER_READ))
    vnp("init", str(store), *(part for model in models for part in ("--model", model)))
    vnp("append", str(store), str(reads))
    return store


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--model", action="append")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    models = options.model or ["dnabert_s", "esm2_650m", "esm2_3b"]
    options.folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        write(registry.model(model), options.folder / "weights", device=options.device)
    small = store_of(options.folder, "small", records=9_000, models=models)
    large = store_of(options.folder, "large", records=options.records, models=models)
    for model in models:
        given = ("--weights", str(options.folder / "weights"), "--model", model)
        given += ("--device", options.device)
        vnp("embed", str(small), *given)
        began = time.perf_counter()
        report = vnp("embed", str(large), *given)
        seconds = time.perf_counter() - began
        worker = report["workers"][0]
        span, busy = worker["span_seconds"], worker["busy_seconds"]
        print(
            f"{model}: {worker['records']:,} records, {worker['tokens']:,} tokens; "
            f"{worker['records'] / span:,.0f} records/s, {worker['tokens'] / span:,.0f} tok/s over "
            f"{span:.1f} s; GPU busy {busy / span:.1%}, while busy "
            f"{worker['tokens'] / max(busy, 1e-9):,.0f} tok/s; whole command {seconds:.1f} s; "
            f"complete {report['complete']}; fall-backs {worker['fallbacks']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
