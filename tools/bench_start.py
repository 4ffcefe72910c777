"""How long until a worker computes, and what `vnp embed` costs on a store that is complete.

``python tools/bench_start.py FOLDER [--model esm2_3b] [--device cuda] [--runs 3]``

Writes a checkpoint of random weights to FOLDER, and makes a store of a few reads for every run, as
many times as asked: the first run finds cold caches, the others warm ones. Printed for each run:
what `vnp worker --verbose` says of each step, and the seconds from its start to its first batch.
Then, alternating so many times: CPU and wall seconds of `vnp embed` on the store that is complete.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from bench_embed import store_of  # noqa: E402
from random_checkpoint import write  # noqa: E402

from vnp.models import registry  # noqa: E402


def vnp(*arguments: str) -> tuple[list[str], float, float]:
    """Run a command; return what it says, its wall seconds and its CPU seconds."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "vnp", *arguments],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=True,
    )  # fmt: skip
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system
    return done.stderr.splitlines(), wall, cpu - before.children_user - before.children_system


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="demo_esm2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    weights = options.folder / "weights"
    weights.mkdir(exist_ok=True)
    if not registry.model(options.model).demo:
        write(registry.model(options.model), weights, device=options.device)
    for run in range(1, options.runs + 1):
        store = store_of(options.folder, f"start{run}", records=300, models=[options.model])
        lines, wall, cpu = vnp(
            "worker", str(store), "--verbose", "--device", options.device, "--weights", str(weights)
        )
        print(f"run {run}: {wall:.2f} s in all, {cpu:.2f} s of CPU")
        for line in lines:
            if re.search(r"after the process began| took [\d.]+ s|tested on such", line):
                print("  " + line.removeprefix("vnp: "))
    found = [vnp("embed", str(store), "--device", options.device)[1:] for _ in range(options.runs)]
    wall, cpu = (statistics.median(each) for each in zip(*found, strict=True))
    print(f"vnp embed on a complete store: {wall:.2f} s, {cpu:.2f} s of CPU (median)")


if __name__ == "__main__":
    main()
