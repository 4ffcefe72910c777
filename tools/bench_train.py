"""Time steps of training an mlp by the number of CPU threads, which take turns.

``python tools/bench_train.py [--width 3328] [--records 1024] [--threads 1 2] [--rounds 3]``: half a
minute on an idle machine. Random features and labels; a step is a batch of 32. To see what other
work on the machine does to it, run it beside some.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vnp.classify.fit import Schedule, computing_on
from vnp.classify.mlp import Mlp


def main() -> None:
    """Train, and print milliseconds a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=3328, help="numbers a record")
    parser.add_argument("--records", type=int, default=1024)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.manual_seed(0)
    features = torch.randn(given.records, given.width)
    labels = torch.randint(0, 2, (given.records,))
    module, schedule = Mlp(given.width), Schedule()
    optimizer = torch.optim.SGD(module.parameters(), lr=schedule.learning_rate)
    wall: dict[int, list[float]] = {threads: [] for threads in given.threads}
    busy: dict[int, list[float]] = {threads: [] for threads in given.threads}
    for _ in range(1 + given.rounds):  # the first warms up
        for threads in given.threads:
            order = torch.randperm(given.records).split(schedule.batch)
            with computing_on(threads):
                began, spent = time.perf_counter(), time.process_time()
                for some in order:
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(module(features[some]), labels[some]).backward()
                    optimizer.step()
                wall[threads].append(1000 * (time.perf_counter() - began) / len(order))
                busy[threads].append(1000 * (time.process_time() - spent) / len(order))
    for threads in given.threads:
        print(
            f"{threads} threads: {statistics.median(wall[threads][1:]):.2f} ms a step, "
            f"{statistics.median(busy[threads][1:]):.2f} ms of processor time"
        )


if __name__ == "__main__":
    main()
