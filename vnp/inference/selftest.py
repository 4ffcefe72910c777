"""A self-test of the kernels for Hopper on a device, before a worker relies on them."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vnp.inference.batch_layout import BLOCK_KEYS, TILE_ROWS, Rotary, plan_layout
from vnp.inference.linear import FP8
from vnp.inference.ops import torch as plain
from vnp.models.packing import Batch

_TILE_ROWS, _TILE_COLUMNS = 128, 256
_DEPTH, _WIDTH = 1280, 1024  # eight does not divide the blocks of that depth
_HALF = 32  # of a head
_HEADS = 20
# Records of so many tokens for 22 programs: of one to four blocks of keys, and longer ones.
_RECORDS = {3: 10, 64: 10, 102: 10, 168: 10, 250: 4, 300: 2, 3 * TILE_ROWS: 1}
# Of the length of all outputs; GELU in int8 steps is one of less precision.
_MOST_OFF = {torch.bfloat16: 0.004, FP8: 0.03, torch.int8: 0.01}
_MOST_OFF_ATTENTION = {torch.bfloat16: 0.008, FP8: 0.03}  # shares are rounded as well


def check_products(
    fused: ModuleType,
    device: torch.device,
    *,
    narrow: torch.dtype | None,
    activation: plain.Activation = "gelu",
) -> None:
    """Compile the kernels that a precision needs, and compare them with ``ops.torch``.

    With enough rows and records that each program has several.

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
    if activation != "swiglu":
        _check_attention(fused, device, generator, fp8=narrow == FP8, alibi=activation == "geglu")

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
            for add in (False, True):
                for module, out_TO in zip((fused, plain), found, strict=True):
                    module.multiply(a_TI, weight_OI, out_TO, add=add, **scales)
                _compare(*found, most=_MOST_OFF[torch.bfloat16])


def _check_attention(
    fused: ModuleType, device: torch.device, generator: torch.Generator, *, fp8: bool, alibi: bool
) -> None:
    """Records of every kind, and what lies beyond the last: no number."""
    many = -(-_programs(device) // 22)
    lengths = np.repeat(list(_RECORDS), [many * count for count in _RECORDS.values()])
    tokens = int(lengths.sum())
    rows, width = tokens + BLOCK_KEYS, _HEADS * 2 * _HALF
    batch = Batch(np.arange(len(lengths)), lengths)
    planned = plan_layout(batch, np.zeros(tokens, np.int32), rows=rows, pooling="cls")
    buffer = np.zeros(planned.size, np.int32)
    planned.write(buffer, padding=0)
    layout = planned.on(torch.from_numpy(buffer).to(device))
    qkv_TE = torch.randn(rows, 3 * width, generator=generator, device=device).bfloat16()
    qkv_TE[:, :width] /= _HALF**0.5
    qkv_TE[tokens:] = torch.nan
    how: dict[str, Any] = {"heads": _HEADS}
    if alibi:
        how["slopes"] = torch.linspace(0.01, 1, _HEADS, device=device)
    if fp8:
        how["scale_D"] = torch.linspace(20, 60, width, device=device)
    found = [torch.zeros((rows, width), device=device) for _ in range(2)]
    narrow_TD = found[0].to(FP8 if fp8 else torch.bfloat16)
    fused.attend(qkv_TE, narrow_TD, layout, **how)
    in_theirs_TE = qkv_TE.float()
    in_theirs_TE[:, :width] *= plain.QUERY_FACTOR / fused.QUERY_FACTOR
    plain.attend(in_theirs_TE, found[1], replace(layout, kept={}), **how)
    _compare(narrow_TD, found[1], most=_MOST_OFF_ATTENTION[narrow_TD.dtype])


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
        raise RuntimeError(f"a fused kernel is off by {off:.2g} of its output's length")


def _programs(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
