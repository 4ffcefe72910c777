"""Embed on the CPU with two checkouts in turns, and compare their speed.

``python tools/bench_cpu.py --base PATH [--models M ...] [--rounds N] [--threads N] [--json FILE]``

Each checkout runs in a process of its own with random weights of the published shapes; for every
model and kind of record the two embed the same tokens in turns, and the median of the ratios of
neighbouring runs is printed: above 1, this checkout is faster than the base. What is compared is
processor time, which other load on the machine disturbs less than it does the clock on the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOKENS = {"esm2_8m": 4096, "esm2_150m": 768, "dnabert_s": 1024}  # of one run
_KINDS = ("frames", "reads", "proteins")

_CHILD = """
import importlib, json, sys, time
from types import SimpleNamespace
import numpy as np, torch
from vnp.models import demo, files, weights
from vnp.models.tokens import Tokens

for room in ("inference.load", "inference.encoder", "models.encoder"):
    try:
        load_encoder = importlib.import_module(f"vnp.{room}").load_encoder
        break
    except (ImportError, AttributeError):
        pass

def read(paths, naming, *, source):
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, shape in naming.shapes.items():
        tensor = torch.randn(shape, generator=generator)
        made[name] = tensor / shape[1] ** 0.5 if len(shape) == 2 and "embed" not in name else tensor
    return made

files.locate = lambda spec, **_: SimpleNamespace(
    folder="random", tensors=(), origin="random", revision="random",
    tokenizer=demo.tokenizer_file() if spec.architecture == "mosaicbert" else None,
)
weights.read = read
weights.digest = lambda tensors: "random"
encoder = load_encoder(sys.argv[1], device="cpu", threads=int(sys.argv[2]), warn=lambda _: None)
for line in sys.stdin:
    lengths = np.array(json.loads(line), dtype=np.int64)
    ids = np.random.default_rng(1).integers(4, 24, int(lengths.sum())).astype(np.int32)
    tokens = Tokens(ids, lengths)
    began = time.process_time()
    rows = encoder.embed(tokens)
    print(json.dumps([time.process_time() - began, float(np.abs(rows).sum())]), flush=True)
"""


class Checkout:
    """A process that embeds with the code of one checkout."""

    def __init__(self, path: Path, model: str, *, threads: int) -> None:
        environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, model, str(threads)],
            cwd=path, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def seconds(self, lengths: NDArray[np.int64]) -> tuple[float, float]:
        """Embed records of such lengths: processor seconds, and a sum over the rows to compare."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(lengths.tolist()), file=self._process.stdin, flush=True)
        seconds, total = json.loads(self._process.stdout.readline())
        return seconds, total

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def lengths_of(kind: str, model: str, tokens: int) -> NDArray[np.int64]:
    """Tokens of records: frames of 500 bp, reads of 150 bp, or whole proteins.

    Residues of frames differ by one or two, but for frames at ends; byte pairs of DNA spread.
    """
    generator = np.random.default_rng(0)
    if kind == "proteins":
        drawn = 300 * np.exp(0.5 * generator.standard_normal(tokens))
    else:
        usual = {"frames": 168, "reads": 52}[kind]
        spread = 0.5 if model.startswith("esm2") else usual / 16
        drawn = usual + spread * generator.standard_normal(tokens)
        ends = generator.random(tokens) < 0.1
        drawn[ends] *= generator.random(int(ends.sum()))
    lengths = drawn.clip(5, 1500).astype(np.int64)
    return lengths[: max(1, int(np.searchsorted(lengths.cumsum(), tokens)))]


def main() -> None:
    """Run every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--models", nargs="+", default=list(_TOKENS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for model in options.models:
        here = Checkout(Path(__file__).parents[1], model, threads=options.threads)
        base = Checkout(options.base.resolve(), model, threads=options.threads)
        for kind in _KINDS:
            lengths = lengths_of(kind, model, _TOKENS.get(model, 8192))
            sums = [checkout.seconds(lengths)[1] for checkout in (here, base)]  # and warm up
            ratios, ours = [], []
            for number in range(options.rounds):
                pair = (here, base) if number % 2 else (base, here)
                took = {checkout: checkout.seconds(lengths)[0] for checkout in pair}
                ratios.append(took[base] / took[here])
                ours.append(took[here])
            results.append(
                {
                    "model": model, "records": kind, "count": len(lengths),
                    "tokens_a_cpu_second": round(int(lengths.sum()) / statistics.median(ours)),
                    "ratio": round(statistics.median(ratios), 3),
                    "ratios": [round(ratio, 3) for ratio in sorted(ratios)],
                    "difference": abs(sums[0] / sums[1] - 1),
                }
            )  # fmt: skip
            print(json.dumps(results[-1]), flush=True)
        here.close()
        base.close()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
