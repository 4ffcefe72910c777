"""Contig ids and principal components, old code against new: two deletions of decision 021.

``python -m tools.bench_deletions --base DIR`` runs both in turns, each in a process of its own;
DIR is a checkout of 659d196, which had the older code.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

IDS = """
import sys, time, resource, itertools
duplicates = sys.argv[1]
try:
    from vnp.sequence.contig_ids import Duplicates, UniqueIds
    old = False
except ImportError:
    from vnp.names import Duplicates, UniqueIds
    old = True
began = time.perf_counter()
with UniqueIds(Duplicates(duplicates)) as ids:
    for first in range(0, 5_000_000, 10_000):
        names = [b"k141_%d flag" % i for i in range(first, first + 10_000)]
        ids.admit(names, first=first + 1) if old else ids.admit(names)
    if not old:
        ids.finish()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{time.perf_counter() - began:.2f} {peak:.0f}")
"""
PCA = """
import time, resource
import numpy as np
from vnp.report.projection import principal_components
x = np.random.default_rng(0).standard_normal((20_000, 2560)).astype(np.float32)
began = time.perf_counter()
principal_components(x, 50)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{time.perf_counter() - began:.2f} {peak:.0f}")
"""


def main() -> int:
    """Print seconds and peak memory of both trees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    here = Path(__file__).parents[1]
    cases = {"ids refused": (IDS, "refuse"), "ids numbered": (IDS, "number"), "PCA": (PCA, "")}
    for name, (code, argument) in cases.items():
        for _ in range(given.rounds):
            for tree, where in (("old", given.base), ("new", here)):
                command = [sys.executable, "-c", code, argument]
                found = subprocess.run(command, cwd=where, capture_output=True, text=True)
                seconds, peak = (found.stdout or "failed -").split()
                print(f"{name:<14} {tree}  {seconds:>8} s  {peak:>6} MiB  {found.stderr[-200:]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
