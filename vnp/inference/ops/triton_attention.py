"""Attention within records as Triton kernels, on packed rows as a projection left them.

Queries and keys come ready: rotated by their positions where a model does that, and the queries
times ``QUERY_FACTOR`` / sqrt(K): softmax takes two to the power of a score.

A record of up to ``MOST_BLOCKS`` blocks of keys is one program a head, which keeps its keys and
values on the chip. The queries of a longer one are cut into tiles, and each tile passes over all
keys; from Hopper on blocks are copied in whole, ahead of the block before them.

Shapes: T rows (tokens), D hidden width, E = 3 * D, K = D / heads.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from vnp.inference.batch_layout import BLOCK_KEYS, TILE_ROWS, BatchLayout

QUERY_FACTOR = math.log2(math.e)

# Registers of a thread on Hopper, by blocks of keys; 0 is for longer records. Fewer than the
# compiler would like, so that programs share a multiprocessor: while one waits for memory, another
# multiplies. The matrix instructions of older devices take more, and would spill.
_REGISTERS = {0: 96, 1: 80, 2: 128, 3: 112, 4: 168}
_NORMED_REGISTERS = _REGISTERS | {3: 128}  # where factors of norms are taken in


@triton.jit
def _times(x, factor):
    """Rows times a factor each."""
    return (x.to(tl.float32) * factor[:, None]).to(x.dtype)


@triton.jit
def _adjusted(
    score, query, key, rstd, length, slope,
    ALIBI: tl.constexpr, NORMED: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """Scores with what keys lack, less ALiBi's; past the end of the record minus infinity."""
    if NORMED:
        score *= tl.load(rstd + key, mask=key < length, other=0.0)[None, :]
    if ALIBI:
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
def _store_context(
    out, context, total, scale, query, length, column,
    WIDTH: tl.constexpr, HEAD: tl.constexpr, QUANTISE: tl.constexpr,
):  # fmt: skip
    in_head = column < HEAD
    context *= (1.0 / total)[:, None]
    if QUANTISE:
        context *= tl.load(scale + column, mask=in_head, other=0.0)[None, :]
    tl.store(
        out + query[:, None] * WIDTH + column[None, :],
        context.to(out.dtype.element_ty),
        mask=(query < length)[:, None] & in_head[None, :],
    )


