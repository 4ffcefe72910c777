"""Time the parts of one ESM-2 3B layer on one GPU, beside what they replace.

``python tools/bench_layer.py [--device cuda]`` (about a minute; on a CPU tiny, to see that it runs)

Random values of the published widths in 33,792 rows, bfloat16. Calls of all parts take turns, each
timed over some repeats with CUDA events; the median is printed. ``apart`` is a product by cuBLAS
and passes after it, ``fused`` the product that finishes its own work (Hopper); attention is timed
in Triton and, on Hopper, in Gluon too. In a whole model the chip is at its power limit and every
part takes longer: see ``bench_gpu.py``.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from vnp.inference.batch_layout import BatchLayout, Rotary, plan_layout  # noqa: E402
from vnp.inference.ops import torch as plain  # noqa: E402
from vnp.models.packing import fill  # noqa: E402

_LENGTHS = (52, 102, 168, 250, 300, 500, 768)
_ROUNDS, _REPEATS = 5, 20

Part = Callable[[], object]


def seconds_of(parts: dict[str, Part], *, cuda: bool) -> dict[str, float]:
    """Median seconds of one call of each part, all taking turns."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for part in parts.values():
        part()  # compiles
    for _ in range(_ROUNDS):
        for name, part in parts.items():
            found[name].append(_once(part) if cuda else _once_on_cpu(part))
    return {name: statistics.median(times) for name, times in found.items()}


def _once(part: Part) -> float:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    part()
    first.record()
    for _ in range(_REPEATS):
        part()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last)) / 1000 / _REPEATS


def _once_on_cpu(part: Part) -> float:
    began = time.perf_counter()
    part()
    return time.perf_counter() - began


def layout_of(length: int, *, rows: int, device: torch.device) -> BatchLayout:
    """A batch full of records of one length."""
    lengths = np.full(rows // length, length)
    (batch,) = fill(lengths, token_budget=rows, most_records=len(lengths))
    plan = plan_layout(
        batch, np.zeros(batch.tokens, np.int32), rows=rows, pooling="mean_residues_1024"
    )
    buffer = torch.empty(plan.size, dtype=torch.int32)
    plan.write(buffer.numpy(), padding=1)
    return plan.on(buffer.to(device))


def layer_parts(*, rows: int, dim: int, heads: int, device: torch.device) -> dict[str, Part]:
    """Products with what follows them, and norms."""
    cuda = device.type == "cuda"
    ops: ModuleType = importlib.import_module("vnp.inference.ops.triton") if cuda else plain
    hopper: ModuleType | None = None if cuda else plain
    if cuda and torch.cuda.get_device_capability(device)[0] == 9:
        hopper = importlib.import_module("vnp.inference.ops.hopper")

    def make(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    half = dim // heads // 2
    angles = torch.arange(1024)[:, None] * (1 / 10000 ** (torch.arange(half) / half))
    tables = tuple(table.to(device).half() for table in (angles.cos(), angles.sin()))
    positions = (torch.arange(rows, device=device) % 500).to(torch.int32)
    rotary = Rotary((tables[0], tables[1]), positions, 2 * dim)
    x_TD, a_TD = make(rows, dim), make(rows, dim)
    shift_D, rstd_T = make(dim, dtype=torch.float32), torch.rand(rows, device=device) + 0.5
    parts: dict[str, Part] = {
        "norm": lambda: ops.norm(x_TD, a_TD, eps=1e-5, shift_D=shift_D),
        "rstd": lambda: ops.rstd(x_TD, rstd_T, eps=1e-5, shift_D=shift_D),
    }
    for name, width in (("qkv", 3 * dim), ("up", 4 * dim)):
        weight_OD, out_TO = make(width, dim) / dim**0.5, make(rows, width)
        bias_O, lead_O = (make(width, dtype=torch.float32) for _ in range(2))
        standard, how = (rstd_T, lead_O), rotary if name == "qkv" else None

        def product(weight: torch.Tensor = weight_OD, out: torch.Tensor = out_TO) -> None:
            torch.mm(x_TD, weight.t(), out=out)

        def apart(
            product: Part = product,
            out: torch.Tensor = out_TO,
            bias: torch.Tensor = bias_O,
            standard: tuple[torch.Tensor, torch.Tensor] = standard,
            how: Rotary | None = how,
        ) -> None:
            product()
            if how is None:
                ops.gelu(out, out, bias_F=bias, standard=standard)
            else:
                ops.rotary(out, how, bias_E=bias)

        def fused(
            weight: torch.Tensor = weight_OD,
            out: torch.Tensor = out_TO,
            bias: torch.Tensor = bias_O,
            standard: tuple[torch.Tensor, torch.Tensor] = standard,
            how: Rotary | None = how,
        ) -> None:
            assert hopper is not None
            hopper.project(x_TD, weight, out, bias_O=bias, standard=standard, rotary=how)

        parts |= {f"{name}: product by cuBLAS": product, f"{name}: apart": apart}
        if hopper is not None:
            parts[f"{name}: fused"] = fused
    qkv_TE = make(rows, 3 * dim) * 0.3
    for length in _LENGTHS:
        layout = layout_of(length, rows=rows, device=device)
        name = f"attention, {length} tokens"
        parts[name] = partial(ops.attend, qkv_TE, a_TD, layout, heads=heads)
        if cuda and hopper is not None:
            parts[f"{name} (Hopper)"] = partial(hopper.attend, qkv_TE, a_TD, layout, heads=heads)
    return parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    cuda = device.type == "cuda"
    rows, dim, heads = (33_792, 2560, 40) if cuda else (1_024, 128, 2)
    print(torch.cuda.get_device_name(device) if cuda else "CPU, tiny", f"{rows} rows", flush=True)
    with torch.inference_mode():
        parts = layer_parts(rows=rows, dim=dim, heads=heads, device=device)
        for name, seconds in seconds_of(parts, cuda=cuda).items():
            print(f"{name:28s} {1000 * seconds:8.3f} ms", flush=True)


if __name__ == "__main__":
    main()
