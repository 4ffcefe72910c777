"""Time the matrix products of an ESM-2 layer in every precision, on one GPU.

``python tools/bench_products.py [--model esm2_3b]`` (about two minutes)

Random values of the published widths, 33,792 rows. For each of the four products: cuBLAS in
bfloat16 and fp8, ours in bfloat16, fp8 and int8 with what follows it (rotary positions, GELU, or
nothing but scales), and ours in int8 without Hopper's instructions of a whole tile. Calls take
turns; the median of five rounds counts, each of 0.1 s, after 0.3 s of warming up. The chip is at
its power limit, so values of real size matter: they are normal, as activations are.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from gpu_heat import Heat  # noqa: E402

from vnp.inference.batch_layout import Rotary  # noqa: E402
from vnp.inference.linear import FP8  # noqa: E402
from vnp.inference.ops import hopper, triton_int8  # noqa: E402
from vnp.models import registry  # noqa: E402

_ROWS, _ROUNDS, _SECONDS, _WARM = 33_792, 5, 0.1, 0.3

Call = Callable[[], object]


def times_of(calls: dict[str, Call]) -> dict[str, float]:
    """Median seconds of one call of each, all taking turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    repeats = {}
    for name, call in calls.items():
        call()
        torch.cuda.synchronize()
        once = _seconds(call, 3) / 3
        _seconds(call, max(1, int(_WARM / once)))
        repeats[name] = max(1, int(_SECONDS / once))
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            found[name].append(_seconds(call, repeats[name]) / repeats[name])
    return {name: statistics.median(values) for name, values in found.items()}


def _seconds(call: Call, repeats: int) -> float:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(repeats):
        call()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last)) / 1000


def calls_of(name: str, outputs: int, inputs: int, *, heads: int, half: int) -> dict[str, Call]:
    """Every way of computing one product."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device="cuda")

    positions = (torch.arange(_ROWS, device="cuda") % 168).to(torch.int32)
    angles = torch.arange(1024, device="cuda")[:, None] / 10000 ** (
        torch.arange(half, device="cuda") / half
    )
    rotary = Rotary((angles.cos().half(), angles.sin().half()), positions, 2 * heads * 2 * half)
    a, w = normal(_ROWS, inputs), normal(outputs, inputs)
    bias, row = normal(outputs), torch.rand(_ROWS, device="cuda") * 1e-2
    scale, per_step = torch.rand(outputs, device="cuda") * 1e-3, normal(outputs).abs() + 50
    as_dtype = {
        "bfloat16": (a.bfloat16(), (w * inputs**-0.5).bfloat16()),
        "fp8": ((a * 8).to(FP8), (w * 8).to(FP8)),
        "int8": tuple((v * 28).round().clamp(-127, 127).to(torch.int8) for v in (a, w)),
    }
    out = torch.empty((_ROWS, outputs), dtype=torch.bfloat16, device="cuda")
    narrow = {
        kind: torch.empty_like(out, dtype=dtype)
        for kind, dtype in (("fp8", FP8), ("int8", torch.int8))
    }
    ones = torch.ones((_ROWS, 1), device="cuda")
    (ab, wb), (a8, w8), (ai, wi) = as_dtype.values()
    calls: dict[str, Call] = {
        "cuBLAS bfloat16": partial(torch.mm, ab, wb.t(), out=out),
        "cuBLAS fp8": partial(
            torch._scaled_mm, a8, w8.t(), scale_a=ones, scale_b=scale[None], out=out,
            out_dtype=torch.bfloat16, use_fast_accum=True,
        ),
        "int8, any device": partial(
            triton_int8.multiply, ai, wi, out, weight_scale_O=scale, row_scale_T=row
        ),
    }  # fmt: skip
    if name in ("qkv", "up"):
        how = {"bias_O": bias, "rotary": rotary if name == "qkv" else None}
        calls["ours bfloat16"] = partial(hopper.project, ab, wb, out, standard=(row, scale), **how)
        for kind, a_TI, w_OI in (("fp8", a8, w8), ("int8", ai, wi)):
            options = how | {"weight_scale_O": scale}
            if kind == "int8":
                options["row_scale_T"] = row
            if name == "up":
                options["scale_O"] = per_step
            calls[f"ours {kind}"] = partial(
                hopper.project, a_TI, w_OI, narrow[kind] if name == "up" else out, **options
            )
    else:
        by_row = {"row_scale_T": row} if name == "out" else {}
        calls["ours fp8"] = partial(hopper.multiply, a8, w8, out, weight_scale_O=scale)
        calls["ours int8"] = partial(hopper.multiply, ai, wi, out, weight_scale_O=scale, **by_row)
    return calls


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="esm2_3b")
    parser.add_argument("--only", nargs="+", metavar="PRODUCT", help="of qkv, out, up and down")
    options = parser.parse_args()
    spec = registry.model(options.model)
    dim, ffn, heads = spec.dim, spec.ffn, spec.heads
    print(torch.cuda.get_device_name(), torch.__version__, spec.name, flush=True)
    shapes = {"qkv": (3 * dim, dim), "out": (dim, dim), "up": (ffn, dim), "down": (dim, ffn)}
    totals: dict[str, float] = {}
    with Heat() as heat:
        for name in options.only or shapes:
            outputs, inputs = shapes[name]
            times = times_of(calls_of(name, outputs, inputs, heads=heads, half=dim // heads // 2))
            flop = 2 * _ROWS * outputs * inputs / 1e12
            for what, seconds in times.items():
                totals[what] = totals.get(what, 0.0) + seconds
                print(
                    f"{name:5s} {what:18s} {seconds * 1000:7.3f} ms {flop / seconds:6.0f} TFLOP/s",
                    flush=True,
                )
    for what, seconds in totals.items():
        print(f"all   {what:18s} {seconds * 1000:7.3f} ms")
    print(heat)


if __name__ == "__main__":
    main()
