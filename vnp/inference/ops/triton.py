"""The fused operations of the engine as Triton kernels.

Matrix products are done by ``vnp.inference.linear`` (cuBLAS) or ``hopper``; each operation between
two products is one pass over memory. ``ops.torch`` has the same operations, with the same
arguments, in a few lines: it defines what a kernel computes, runs without Triton, and is the
reference in the kernels' tests.
All arithmetic is in float32; tensors are read and written in their own dtype. No kernel looks
across records, and block shapes depend on a model's widths alone, so a record's numbers do not
depend on its neighbours, nor on a tuning run that might end differently on the next machine.

Shapes: T rows (tokens), D hidden width, F inner width, E = 3 * D, n records, K = D / heads.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from vnp.inference.batch_layout import BatchLayout, Rotary
from vnp.inference.ops import triton_int8 as int8
from vnp.inference.ops.triton_attention import QUERY_FACTOR, attend
from vnp.inference.ops.triton_norm import norm, qk_norm, qk_rstd, rstd

__all__ = [
    "QUERY_FACTOR",
    "attend",
    "geglu",
    "gelu",
    "int8",
    "norm",
    "pool",
    "qk_norm",
    "qk_rstd",
    "rotary",
    "rstd",
    "swiglu",
]

name, version = "Triton", triton.__version__

_ROWS = 4  # that a program of an elementwise kernel goes through


@triton.jit
def gelu_of(x):
    """X * Phi(x), Phi the normal distribution function, without erf's branches.

    Phi(x) = 1 / (1 + exp2(x * p(x^2))), p the minimax polynomial of degree 5 of -log2(e) times
    logit(Phi(x)) / x for |x| <= 4.25 and constant beyond. The error of Phi is 1e-4 of its value up
    to there and below 3e-6 beyond; bfloat16 rounds by 2e-3 of a value.
    """
    t = tl.minimum(x * x, 18.0625)
    p = 7.752717353e-08
    p = p * t - 4.535623544e-06
    p = p * t + 8.511287753e-05
    p = p * t + 4.837236427e-04
    p = p * t - 1.057196873e-01
    p = p * t - 2.301606562e00
    whole = 1.0 + tl.exp2(x * p)
    return x * tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=f,f", [whole], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def signed_share(x):
    """2 * Phi(x) - 1 to 3e-4, by one instruction: half of x times it, plus half of x, is GELU.

    Precise enough for GELU in eight bits.
    """
    return tl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=f,f", [x * (0.03470089 * x * x + 0.80015708)],
        dtype=tl.float32, is_pure=True, pack=1,
    )  # fmt: skip


@triton.jit
def _gelu(
    u, bias, rstd, lead, scale, out,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    STANDARDISE: tl.constexpr, QUANTISE: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    add = tl.load(bias + column)
    if STANDARDISE:
        lead_ = tl.load(lead + column)
    if QUANTISE:
        factor = tl.load(scale + column)
    row = tl.program_id(0).to(tl.int64) * ROWS
    for i in tl.static_range(ROWS):
        at = (row + i) * WIDTH + column
        value = tl.load(u + at).to(tl.float32)
        if STANDARDISE:
            value = (value + lead_) * tl.load(rstd + row + i)
        value += add
        if QUANTISE:
            value = 0.5 * value * signed_share(value) + 0.5 * value
            if out.dtype.element_ty == tl.int8:
                value = tl.minimum(tl.maximum((value + 0.17) * factor, 0.0), 255.0)
                tl.store(out + at, int8.integer_of(value + 128.0))
            else:
                tl.store(out + at, (value * factor).to(out.dtype.element_ty))
        else:
            tl.store(out + at, gelu_of(value).to(out.dtype.element_ty))


@triton.jit
def _geglu(
    u, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64) * ROWS
    for i in tl.static_range(ROWS):
        at = (row + i) * 2 * WIDTH + column
        gate = tl.load(u + at).to(tl.float32)
        value = tl.load(u + at + WIDTH).to(tl.float32)
        tl.store(out + (row + i) * WIDTH + column, (gelu_of(gate) * value).to(out.dtype.element_ty))


@triton.jit
def _swiglu(
    u, bias, rstd, out,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, STANDARDISE: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    gate_bias = tl.load(bias + column)
    value_bias = tl.load(bias + WIDTH + column)
    row = tl.program_id(0).to(tl.int64) * ROWS
    for i in tl.static_range(ROWS):
        at = (row + i) * 2 * WIDTH + column
        gate = tl.load(u + at).to(tl.float32)
        value = tl.load(u + at + WIDTH).to(tl.float32)
        if STANDARDISE:
            factor = tl.load(rstd + row + i)
            gate *= factor
            value *= factor
        gate += gate_bias
        value += value_bias
        made = gate / (1.0 + tl.exp2(gate * -1.4426950408889634)) * value
        tl.store(out + (row + i) * WIDTH + column, made.to(out.dtype.element_ty))


@triton.jit
def _pool(
    x, bounds, shift, weight, bias, out, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    record = tl.program_id(0).to(tl.int64)
    first = tl.load(bounds + 2 * record)
    last = tl.load(bounds + 2 * record + 1)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    total = tl.zeros((BLOCK,), tl.float32)
    if NORM:
        add = tl.load(shift + column, mask=inside, other=0.0)
    for row_0 in range(first, last, ROWS):
        row = row_0 + tl.arange(0, ROWS)
        mask = (row < last)[:, None] & inside[None, :]
        at = row.to(tl.int64)[:, None] * WIDTH + column[None, :]
        value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        if NORM:
            value += add[None, :]
            mean = tl.sum(value, axis=1) / WIDTH
            value = tl.where(mask, value - mean[:, None], 0.0)
            value *= tl.rsqrt(tl.sum(value * value, axis=1) / WIDTH + eps)[:, None]
        total += tl.sum(value, axis=0)
    total /= tl.maximum(last - first, 1).to(tl.float32)
    if NORM:
        total *= tl.load(weight + column, mask=inside, other=0.0)
        total += tl.load(bias + column, mask=inside, other=0.0)
    tl.store(out + record * WIDTH + column, total, mask=inside)


@triton.jit
def _rotary(
    qkv, bias, cos, sin, positions, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
    HALF: tl.constexpr, BLOCK_HALF: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    half = tl.arange(0, BLOCK_HALF)
    column = head[:, None] * (2 * HALF) + half[None, :]
    there = (head * (2 * HALF) < COLUMNS)[:, None] & (half < HALF)[None, :]
    at = qkv + row * WIDTH + column
    low = tl.load(at, mask=there, other=0.0).to(tl.float32)
    high = tl.load(at + HALF, mask=there, other=0.0).to(tl.float32)
    low += tl.load(bias + column, mask=there, other=0.0)
    high += tl.load(bias + column + HALF, mask=there, other=0.0)
    angle = tl.load(positions + row) * HALF + half
    c = tl.load(cos + angle, mask=half < HALF, other=0.0).to(tl.float32)[None, :]
    s = tl.load(sin + angle, mask=half < HALF, other=0.0).to(tl.float32)[None, :]
    tl.store(at, (low * c - high * s).to(qkv.dtype.element_ty), mask=there)
    tl.store(at + HALF, (high * c + low * s).to(qkv.dtype.element_ty), mask=there)


def gelu(
    u_TF: Tensor,
    out_TF: Tensor,
    *,
    bias_F: Tensor,
    standard: tuple[Tensor, Tensor | None] | None = None,
    scale_F: Tensor | None = None,
) -> None:
    """See ``plain.gelu``."""
    rows, width = u_TF.shape
    block = _dividing_block(width)
    rstd_T, lead_F = standard or (None, None)
    _gelu[(rows // _ROWS, width // block)](
        u_TF, bias_F, rstd_T, lead_F, scale_F, out_TF,
        WIDTH=width, BLOCK=block, ROWS=_ROWS,
        STANDARDISE=standard is not None, QUANTISE=scale_F is not None, num_warps=4,
    )  # fmt: skip


def rotary(qkv_TE: Tensor, how: Rotary, *, bias_E: Tensor) -> None:
    """See ``plain.rotary``."""
    rows, width = qkv_TE.shape
    half = how.tables[0].shape[1]
    heads = how.columns // (2 * half)
    block = min(16, triton.next_power_of_2(heads))
    _rotary[(rows, triton.cdiv(heads, block))](
        qkv_TE, bias_E, *how.tables, how.positions,
        COLUMNS=how.columns, WIDTH=width, HALF=half,
        BLOCK_HALF=triton.next_power_of_2(half), HEADS=block, num_warps=4,
    )  # fmt: skip


def geglu(u_T2F: Tensor, out_TF: Tensor) -> None:
    """See ``plain.geglu``."""
    rows, width = out_TF.shape
    block = _dividing_block(width)
    _geglu[(rows // _ROWS, width // block)](
        u_T2F, out_TF, WIDTH=width, BLOCK=block, ROWS=_ROWS, num_warps=4
    )


def swiglu(
    u_T2F: Tensor,
    out_TF: Tensor,
    *,
    bias_2F: Tensor,
    rstd_T: Tensor | None = None,
) -> None:
    """See ``plain.swiglu``."""
    rows, width = out_TF.shape
    block = _dividing_block(width)
    _swiglu[(rows // _ROWS, width // block)](
        u_T2F, bias_2F, rstd_T, out_TF,
        WIDTH=width, BLOCK=block, ROWS=_ROWS, STANDARDISE=rstd_T is not None, num_warps=4,
    )  # fmt: skip


def pool(
    x_TD: Tensor,
    out_nD: Tensor,
    layout: BatchLayout,
    *,
    eps: float = 0.0,
    shift_D: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
) -> None:
    """See ``plain.pool``."""
    width = x_TD.shape[1]
    weight, bias = affine or (None, None)
    _pool[(layout.n_records,)](
        x_TD, layout.bounds, shift_D, weight, bias, out_nD, eps,
        WIDTH=width, BLOCK=triton.next_power_of_2(width), ROWS=4, NORM=affine is not None,
        num_warps=8,
    )  # fmt: skip


def _dividing_block(width: int) -> int:
    """Largest power of two, up to 1024, that divides a width."""
    return min(1024, width & -width)
