"""A self-test of fused products on a device, before a worker relies on them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vnp.inference.batch_layout import Rotary
from vnp.inference.linear import FP8
from vnp.inference.ops import torch as plain

_TILE_ROWS, _TILE_COLUMNS = 128, 256
_DEPTH, _WIDTH = 1280, 1024  # eight does not divide the blocks of that depth
_HALF = 32  # of a head
# Of the length of all outputs; GELU in int8 steps is one of less precision.
_MOST_OFF = {torch.bfloat16: 0.004, FP8: 0.03, torch.int8: 0.01}


def check_products(
    fused: ModuleType,
    device: torch.device,
    *,
    narrow: torch.dtype | None,
    activation: plain.Activation = "gelu",
) -> None:
    """Compile what ``fused.project`` needs for a precision, and compare it with ``ops.torch``.

    With enough rows that each program has several tiles.

    Parameters
    ----------
    fused
        ``vnp.inference.ops.hopper``.
    device
        Where; it has to be the current one.
    narrow
        float8_e4m3fn or int8 where products are in that, else None: bfloat16.
    activation
        That of the model; with ``swiglu`` there are norms of queries and keys, with ``geglu`` that
        is all.

    Raises
    ------
    RuntimeError
        If numbers differ. A compiler may raise any other exception.
    """
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        value = torch.randn(shape, generator=generator, device=device)
        return (value * 28 if dtype == torch.int8 else value).to(dtype)

    with torch.inference_mode():
        rows = _TILE_ROWS * (2 * _programs(device) * _TILE_COLUMNS // _WIDTH + 1) + 16
        dtype = narrow or torch.bfloat16
        a_TI, weight_OI = random(rows, _DEPTH, dtype=dtype), random(_WIDTH, _DEPTH, dtype=dtype)
        rstd_T, angles = random(rows).abs() / 32, random(rows, _HALF)
        positions = torch.arange(rows, dtype=torch.int32, device=device)
        rotary = Rotary((angles.cos().half(), angles.sin().half()), positions, _WIDTH // 2)
        bias_O, lead_O, scale_O = (random(_WIDTH).abs() + 1 for _ in range(3))
        how: dict[str, Any] = {
            "bias_O": bias_O, "standard": (rstd_T, lead_O if activation == "gelu" else None)
        }  # fmt: skip
        if activation == "geglu":
            how, weight_OI = {}, weight_OI / 32
        if narrow is not None:
            how = {"bias_O": bias_O, "weight_scale_O": lead_O / 32}
        if narrow == torch.int8:
            how |= {"weight_scale_O": lead_O / 784, "row_scale_T": rstd_T}
        if activation == "swiglu":
            _check_norm(fused, a_TI, weight_OI, bias_O, rstd_T, rotary, scale_O)
        width = _WIDTH if activation == "gelu" else _WIDTH // 2
        for rotated in (True, False) if activation == "gelu" else (False,):
            out_dtype = dtype if not rotated else torch.bfloat16
            found = [torch.zeros((rows, width), device=device).to(out_dtype) for _ in range(2)]
            for module, out_TO in zip((fused, plain), found, strict=True):
                module.project(
                    a_TI, weight_OI, out_TO, rotary=rotary if rotated else None,
                    scale_O=scale_O * (30 if out_dtype == torch.int8 else 1)
                    if out_dtype != torch.bfloat16
                    else None, activation=activation, **how,
                )  # fmt: skip
            _compare(*found, most=_MOST_OFF[out_dtype])
        if narrow is not None:
            found = [torch.zeros((rows, _WIDTH), device=device).bfloat16() for _ in range(2)]
            scales = {name: scale for name, scale in how.items() if name != "bias_O"}
            for module, out_TO in zip((fused, plain), found, strict=True):
                module.multiply(a_TI, weight_OI, out_TO, **scales)
            _compare(*found, most=_MOST_OFF[torch.bfloat16])


def _check_norm(
    fused: ModuleType,
    a_TI: Tensor,
    weight_OI: Tensor,
    bias_O: Tensor,
    rstd_T: Tensor,
    rotary: Rotary,
    norm_O: Tensor,
) -> None:
    """Queries and keys that are to be normed, of heads that fill tiles and of such that do not."""
    for less in (0, 2 * _HALF):
        columns, rotated = _WIDTH - less, _WIDTH // 2 - less
        found = []
        for compute in (fused.project, plain.project):
            out_TO = a_TI.new_zeros((len(a_TI), columns))
            squares_ST = bias_O.new_zeros((rotated // _HALF, len(a_TI)))
            compute(
                a_TI, weight_OI[:columns], out_TO, bias_O=bias_O[:columns],
                standard=(rstd_T, None),
                rotary=Rotary(rotary.tables, rotary.positions, rotated),
                norm=(norm_O[:columns], squares_ST),
            )  # fmt: skip
            found.append((out_TO, squares_ST))
        for ours, theirs in zip(*found, strict=True):
            _compare(ours, theirs, most=_MOST_OFF[torch.bfloat16])


def _compare(ours: Tensor, theirs: Tensor, *, most: float) -> None:
    off = float((ours.float() - theirs.float()).norm() / theirs.float().norm())
    if not off < most:
        raise RuntimeError(f"a fused product is off by {off:.2g} of its length")


def _programs(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