@triton.jit
def _attend_short(
    qkv, out, tiles, slopes, scale, rstd, keys,
    WIDTH: tl.constexpr, HEAD: tl.constexpr, BLOCK_HEAD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCKS: tl.constexpr,
    ALIBI: tl.constexpr, QUANTISE: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    """One record and head: its keys and values stay on the chip while its queries pass."""
    head = tl.program_id(0)  # varies fastest: neighbours read neighbouring parts of the same rows
    start = tl.load(tiles + 4 * tl.program_id(1)).to(tl.int64)
    length = tl.load(tiles + 4 * tl.program_id(1) + 1)
    column = tl.arange(0, BLOCK_HEAD)
    rows = qkv + start * (3 * WIDTH) + head * HEAD + column[None, :]
    out += start * WIDTH + head * HEAD
    slope = 0.0
    if ALIBI:
        slope = tl.load(slopes + head) * 1.4426950408889634  # log2(e)
    if QUANTISE:
        scale += head * HEAD
    rstd += start
    keys += start

    blocks = ()
    for block in tl.static_range(BLOCKS):
        key = block * BLOCK_N + tl.arange(0, BLOCK_N)
        there = (key < length)[:, None] & (column < HEAD)[None, :]
        at = rows + key[:, None] * (3 * WIDTH)
        k = tl.load(at + WIDTH, mask=there, other=0.0)
        v = tl.load(at + 2 * WIDTH, mask=there, other=0.0)
        if NORMED:
            k = _times(k, tl.load(keys + key, mask=key < length, other=0.0))
        blocks = blocks + ((k, v),)  # type: ignore[assignment]  # noqa: RUF005

    for query_0 in range(0, length, BLOCK_M):
        query = query_0 + tl.arange(0, BLOCK_M)
        there = (query < length)[:, None] & (column < HEAD)[None, :]
        q = tl.load(rows + query[:, None] * (3 * WIDTH), mask=there, other=0.0)
        if NORMED:
            q = _times(q, tl.load(rstd + query, mask=query < length, other=0.0))
        top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
        context = tl.zeros((BLOCK_M, BLOCK_HEAD), tl.float32)
        for block in tl.static_range(BLOCKS):
            key = block * BLOCK_N + tl.arange(0, BLOCK_N)
            score = tl.dot(q, tl.trans(blocks[block][0]))
            score = _adjusted(
                score, query, key, keys, length, slope, ALIBI, False, block == BLOCKS - 1
            )
            top, total, context = _absorb(score, blocks[block][1], top, total, context)
        _store_context(out, context, total, scale, query, length, column, WIDTH, HEAD, QUANTISE)


@triton.jit
def _attend_long(
    qkv, out, tiles, slopes, scale, rstd, keys, copies,
    WIDTH: tl.constexpr, HEAD: tl.constexpr, BLOCK_HEAD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    ALIBI: tl.constexpr, QUANTISE: tl.constexpr, NORMED: tl.constexpr, COPY: tl.constexpr,
):  # fmt: skip
    """Some queries of one record and head against all its keys, with a running softmax.

    Queries past the end belong to another record or to none: what comes of them is not written.
    """
    head = tl.program_id(0)
    start = tl.load(tiles + 4 * tl.program_id(2))
    length = tl.load(tiles + 4 * tl.program_id(2) + 1)
    first = tl.load(tiles + 4 * tl.program_id(2) + 2) + tl.program_id(1) * BLOCK_M
    if first >= tl.load(tiles + 4 * tl.program_id(2) + 3):
        return
    column = tl.arange(0, BLOCK_HEAD)
    in_head = (column < HEAD)[None, :]
    rows = qkv + start.to(tl.int64) * (3 * WIDTH) + head * HEAD + column[None, :]
    out += start.to(tl.int64) * WIDTH + head * HEAD
    at_head = head * HEAD
    slope = 0.0
    if ALIBI:
        slope = tl.load(slopes + head) * 1.4426950408889634  # log2(e)
    if QUANTISE:
        scale += head * HEAD
    rstd += start
    keys += start

    query = first + tl.arange(0, BLOCK_M)
    if COPY:
        q = copies.load([start + first, at_head])
    else:
        there = (query < length)[:, None] & in_head
        q = tl.load(rows + query[:, None] * (3 * WIDTH), mask=there, other=0.0)
    if NORMED:
        q = _times(q, tl.load(rstd + query, mask=query < length, other=0.0))
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    context = tl.zeros((BLOCK_M, BLOCK_HEAD), tl.float32)
    whole = length // BLOCK_N * BLOCK_N  # keys of full blocks: nothing to mask, copies run ahead
    for key_0 in tl.range(0, whole, BLOCK_N, num_stages=2):
        key = key_0 + tl.arange(0, BLOCK_N)
        if COPY:
            k = copies.load([start + key_0, WIDTH + at_head])
            v = copies.load([start + key_0, 2 * WIDTH + at_head])
        else:
            at = rows + key[:, None] * (3 * WIDTH)
            k = tl.load(at + WIDTH, mask=in_head, other=0.0)
            v = tl.load(at + 2 * WIDTH, mask=in_head, other=0.0)
        score = tl.dot(q, tl.trans(k))
        score = _adjusted(score, query, key, keys, length, slope, ALIBI, NORMED, False)
        top, total, context = _absorb(score, v, top, total, context)
    if whole < length:
        key = whole + tl.arange(0, BLOCK_N)
        at = rows + key[:, None] * (3 * WIDTH)
        there = (key < length)[:, None] & in_head
        k = tl.load(at + WIDTH, mask=there, other=0.0)
        v = tl.load(at + 2 * WIDTH, mask=there, other=0.0)
        score = tl.dot(q, tl.trans(k))
        score = _adjusted(score, query, key, keys, length, slope, ALIBI, NORMED, True)
        top, total, context = _absorb(score, v, top, total, context)
    _store_context(out, context, total, scale, query, length, column, WIDTH, HEAD, QUANTISE)


def attend(
    qkv_TE: Tensor,
    out_TD: Tensor,
    layout: BatchLayout,
    *,
    heads: int,
    slopes: Tensor | None = None,
    scale_D: Tensor | None = None,
    rstd_2T: Tensor | None = None,
) -> None:
    """See ``plain.attend``."""
    width = out_TD.shape[1]
    head = width // heads
    block_head = max(16, triton.next_power_of_2(head))
    common = {
        "WIDTH": width, "HEAD": head, "BLOCK_HEAD": block_head,
        "BLOCK_M": BLOCK_KEYS, "BLOCK_N": BLOCK_KEYS,
        "ALIBI": slopes is not None, "QUANTISE": scale_D is not None,
        "NORMED": rstd_2T is not None,
        "num_warps": 4, "num_stages": 1,
    }  # fmt: skip
    major, _ = torch.cuda.get_device_capability(qkv_TE.device)
    copy = major >= 9 and head == block_head  # a copied block has no columns to leave out
    copies = TensorDescriptor.from_tensor(qkv_TE, [BLOCK_KEYS, head]) if copy else None
    registers = _REGISTERS if rstd_2T is None else _NORMED_REGISTERS
    # What is not there is not read; its place takes any address.
    rstds = (layout.tiles, layout.tiles) if rstd_2T is None else rstd_2T.unbind()
    for part in layout.parts:
        tiles = layout.tiles[part.start :]
        options = common | ({"maxnreg": registers[part.blocks]} if major == 9 else {})
        if part.blocks:
            _attend_short[heads, part.stop - part.start](
                qkv_TE, out_TD, tiles, slopes, scale_D, *rstds, BLOCKS=part.blocks, **options
            )
        else:
            _attend_long[heads, TILE_ROWS // BLOCK_KEYS, part.stop - part.start](
                qkv_TE, out_TD, tiles, slopes, scale_D, *rstds, copies, COPY=copy, **options
            )
