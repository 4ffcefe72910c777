"""Matrix products and passes of a layer on a CPU, as plain torch and as oneDNN computes them.

``python tools/bench_cpu_products.py [--rows N] [--threads N] [--sizes IxO ...]`` prints, for each
number of inputs and outputs, billions of operations a processor second: float32 by torch's BLAS and
by oneDNN with packed weights, bfloat16 likewise and with GELU, and int8 by VNNI; then milliseconds
of what stands between products. The median of five runs in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

_SIZES = ("640x2560", "768x3072", "1280x5120", "5120x1280", "2560x7680", "2560x10240")


def seconds(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Processor seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(6):
        for name, run in runs.items():
            began = time.process_time()
            run()
            if number:
                taken[name].append(time.process_time() - began)
    return {name: statistics.median(each) for name, each in taken.items()}


def products(rows: int, inputs: int, outputs: int) -> dict[str, Callable[[], object]]:
    """Products of one size."""
    a, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    short = [each.bfloat16() for each in (a, weight, bias)]
    out, out_short = torch.empty(rows, outputs), torch.empty(rows, outputs, dtype=torch.bfloat16)
    pack, linear = torch.ops.mkldnn._reorder_linear_weight, torch.ops.mkldnn._linear_pointwise
    packed, packed_short = pack(weight, rows), pack(short[1], rows)
    unsigned = (a * 30 + 128).clamp(0, 255).to(torch.uint8)
    signed = (weight * 30).clamp(-127, 127).to(torch.int8)
    packed_int8 = torch.ops.onednn.qlinear_prepack(signed, [rows, inputs])
    scale, zero = torch.rand(outputs), torch.zeros(outputs, dtype=torch.int32)
    return {
        "float32": lambda: torch.addmm(bias, a, weight.t(), out=out),
        "float32 packed": lambda: linear(a, packed, bias, "none", [], ""),
        "bfloat16": lambda: torch.addmm(short[2], short[0], short[1].t(), out=out_short),
        "bfloat16 packed": lambda: linear(short[0], packed_short, short[2], "none", [], ""),
        "and GELU": lambda: linear(short[0], packed_short, short[2], "gelu", [], "none"),
        "int8": lambda: torch.ops.onednn.qlinear_pointwise(
            unsigned, 1.0, 128, packed_int8, scale, zero, None, 1.0, 0, torch.float32, "none", [],
            "",
        ),
    }  # fmt: skip


def passes(rows: int, *, width: int, heads: int, length: int) -> dict[str, Callable[[], object]]:
    """What stands between products."""
    rows, half = rows // length * length, width // heads // 2
    qkv, inner = torch.randn(rows, 3 * width), torch.randn(rows, 4 * width)
    qkv_short, inner_short = qkv.bfloat16(), inner.bfloat16()
    angles = torch.randn(rows, 1, half)
    cos, sin, factors = angles.cos(), angles.sin(), torch.polar(torch.ones_like(angles), angles)

    def rotated(qkv: torch.Tensor) -> None:
        pairs = qkv[:, : 2 * width].view(rows, -1, half, 2)
        torch.view_as_complex(pairs).mul_(factors)

    def rotated_short() -> None:
        low, high = qkv_short[:, : 2 * width].view(rows, -1, 2, half).unbind(2)
        turned = low * cos - high * sin
        high.copy_(high * cos + low * sin)
        low.copy_(turned)

    def attended(qkv: torch.Tensor) -> object:
        parts = qkv.view(rows // length, length, 3, heads, 2 * half).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(*parts, scale=1.0)

    return {
        "rotate": lambda: rotated(qkv),
        "copy to float32 and rotate": lambda: (qkv.copy_(qkv_short), rotated(qkv)),
        "rotate in bfloat16": rotated_short,
        "attend": lambda: attended(qkv),
        "attend in bfloat16": lambda: attended(qkv_short),
        "GELU": lambda: torch.ops.aten.gelu.out(inner, out=inner),
        "GELU in bfloat16": lambda: torch.ops.aten.gelu.out(inner_short, out=inner_short),
        "largest of each row": lambda: inner.abs().amax(dim=1),
    }


@torch.inference_mode()
def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="+", default=_SIZES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for size in options.sizes:
        inputs, outputs = map(int, size.split("x"))
        found = seconds(products(options.rows, inputs, outputs))
        work = 2 * options.rows * inputs * outputs / 1e9
        print(size, ", ".join(f"{name} {work / each:.0f}" for name, each in found.items()))
    found = seconds(passes(options.rows, width=1280, heads=20, length=168))
    print(", ".join(f"{name} {1000 * each:.1f} ms" for name, each in found.items()))


if __name__ == "__main__":
    main()
