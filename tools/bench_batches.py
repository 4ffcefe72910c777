"""Time sizes of batches, and products that memory adds, in turns on one GPU.

``python tools/bench_batches.py esm2_650m --tokens 650000 67584 135168 67584+out+down``

Random weights of the published shapes (``random_checkpoint``) in bfloat16, the workloads of
``bench_gpu.py``, as many records as fill whole batches. A variant is a number of tokens a batch,
and products that are added to the residual stream by memory as they are written (as those in eight
bits are) instead of by cuBLAS: ``out``, ``down`` or both. Each round runs every variant on every
workload, the next round in reverse order; a run embeds the records twice, the second time submitted
before the first is done. The first round compiles and is not printed. Shares are those of the
ceiling, which is measured first, as ``bench_gpu.py`` does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from functools import cache
from pathlib import Path

import torch
import transformers
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from bench_gpu import Report, add_ceiling  # noqa: E402
from gpu_heat import Heat  # noqa: E402
from gpu_peers import clear, ours, tokens_of, workloads  # noqa: E402
from gpu_tokens import whole_batches  # noqa: E402
from random_checkpoint import random_tensors  # noqa: E402

from vnp.inference import load  # noqa: E402
from vnp.inference.linear import PlainProduct  # noqa: E402
from vnp.inference.ops import hopper  # noqa: E402
from vnp.inference.pipeline import EngineEncoder  # noqa: E402
from vnp.models import registry  # noqa: E402
from vnp.models.spec import ModelSpec  # noqa: E402
from vnp.models.tokens import Tokens  # noqa: E402

by_memory: set[str] = set()  # products that memory adds, in the variant that runs
_by_cublas = PlainProduct.add


@cache
def _ones(count: int) -> Tensor:
    return torch.ones(count, device="cuda")


def _add(self: PlainProduct, a_TI: Tensor, out_TO: Tensor) -> None:
    outputs, inputs = self.weight_OI.shape
    if ("out" if outputs == inputs else "down") not in by_memory:
        _by_cublas(self, a_TI, out_TO)
        return
    hopper.multiply(a_TI, self.weight_OI, out_TO, weight_scale_O=_ones(outputs), add=True)


def encoders_of(spec: ModelSpec, budgets: set[int]) -> dict[int, EngineEncoder]:
    """An encoder for each number of tokens a batch."""
    tensors = random_tensors(spec, device="cuda", dtype=torch.float32)
    made = {}
    for budget in sorted(budgets):
        load.usual_tokens = lambda _, budget=budget: budget
        made[budget] = ours(spec, tensors, "bfloat16")
    return made


def rate_of(encoder: EngineEncoder, tokens: Tokens) -> float:
    """Tokens a second, from an idle device to an idle device."""
    began = time.perf_counter()
    first, second = encoder.submit(tokens), encoder.submit(tokens)
    first.result()
    second.result()
    return 2 * len(tokens.ids) / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("variants", nargs="+", metavar="TOKENS[+out][+down]")
    parser.add_argument("--tokens", type=int, default=650_000, help="of a workload")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    PlainProduct.add = _add  # type: ignore[method-assign]
    spec = registry.model(options.model)
    variants = {each: each.split("+") for each in options.variants}
    with Heat() as heat:
        limit = add_ceiling(Report(), spec, "bfloat16")
        clear()
        encoders = encoders_of(spec, {int(budget) for budget, *_ in variants.values()})
        clear()
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for number in range(options.rounds + 1):
            for workload in workloads(options.tokens):
                records = tokens_of(workload.lengths, low=4, high=24)
                for each in list(variants)[:: 1 if number % 2 == 0 else -1]:
                    budget, *added = variants[each]
                    by_memory.clear()
                    by_memory.update(added)
                    encoder = encoders[int(budget)]
                    rate = rate_of(encoder, whole_batches(records, encoder.token_budget))
                    if number:
                        found[workload.name, each].append(rate)
                        print(workload.name, each, f"{rate:,.0f}", flush=True)
    for (name, each), rates in found.items():
        rate = statistics.median(rates)
        print(f"{spec.name} {name} {each}: {rate:,.0f} tok/s, {rate / limit:.3f} of the ceiling")
    print(heat)


if __name__ == "__main__":
    main()
