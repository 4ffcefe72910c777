"""Measure the engine on one GPU, beside the chip's limit and beside transformers.

``python tools/bench_gpu.py [--quick | --ours | --model NAME ...] [--precision P ...]
[--json FILE]``: about six minutes, the others less.

Random weights of the published shapes (``random_checkpoint``), made on the device. In one run:

- ceiling: the four matrix products of every layer alone, all layers' weights in turn, each by
  cuBLAS or by ours, whichever is faster, at the best of several numbers of rows, measured just
  before ours, when the chip is as warm;
- transformers: EsmModel in bfloat16 with SDPA, records sorted and padded, forward pass alone, best
  of several batch sizes;
- ours: ``EngineEncoder.embed`` from token ids on the host to pooled rows on the host, of as many
  records as fill whole batches.

Everything runs for most of a second before it is timed, as a chip at its power limit slows down.
A rate counts the tokens of records, special tokens included and padding not. The ceiling has no
attention; a second share counts the operations of attention's own two products as work done. The
first call of ours compiles its kernels, and placing the weights on Hopper those of its products;
both times are told apart. Errors: ``bench_accuracy.py``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
import triton
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from gpu_heat import Heat  # noqa: E402
from gpu_peers import DEVICE, Peer, Workload, clear, ours, peak, timed, tokens_of, workloads  # noqa: E402
from gpu_tokens import whole_batches  # noqa: E402
from random_checkpoint import random_tensors  # noqa: E402

from vnp.inference import kernels  # noqa: E402
from vnp.inference.linear import FP8  # noqa: E402
from vnp.inference.ops import triton_int8  # noqa: E402
from vnp.inference.pipeline import EngineEncoder  # noqa: E402
from vnp.models import registry  # noqa: E402
from vnp.models.spec import ModelSpec  # noqa: E402
from vnp.models.tokens import Tokens  # noqa: E402

_ROWS = (32_768, 33_792, 67_584, 135_168)  # tried for the ceiling


@dataclass(frozen=True, slots=True)
class Rate:
    """One line of the table."""

    model: str
    workload: str
    what: str  # who computed, in which precision
    tokens: float  # a second
    records: float  # a second
    tflops: float  # of the layers' matrix products
    of_ceiling: float  # share of the ceiling of that precision
    with_attention: float  # the same, attention's products counted as work
    of_transformers: float  # times transformers' rate
    memory: float  # GiB, the most that tensors took
    compiled: float  # seconds before the first result beyond what it takes after
    detail: str


def product_flops(spec: ModelSpec) -> int:
    """Operations of the layers' matrix products for one token."""
    up = 1 if spec.architecture == "esm2" else 2
    return 2 * spec.layers * (4 * spec.dim**2 + (up + 1) * spec.dim * spec.ffn)


def attention_flops(spec: ModelSpec, load: Workload) -> float:
    """Operations of attention's two products for one token of a workload, on average."""
    lengths = load.lengths.astype(np.float64)
    return 4 * spec.layers * spec.dim * float((lengths**2).sum() / lengths.sum())


def ceiling(spec: ModelSpec, precision: str) -> tuple[float, int, str]:
    """Tokens a second if a layer were its matrix products, at best.

    Returns
    -------
    The rate, the rows at which it is best, and whose products were the fastest.
    """
    dim, ffn = spec.dim, spec.ffn
    up = ffn if spec.architecture == "esm2" else 2 * ffn
    shapes = [(3 * dim, dim), (dim, dim), (up, dim), (dim, ffn)]

    def normal(rows: int, columns: int) -> Tensor:
        value = torch.randn(rows, columns, device=DEVICE)
        if precision == "int8":
            return (value * 28).round_().clamp_(-127, 127).to(torch.int8)
        return (value * 8).to(FP8) if precision == "fp8" else (value / columns**0.5).bfloat16()

    weights = [[normal(o, i) for o, i in shapes] for _ in range(spec.layers)]
    chosen: list[str] = []
    best = (0.0, 0, "")
    for rows in _ROWS:
        inputs = {i: normal(rows, i) for i in {dim, ffn}}
        outputs = {o: torch.empty(rows, o, device=DEVICE, dtype=torch.bfloat16) for o, _ in shapes}
        ways = [_products(o, rows, precision) for o, _ in shapes]

        def all_layers(names: list[str], at: slice = slice(None)) -> None:
            for layer in weights:
                for weight, of, name in zip(layer[at], ways[at], names, strict=True):  # noqa: B023
                    of[name](inputs[weight.shape[1]], weight, outputs[weight.shape[0]])  # noqa: B023

        if not chosen:
            for at, of in enumerate(ways):
                alone = slice(at, at + 1)
                seconds = {
                    name: timed(partial(all_layers, [name], alone), warm_up=0.1, least=0.2)
                    for name in of
                }
                chosen.append(min(seconds, key=lambda name: seconds[name]))
        best = max(best, (rows / timed(partial(all_layers, chosen)), rows, "/".join(chosen)))
    return best


