"""How long until a worker computes, and what `vnp embed` costs on a store that is complete.

``python tools/bench_start.py FOLDER [--model esm2_3b]... [--device cuda] [--runs 3] [--before ..]``

Writes a checkpoint of random weights to FOLDER, and makes a store of a few reads for every run, as
many times as asked: the first run finds cold caches, the others warm ones. Printed for each run:
what `vnp worker --verbose` says of each step, and the seconds from its start to its first batch.
Then so many times: CPU and wall seconds of `vnp embed` on the store that is complete.

With ``--before``, a checkout of another commit, its workers take turns with these. Printed instead:
the medians of both, and of the ratios of each turn.
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

_STEP = re.compile(r"([\d.]+) s after the process began: (.+) \([\d.]+ s\)")
_READ = ("imports", "first batch", "wall", "CPU")  # in seconds; the first two since the start


def vnp(*arguments: str, tree: Path = ROOT) -> tuple[list[str], float, float]:
    """Run a command of a checkout; return what it says, its wall seconds and its CPU seconds."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "vnp", *arguments],
        cwd=tree, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=True,
    )  # fmt: skip
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system
    return done.stderr.splitlines(), wall, cpu - before.children_user - before.children_system


def compare(options: argparse.Namespace, *settings: str) -> None:
    """Have workers of two checkouts take turns."""
    trees = {"before": options.before.resolve(), "now": ROOT}
    found: dict[str, list[list[float]]] = {name: [] for name in trees}
    for turn in range(options.runs):
        for name in sorted(trees, reverse=bool(turn % 2)):
            store = store_of(options.folder, f"{name}{turn}", records=300, models=options.model)
            said, wall, cpu = vnp("worker", str(store), *settings, tree=trees[name])
            steps = {step: float(at) for at, step in _STEP.findall("\n".join(said))}
            row = [steps["imports"], steps["the first batch is computed"], wall, cpu]
            found[name].append(row)
    pairs = zip(found["now"], found["before"], strict=True)
    ratios = [[now / before for now, before in zip(*pair, strict=True)] for pair in pairs]
    for name, rows in (found | {"ratio": ratios}).items():
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(f"{name}: " + ", ".join(f"{a} {b:.2f}" for a, b in zip(_READ, medians, strict=True)))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="TREE")
    options = parser.parse_args()
    options.model = options.model or ["demo_esm2"]
    options.folder.mkdir(parents=True, exist_ok=True)
    weights = options.folder / "weights"
    weights.mkdir(exist_ok=True)
    for name in options.model:
        if not registry.model(name).demo:
            write(registry.model(name), weights, device=options.device)
    settings = ("--verbose", "--device", options.device, "--weights", str(weights))
    if options.before is not None:
        compare(options, *settings)
        return
    for run in range(1, options.runs + 1):
        store = store_of(options.folder, f"start{run}", records=300, models=options.model)
        lines, wall, cpu = vnp("worker", str(store), *settings)
        print(f"run {run}: {wall:.2f} s in all, {cpu:.2f} s of CPU")
        for line in lines:
            if re.search(r"after the process began| took [\d.]+ s|tested on such", line):
                print("  " + line.removeprefix("vnp: "))
    found = [vnp("embed", str(store), "--device", options.device)[1:] for _ in range(options.runs)]
    wall, cpu = (statistics.median(each) for each in zip(*found, strict=True))
    print(f"vnp embed on a complete store: {wall:.2f} s, {cpu:.2f} s of CPU (median)")


if __name__ == "__main__":
    main()
