"""The fused operations of the engine as Triton kernels.

Matrix products stay with cuBLAS; what lies between them is one memory pass each. ``plain`` has the
same operations, with the same arguments, in a few lines of torch: it says what a kernel computes,
runs where there is no Triton, and is what the kernels are tested against. All arithmetic is in
float32; tensors are read and written in their own dtype. No kernel looks across records, and block
shapes depend on a model's widths alone, so a record's numbers do not depend on its neighbours, nor
on a tuning run that might end differently on the next machine.

Shapes: T rows (tokens), D hidden width, F inner width, E = 3 * D, n records, K = D / heads.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call,no-any-return"

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from vnp.engine.spans import BLOCK_KEYS, TILE_ROWS, Spans

name, version = "Triton", triton.__version__

_LOG2_E = math.log2(math.e)
_ROWS = 4  # rows that a program of an elementwise kernel goes through


@triton.jit
def _gelu_of(x):
    """X * Phi(x), Phi the normal distribution function, without erf's branches.

    Phi(x) = 1 / (1 + exp(-x * p(x^2))), p the minimax polynomial of degree 7 of logit(Phi(x)) / x
    for |x| <= 5.5 and constant beyond. The error of Phi is below 7e-5 of its value up to there, and
    below 2e-8 beyond; bfloat16 rounds by 2e-3 of a value.
    """
    t = tl.minimum(x * x, 30.25)
    p = -4.349050908e-11
    p = p * t + 5.787875488e-09
    p = p * t - 3.184837934e-07
    p = p * t + 9.148197503e-06
    p = p * t - 1.300971747e-04
    p = p * t - 2.625298994e-04
    p = p * t + 1.052319242e-01
    p = p * t + 2.301946646e00
    return x / (1.0 + tl.exp2(-x * p))


@triton.jit
def _norm(
    x, delta, shift, weight, bias, out, eps, scale,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    HAS_DELTA: tl.constexpr, HAS_SHIFT: tl.constexpr, AFFINE: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    at = tl.program_id(0).to(tl.int64) * WIDTH + column
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_DELTA:
        value += tl.load(delta + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(x + at, value.to(x.dtype.element_ty), mask=inside)
    if HAS_SHIFT:
        value += tl.load(shift + column, mask=inside, other=0.0)
    mean = tl.sum(value, axis=0) / WIDTH
    value = tl.where(inside, value - mean, 0.0)
    value *= tl.rsqrt(tl.sum(value * value, axis=0) / WIDTH + eps)
    if AFFINE:
        value *= tl.load(weight + column, mask=inside, other=0.0)
        value += tl.load(bias + column, mask=inside, other=0.0)
    tl.store(out + at, (value * scale).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gelu(
    u, bias, scale, out,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, QUANTISE: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    add = tl.load(bias + column)
    if QUANTISE:
        factor = tl.load(scale + column)
    row = tl.program_id(0).to(tl.int64) * ROWS
    for i in tl.static_range(ROWS):
        at = (row + i) * WIDTH + column
        value = _gelu_of(tl.load(u + at).to(tl.float32) + add)
        if QUANTISE:
            value *= factor
        tl.store(out + at, value.to(out.dtype.element_ty))


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
        tl.store(
            out + (row + i) * WIDTH + column, (_gelu_of(gate) * value).to(out.dtype.element_ty)
        )


@triton.jit
def _halves(
    rows, bias, cos, sin, position, length, half,
    HALF: tl.constexpr, ROTARY: tl.constexpr,
):  # fmt: skip
    """Both halves of a head for some tokens of a record, with the bias, turned by position."""
    there = (position < length)[:, None] & (half < HALF)[None, :]
    low = tl.load(rows + half[None, :], mask=there, other=0.0).to(tl.float32)
    high = tl.load(rows + HALF + half[None, :], mask=there, other=0.0).to(tl.float32)
    low += tl.load(bias + half, mask=half < HALF, other=0.0)[None, :]
    high += tl.load(bias + HALF + half, mask=half < HALF, other=0.0)[None, :]
    if ROTARY:
        at = position[:, None] * HALF + half[None, :]
        c = tl.load(cos + at, mask=there, other=0.0)
        s = tl.load(sin + at, mask=there, other=0.0)
        return low * c - high * s, high * c + low * s
    return low, high


@triton.jit
def _values(rows, position, length, column, HALF: tl.constexpr):
    """Values of a head for some tokens of a record, less their bias; zero past its end."""
    there = (position < length)[:, None] & (column < 2 * HALF)[None, :]
    return tl.load(rows + column[None, :], mask=there, other=0.0)


@triton.jit
def _store_context(
    out, context, bias, scale, query, length, column,
    WIDTH: tl.constexpr, HALF: tl.constexpr, QUANTISE: tl.constexpr,
):  # fmt: skip
    """Write contexts of a head. Shares sum to one, so the bias of the values is added once."""
    in_head = column < 2 * HALF
    context += tl.load(bias + column, mask=in_head, other=0.0)[None, :]
    if QUANTISE:
        context *= tl.load(scale + column, mask=in_head, other=0.0)[None, :]
    tl.store(
        out + query[:, None] * WIDTH + column[None, :],
        context.to(out.dtype.element_ty),
        mask=(query < length)[:, None] & in_head[None, :],
    )


@triton.jit
def _absorb(
    q_low, q_high, k_low, k_high, v, top, total, context, query, key, length, slope,
    ROTARY: tl.constexpr,
):  # fmt: skip
    """Take a block of keys into a running softmax."""
    score = tl.dot(q_low, tl.trans(k_low))
    score = tl.dot(q_high, tl.trans(k_high), acc=score)
    if not ROTARY:
        score -= slope * tl.abs(query[:, None] - key[None, :]).to(tl.float32)
    score = tl.where((key < length)[None, :], score, float("-inf"))
    higher = tl.maximum(top, tl.max(score, axis=1))
    share = tl.exp2(score - higher[:, None])
    shrink = tl.exp2(top - higher)
    total = total * shrink + tl.sum(share, axis=1)
    context = tl.dot(share.to(v.dtype), v, acc=context * shrink[:, None])
    return higher, total, context


@triton.jit
def _attend_short(
    qkv, bias, out, tiles, cos, sin, slopes, scale, q_scale,
    WIDTH: tl.constexpr, HALF: tl.constexpr, BLOCK_HALF: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCKS: tl.constexpr,
    ROTARY: tl.constexpr, QUANTISE: tl.constexpr,
):  # fmt: skip
    """One record and head: its keys and values stay on the chip while its queries pass."""
    head = tl.program_id(0)  # varies fastest: neighbours read neighbouring parts of the same rows
    start = tl.load(tiles + 3 * tl.program_id(1)).to(tl.int64)
    length = tl.load(tiles + 3 * tl.program_id(1) + 1)
    half = tl.arange(0, BLOCK_HALF)
    column = tl.arange(0, 2 * BLOCK_HALF)
    dtype = qkv.dtype.element_ty
    q_rows = qkv + start * (3 * WIDTH) + head * (2 * HALF)
    k_rows, v_rows = q_rows + WIDTH, q_rows + 2 * WIDTH
    out += start * WIDTH + head * (2 * HALF)
    q_bias = bias + head * (2 * HALF)
    k_bias, v_bias = q_bias + WIDTH, q_bias + 2 * WIDTH
    slope = 0.0
    if not ROTARY:
        slope = tl.load(slopes + head) * 1.4426950408889634  # log2(e)
    if QUANTISE:
        scale += head * (2 * HALF)

    blocks = ()
    for block in tl.static_range(BLOCKS):
        key = block * BLOCK_N + tl.arange(0, BLOCK_N)
        at = key[:, None] * (3 * WIDTH)
        k_low, k_high = _halves(k_rows + at, k_bias, cos, sin, key, length, half, HALF, ROTARY)
        v = _values(v_rows + at, key, length, column, HALF)
        blocks = blocks + ((k_low.to(dtype), k_high.to(dtype), v),)  # type: ignore[assignment]  # noqa: RUF005

    for query_0 in range(0, length, BLOCK_M):
        query = query_0 + tl.arange(0, BLOCK_M)
        q_at = q_rows + query[:, None] * (3 * WIDTH)
        q_low, q_high = _halves(q_at, q_bias, cos, sin, query, length, half, HALF, ROTARY)
        q_low_, q_high_ = (q_low * q_scale).to(dtype), (q_high * q_scale).to(dtype)
        top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
        context = tl.zeros((BLOCK_M, 2 * BLOCK_HALF), tl.float32)
        for block in tl.static_range(BLOCKS):
            top, total, context = _absorb(
                q_low_, q_high_, blocks[block][0], blocks[block][1], blocks[block][2],
                top, total, context, query, block * BLOCK_N + tl.arange(0, BLOCK_N), length,
                slope, ROTARY,
            )  # fmt: skip
        _store_context(
            out, context / total[:, None], v_bias, scale, query, length, column,
            WIDTH, HALF, QUANTISE,
        )  # fmt: skip


@triton.jit
def _attend_long(
    qkv, bias, out, tiles, cos, sin, slopes, scale, q_scale,
    WIDTH: tl.constexpr, HALF: tl.constexpr, BLOCK_HALF: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    ROTARY: tl.constexpr, QUANTISE: tl.constexpr,
):  # fmt: skip
    """Some queries of one record and head against all its keys, with a running softmax."""
    head = tl.program_id(0)
    start = tl.load(tiles + 3 * tl.program_id(1)).to(tl.int64)
    length = tl.load(tiles + 3 * tl.program_id(1) + 1)
    first = tl.load(tiles + 3 * tl.program_id(1) + 2)
    half = tl.arange(0, BLOCK_HALF)
    column = tl.arange(0, 2 * BLOCK_HALF)
    dtype = qkv.dtype.element_ty
    q_rows = qkv + start * (3 * WIDTH) + head * (2 * HALF)
    k_rows, v_rows = q_rows + WIDTH, q_rows + 2 * WIDTH
    out += start * WIDTH + head * (2 * HALF)
    q_bias = bias + head * (2 * HALF)
    k_bias, v_bias = q_bias + WIDTH, q_bias + 2 * WIDTH
    slope = 0.0
    if not ROTARY:
        slope = tl.load(slopes + head) * 1.4426950408889634  # log2(e)
    if QUANTISE:
        scale += head * (2 * HALF)

    query = first + tl.arange(0, BLOCK_M)
    q_at = q_rows + query[:, None] * (3 * WIDTH)
    q_low, q_high = _halves(q_at, q_bias, cos, sin, query, length, half, HALF, ROTARY)
    q_low_, q_high_ = (q_low * q_scale).to(dtype), (q_high * q_scale).to(dtype)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    context = tl.zeros((BLOCK_M, 2 * BLOCK_HALF), tl.float32)
    for key_0 in range(0, length, BLOCK_N):
        key = key_0 + tl.arange(0, BLOCK_N)
        at = key[:, None] * (3 * WIDTH)
        k_low, k_high = _halves(k_rows + at, k_bias, cos, sin, key, length, half, HALF, ROTARY)
        v = _values(v_rows + at, key, length, column, HALF)
        top, total, context = _absorb(
            q_low_, q_high_, k_low.to(dtype), k_high.to(dtype), v, top, total, context,
            query, key, length, slope, ROTARY,
        )  # fmt: skip
    _store_context(
        out, context / total[:, None], v_bias, scale, query, length, column,
        WIDTH, HALF, QUANTISE,
    )  # fmt: skip


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


def norm(
    x_TD: Tensor,
    out_TD: Tensor,
    *,
    eps: float,
    delta_TD: Tensor | None = None,
    shift_D: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
    scale: float = 1.0,
) -> None:
    """See ``plain.norm``."""
    rows, width = x_TD.shape
    weight, bias = affine or (None, None)
    _norm[(rows,)](
        x_TD, delta_TD, shift_D, weight, bias, out_TD, eps, scale,
        WIDTH=width, BLOCK=triton.next_power_of_2(width),
        HAS_DELTA=delta_TD is not None, HAS_SHIFT=shift_D is not None, AFFINE=affine is not None,
        num_warps=4,
    )  # fmt: skip


def gelu(u_TF: Tensor, out_TF: Tensor, *, bias_F: Tensor, scale_F: Tensor | None = None) -> None:
    """See ``plain.gelu``."""
    rows, width = u_TF.shape
    block = _dividing_block(width)
    _gelu[(rows // _ROWS, width // block)](
        u_TF, bias_F, scale_F, out_TF,
        WIDTH=width, BLOCK=block, ROWS=_ROWS, QUANTISE=scale_F is not None, num_warps=4,
    )  # fmt: skip


def geglu(u_T2F: Tensor, out_TF: Tensor) -> None:
    """See ``plain.geglu``."""
    rows, width = out_TF.shape
    block = _dividing_block(width)
    _geglu[(rows // _ROWS, width // block)](
        u_T2F, out_TF, WIDTH=width, BLOCK=block, ROWS=_ROWS, num_warps=4
    )


def attend(
    qkv_TE: Tensor,
    out_TD: Tensor,
    spans: Spans,
    *,
    heads: int,
    bias_E: Tensor,
    rotary: tuple[Tensor, Tensor] | None = None,
    slopes: Tensor | None = None,
    scale_D: Tensor | None = None,
) -> None:
    """See ``plain.attend``."""
    width = out_TD.shape[1]
    half = width // heads // 2
    cos, sin = rotary or (None, None)
    for part in spans.parts:
        kernel, options = _attend_long, {}
        if part.blocks:
            # Fewer registers than it would like, so that three or four programs share a
            # multiprocessor: while one waits for memory, another multiplies.
            kernel = _attend_short
            options = {"BLOCKS": part.blocks, "maxnreg": 128 if part.blocks < 4 else 168}
        kernel[(heads, part.stop - part.start)](
            qkv_TE, bias_E, out_TD, spans.tiles[part.start :], cos, sin, slopes, scale_D,
            _LOG2_E / math.sqrt(2 * half),
            WIDTH=width, HALF=half, BLOCK_HALF=max(16, triton.next_power_of_2(half)),
            BLOCK_M=TILE_ROWS, BLOCK_N=BLOCK_KEYS, **options,
            ROTARY=rotary is not None, QUANTISE=scale_D is not None,
            num_warps=4, num_stages=1,
        )  # fmt: skip


def pool(
    x_TD: Tensor,
    out_nD: Tensor,
    spans: Spans,
    *,
    eps: float = 0.0,
    shift_D: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
) -> None:
    """See ``plain.pool``."""
    width = x_TD.shape[1]
    weight, bias = affine or (None, None)
    _pool[(spans.n_records,)](
        x_TD, spans.bounds, shift_D, weight, bias, out_nD, eps,
        WIDTH=width, BLOCK=triton.next_power_of_2(width), ROWS=4, NORM=affine is not None,
        num_warps=8,
    )  # fmt: skip


def _dividing_block(width: int) -> int:
    """Largest power of two, up to 1024, that divides a width."""
    return min(1024, width & -width)