def _products(outputs: int, rows: int, precision: str) -> dict[str, Callable[..., object]]:
    """The ways there are to compute a product, with a scale for each output but in bfloat16."""
    scale_O = torch.full((outputs,), 1e-4, device=DEVICE)
    ones = torch.ones(rows, 1, device=DEVICE)
    ways: dict[str, Callable[..., object]] = {}
    if precision == "bfloat16":
        ways["cuBLAS"] = lambda a, weight, out: torch.mm(a, weight.t(), out=out)
    elif precision == "fp8":
        ways["cuBLAS"] = lambda a, weight, out: torch._scaled_mm(
            a, weight.t(), scale_a=ones, scale_b=scale_O[None], out_dtype=torch.bfloat16,
            use_fast_accum=True, out=out,
        )  # fmt: skip
    else:
        ways["Triton"] = partial(triton_int8.multiply, weight_scale_O=scale_O)
    if torch.cuda.get_device_capability()[0] == 9 and outputs % 256 == 0:
        hopper = importlib.import_module("vnp.inference.ops.hopper")
        ways["Gluon"] = partial(hopper.multiply, weight_scale_O=scale_O)
    return ways


class Report:
    """Lines as they are measured, and the table at the end."""

    def __init__(self) -> None:
        self.rates: list[Rate] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep and print a line."""
        self.notes.append(text)
        print(text, flush=True)

    def add(self, rate: Rate) -> None:
        """Keep and print a rate."""
        self.rates.append(rate)
        print(
            f"  {rate.model} {rate.workload} {rate.what}: {rate.tokens:,.0f} tok/s {rate.detail}",
            flush=True,
        )

    def table(self) -> list[str]:
        """The rates as a Markdown table."""
        lines = [
            "| model | records | what | tok/s | records/s | TFLOP/s | of ceiling | with attention "
            "| x transformers | GiB | compile s |",
            "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for r in self.rates:
            share = f"{r.of_ceiling:.3f}" if r.of_ceiling else ""
            counted = f"{r.with_attention:.3f}" if r.with_attention else ""
            times = f"{r.of_transformers:.2f}" if r.of_transformers else ""
            lines.append(
                f"| {r.model} | {r.workload} | {r.what} | {r.tokens:,.0f} | {r.records:,.0f} "
                f"| {r.tflops:.0f} | {share} | {counted} | {times} "
                f"| {r.memory:.1f} | {r.compiled:.1f} |"
            )
        return lines


def measure_encoder(
    report: Report,
    spec: ModelSpec,
    encoder: EngineEncoder,
    loads: tuple[tuple[Workload, Tokens], ...],
    what: str,
    *,
    limit: float,
    peers: dict[str, float],
) -> None:
    """Time our encoder on several workloads."""
    for load, records in loads:
        tokens = whole_batches(records, encoder.token_budget)
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        encoder.embed(tokens)
        first = time.perf_counter() - began
        busy = encoder.busy_seconds
        runs = 0

        def call() -> None:
            nonlocal runs
            encoder.embed(tokens)  # noqa: B023
            runs += 1

        seconds = timed(call)
        share = (encoder.busy_seconds - busy) / runs / seconds
        total = float(tokens.lengths.sum())
        rate = total / seconds
        peer = peers.get(load.name, 0.0)
        counted = 1 + attention_flops(spec, load) / product_flops(spec)
        report.add(
            Rate(
                spec.name, load.name, what, rate, len(tokens) / seconds,
                rate * product_flops(spec) / 1e12, rate / limit, rate / limit * counted,
                rate / peer if peer else 0.0, peak(), max(0.0, first - seconds),
                f"(GPU busy {share:.1%}, budget {encoder.token_budget})",
            )
        )  # fmt: skip


def bench_esm(
    report: Report,
    name: str,
    *,
    precisions: tuple[str, ...],
    tokens: int,
    with_peer: bool = True,
    with_ceiling: bool = True,
) -> None:
    """Ceiling, transformers (unless left out) and ours for one ESM-2."""
    spec = registry.model(name)
    # In float32, as ESM-2 is published: whoever computes in less has to round the weights too.
    tensors = random_tensors(spec, device="cuda", dtype=torch.float32)
    loads = tuple((load, tokens_of(load.lengths, low=4, high=24)) for load in workloads(tokens))
    clear()
    peers: dict[str, float] = {}
    if with_peer:
        peer = Peer(spec, tensors, dtype=torch.bfloat16)
        for load, records in loads:
            peers[load.name] = bench_peer(report, spec, peer, load, records)
        del peer
    for precision in precisions:
        limit = add_ceiling(report, spec, precision) if with_ceiling else float("inf")
        clear()
        began = time.perf_counter()
        encoder = ours(spec, tensors, precision)
        report.note(
            f"{name} {precision}: weights placed, and products compiled and tried, in "
            f"{time.perf_counter() - began:.1f} s; {encoder.environment['engine']}"
        )
        measure_encoder(report, spec, encoder, loads, f"ours {precision}", limit=limit, peers=peers)
        del encoder


def bench_peer(
    report: Report, spec: ModelSpec, peer: Peer, load: Workload, records: Tokens
) -> float:
    """Tokens a second of transformers at its best batch size."""
    part = Tokens(  # a part is enough: its rate does not depend on how many there are
        records.ids[: int(records.lengths[: len(records) // 3].sum())],
        records.lengths[: len(records) // 3],
    )
    rates = {}
    for budget in (4_096, 8_192, 16_384):
        size = max(1, int(budget / float(np.median(load.lengths))))
        rates[size] = peer.rate(part, size)
    size = max(rates, key=lambda size: rates[size])
    rate = rates[size]
    report.add(
        Rate(spec.name, load.name, "transformers bfloat16", rate,
             rate * len(part) / float(part.lengths.sum()), rate * product_flops(spec) / 1e12,
             0, 0, 1.0, peak(), 0, f"(batch {size})")
    )  # fmt: skip
    return rate


def add_ceiling(report: Report, spec: ModelSpec, precision: str) -> float:
    """Measure and report the ceiling of a precision; returns tokens a second."""
    clear()
    limit, rows, whose = ceiling(spec, precision)
    report.add(
        Rate(spec.name, "any", f"ceiling {precision}", limit, 0,
             limit * product_flops(spec) / 1e12, 1.0, 0, 0, peak(), 0, f"({rows} rows; {whose})")
    )  # fmt: skip
    return limit


def bench_dnabert(report: Report, *, tokens: int) -> None:
    """Ceiling and ours for DNABERT-S."""
    clear()
    spec = registry.model("dnabert_s")
    limit = add_ceiling(report, spec, "bfloat16")
    clear()
    tensors = random_tensors(spec, device="cuda", dtype=torch.bfloat16)
    load = Workload("500 bp (102 tokens)", np.full(tokens // 102, 102))
    encoder = ours(spec, tensors, "bfloat16")
    measure_encoder(
        report, spec, encoder, ((load, tokens_of(load.lengths, low=5, high=4096)),),
        "ours bfloat16", limit=limit, peers={},
    )  # fmt: skip


def main() -> None:
    """Measure everything and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ESM-2 650M instead of 3B")
    parser.add_argument("--ours", action="store_true", help="only ESM-2 3B, no transformers")
    about = "these precisions of ESM-2 in place of all that the device has"
    parser.add_argument("--precision", nargs="+", default=[], metavar="PRECISION", help=about)
    about = "no ceiling, and no products written for Hopper: as on other devices"
    parser.add_argument("--without-hopper", action="store_true", help=about)
    about = "only these models of ESM kind, in bfloat16, with transformers"
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME", help=about)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    if options.without_hopper:
        kernels.hopper_kernels = lambda *_, **__: (None, "products for any device, as asked for")
    report = Report()
    properties = torch.cuda.get_device_properties(0)
    report.note(
        f"{properties.name}, {properties.multi_processor_count} multiprocessors, torch "
        f"{torch.__version__}, Triton {triton.__version__}, transformers "
        f"{transformers.__version__}, CUDA {torch.version.cuda}, Python "
        f"{platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )
    has_fp8 = (properties.major, properties.minor) >= (8, 9)
    all_of_them = ("bfloat16", "int8", *(("fp8",) if has_fp8 else ()))
    precisions = tuple(options.precision) or all_of_them
    with Heat() as heat:
        for name in options.model:
            bench_esm(report, name, precisions=("bfloat16",), tokens=400_000)
        if not options.ours and not options.model:
            bench_dnabert(report, tokens=6_000_000)
            bench_esm(
                report,
                "esm2_650m",
                precisions=precisions,
                tokens=1_351_680,
                with_peer=options.quick,
            )
        if not options.quick and not options.model:
            bench_esm(
                report,
                "esm2_3b",
                precisions=precisions,
                tokens=270_000,
                with_peer=not options.ours,
                with_ceiling=not options.without_hopper,
            )
    report.note(str(heat))
    print("\n".join(["", *report.table(), "", *report.notes]))
    if options.json is not None:
        content = {"notes": report.notes, "rates": [asdict(rate) for rate in report.rates]}
        options.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
