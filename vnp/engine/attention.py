"""Attention within records as Triton kernels: packed rows in, rotary or linear biases inside.

A record of up to ``MOST_BLOCKS`` blocks of keys is one program a head, which keeps its keys and
values on the chip. The queries of a longer one are cut into tiles, and each tile passes over all
keys. So that they are turned once and not once a tile, a pass before turns the keys where they lie;
loads of a block then run ahead of the block before it.

Shapes: T rows (tokens), D hidden width, E = 3 * D, K = D / heads.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call,no-any-return"

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from vnp.engine.spans import BLOCK_KEYS, TILE_ROWS, Spans

_LOG2_E = math.log2(math.e)
# Registers of a thread, by blocks of keys; 0 is for longer records. Fewer than the compiler would
# like, so that programs share a multiprocessor: while one waits for memory, another multiplies.
_REGISTERS = {0: 128, 1: 96, 2: 128, 3: 128, 4: 168}


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
        c = tl.load(cos + at, mask=there, other=0.0).to(tl.float32)
        s = tl.load(sin + at, mask=there, other=0.0).to(tl.float32)
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
def _score(
    q_low, q_high, k_low, k_high, query, key, length, slope,
    ROTARY: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """Scores of queries and keys, as powers of two; past the end of the record minus infinity."""
    score = tl.dot(q_low, tl.trans(k_low))
    score = tl.dot(q_high, tl.trans(k_high), acc=score)
    if not ROTARY:
        score -= slope * tl.abs(query[:, None] - key[None, :]).to(tl.float32)
    if MASK:
        score = tl.where((key < length)[None, :], score, float("-inf"))
    return score


@triton.jit
def _absorb(score, v, top, total, context):
    """Take a block of keys into a running softmax."""
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
            score = _score(
                q_low_, q_high_, blocks[block][0], blocks[block][1],
                query, block * BLOCK_N + tl.arange(0, BLOCK_N), length, slope, ROTARY,
                block == BLOCKS - 1,
            )  # fmt: skip
            top, total, context = _absorb(score, blocks[block][2], top, total, context)
        _store_context(
            out, context * (1.0 / total)[:, None], v_bias, scale, query, length, column,
            WIDTH, HALF, QUANTISE,
        )  # fmt: skip


@triton.jit
def _turn_keys(
    qkv, bias, tiles, cos, sin,
    WIDTH: tl.constexpr, HALF: tl.constexpr, BLOCK_HALF: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Turn some keys of one record and head where they lie, with their bias."""
    head = tl.program_id(0)
    start = tl.load(tiles + 3 * tl.program_id(1)).to(tl.int64)
    length = tl.load(tiles + 3 * tl.program_id(1) + 1)
    key = tl.load(tiles + 3 * tl.program_id(1) + 2) + tl.arange(0, BLOCK_N)
    half = tl.arange(0, BLOCK_HALF)
    bias += WIDTH + head * (2 * HALF)
    rows = qkv + start * (3 * WIDTH) + WIDTH + head * (2 * HALF) + key[:, None] * (3 * WIDTH)
    low, high = _halves(rows, bias, cos, sin, key, length, half, HALF, True)
    there = (key < length)[:, None] & (half < HALF)[None, :]
    tl.store(rows + half[None, :], low.to(qkv.dtype.element_ty), mask=there)
    tl.store(rows + HALF + half[None, :], high.to(qkv.dtype.element_ty), mask=there)


@triton.jit
def _attend_long(
    qkv, bias, out, tiles, cos, sin, slopes, scale, q_scale,
    WIDTH: tl.constexpr, HALF: tl.constexpr, BLOCK_HALF: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    ROTARY: tl.constexpr, QUANTISE: tl.constexpr,
):  # fmt: skip
    """Some queries of one record and head against all its keys, with a running softmax.

    Keys are taken as they lie: turned before, with their bias, or without a turn. Then their bias
    adds the same to every score of a query, and shares do not change.
    """
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
    v_bias = q_bias + 2 * WIDTH
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
    whole = length // BLOCK_N * BLOCK_N  # keys of full blocks: nothing to mask, loads run ahead
    in_half, in_head = (half < HALF)[None, :], (column < 2 * HALF)[None, :]
    for key_0 in tl.range(0, whole, BLOCK_N, num_stages=2):
        key = key_0 + tl.arange(0, BLOCK_N)
        at = key[:, None] * (3 * WIDTH)
        k_low = tl.load(k_rows + at + half[None, :], mask=in_half, other=0.0)
        k_high = tl.load(k_rows + at + HALF + half[None, :], mask=in_half, other=0.0)
        v = tl.load(v_rows + at + column[None, :], mask=in_head, other=0.0)
        score = _score(q_low_, q_high_, k_low, k_high, query, key, length, slope, ROTARY, False)
        top, total, context = _absorb(score, v, top, total, context)
    if whole < length:
        key = whole + tl.arange(0, BLOCK_N)
        at = key[:, None] * (3 * WIDTH)
        there = (key < length)[:, None] & in_half
        k_low = tl.load(k_rows + at + half[None, :], mask=there, other=0.0)
        k_high = tl.load(k_rows + at + HALF + half[None, :], mask=there, other=0.0)
        v = _values(v_rows + at, key, length, column, HALF)
        score = _score(q_low_, q_high_, k_low, k_high, query, key, length, slope, ROTARY, True)
        top, total, context = _absorb(score, v, top, total, context)
    _store_context(
        out, context * (1.0 / total)[:, None], v_bias, scale, query, length, column,
        WIDTH, HALF, QUANTISE,
    )  # fmt: skip


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
    block_half = max(16, triton.next_power_of_2(half))
    cos, sin = rotary or (None, None)
    for part in spans.parts:
        tiles, grid = spans.tiles[part.start :], (heads, part.stop - part.start)
        kernel, options = _attend_long, {"maxnreg": _REGISTERS[0]}
        if part.blocks:
            kernel = _attend_short
            options = {"BLOCKS": part.blocks, "maxnreg": _REGISTERS[part.blocks]}
        elif rotary is not None:
            _turn_keys[grid](
                qkv_TE, bias_E, tiles, cos, sin,
                WIDTH=width, HALF=half, BLOCK_HALF=block_half, BLOCK_N=TILE_ROWS, num_warps=4,
            )  # fmt: skip
        kernel[grid](
            qkv_TE, bias_E, out_TD, tiles, cos, sin, slopes, scale_D,
            _LOG2_E / math.sqrt(2 * half),
            WIDTH=width, HALF=half, BLOCK_HALF=block_half,
            BLOCK_M=TILE_ROWS, BLOCK_N=BLOCK_KEYS, **options,
            ROTARY=rotary is not None, QUANTISE=scale_D is not None,
            num_warps=4, num_stages=1,
        )  # fmt: skip
