"""Attention within records for Hopper: blocks are on their way before anyone asks for them.

Written in Gluon, as ``hopper``. A program lives as long as the kernel. One warp of it fetches the
queries, keys and values of one record and head after the other into a ring in shared memory; groups
of four warps take turns at them, so that while one waits for the tensor cores another computes
exponentials. For records of up to three blocks of keys each group has a record of its own, and all
scores of a block of queries are there at once. Longer ones are shared by four groups, a block of
queries each, and their keys pass by once.

A block that reaches beyond its record holds rows of the next one. What they add has a share of
zero, and the values are zeroed as well: a record does not depend on its neighbours even if they are
not finite.

Shapes: T rows (tokens), D hidden width, E = 3 * D.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from vnp.inference.batch_layout import BLOCK_KEYS, TILE_ROWS, BatchLayout
from vnp.inference.ops.hopper_epilogue import HEAD, copy_in
from vnp.inference.ops.triton_attention import QUERY_FACTOR

__all__ = ["QUERY_FACTOR", "attend"]

_BLOCK = gl.constexpr(BLOCK_KEYS)  # keys, and queries
_BESIDE = gl.constexpr(4)  # groups that share a tile of queries
assert _BESIDE.value * BLOCK_KEYS == TILE_ROWS

# How scores and contexts are held, and shares as an input of a product.
_SCORES = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HEAD.value, 16]))
_SHARES = gl.constexpr(gl.DotOperandLayout(0, _SCORES.value, 2))
_LAYOUT = gl.NVMMASharedLayout.get_default_for([BLOCK_KEYS, HEAD.value], gl.bfloat16)


class _Way(NamedTuple):
    """How a kernel is laid out; what was fastest on an H200."""

    groups: int
    slots: int  # of the ring: records, or blocks of keys where groups share
    registers: int  # of a thread of a group
    average: int  # of all threads


# By blocks of keys of records that a group has to itself; others are shared.
_APART = {1: _Way(4, 8, 112, 96), 2: _Way(3, 4, 160, 128), 3: _Way(2, 3, 240, 168)}
_SHARED = _Way(_BESIDE.value, 8, 112, 96)
_FIRST, _SECOND, _THIRD, _FOURTH = (gl.constexpr(group) for group in range(4))
_LOG2E = gl.constexpr(QUERY_FACTOR)


@gluon.jit
def _start_scores(q, k):
    return warpgroup_mma(
        q, k.permute((1, 0)), gl.zeros([_BLOCK, _BLOCK], gl.float32, _SCORES),
        use_acc=False, is_async=True,
    )  # fmt: skip


@gluon.jit
def _adjusted(score, query, first, length, slope, ALIBI: gl.constexpr):
    """Scores less ALiBi's distances; past the end of the record minus infinity."""
    key = first + gl.arange(0, _BLOCK, gl.SliceLayout(0, _SCORES))
    if ALIBI:
        at, to = query.to(gl.float32) * slope, key.to(gl.float32) * slope
        score -= gl.abs(at[:, None] - to[None, :])
    if first + _BLOCK > length:
        score = gl.where((key < length)[None, :], score, float("-inf"))
    return score


@gluon.jit
def _zero_beyond(room, left):
    """Zero the values of other records; every group that reads them does."""
    if left < _BLOCK:
        layout: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
        inside = gl.arange(0, _BLOCK, gl.SliceLayout(1, layout)) < left
        value = room.load(layout)
        room.store(gl.where(inside[:, None], value, gl.zeros_like(value)))
        fence_async_shared()


@gluon.jit
def _write(
    context, room, out, scale, start, first, length, head,
    WIDTH: gl.constexpr, QUANTISE: gl.constexpr,
):  # fmt: skip
    """Write rows of contexts whole, by way of the room that their queries were in."""
    if QUANTISE:
        at = head * HEAD + gl.arange(0, HEAD, gl.SliceLayout(0, _SCORES))
        context *= gl.load(scale + at)[None, :]
    if out.dtype.element_ty != room.dtype:
        narrow: gl.constexpr = gl.NVMMASharedLayout(HEAD, 8, 2)
        room = room._reinterpret(out.dtype.element_ty, [_BLOCK, HEAD], narrow)
    room.store(context.to(out.dtype.element_ty))
    wide: gl.constexpr = 128 // out.dtype.element_ty.primitive_bitwidth
    rows: gl.constexpr = gl.BlockedLayout([1, wide], [wide // 2, 64 // wide], [4, 1], [1, 0])
    value = room.load(rows)
    row = first + gl.arange(0, _BLOCK, gl.SliceLayout(1, rows))
    column = head * HEAD + gl.arange(0, HEAD, gl.SliceLayout(0, rows))
    at = (start + row)[:, None] * WIDTH + column[None, :]
    gl.store(out + at, value, mask=(row < length)[:, None])
    fence_async_shared()  # the room is copied into next


@gluon.jit
def _fetch_apart(copies, tiles, items, ring, HEADS: gl.constexpr, BLOCKS: gl.constexpr):
    """Copy whole records into the ring, of one head at a time."""
    q_ring, k_ring, v_ring, ready, empty = ring
    SLOTS: gl.constexpr = ready.type.shape[0]
    WIDTH: gl.constexpr = HEADS * HEAD
    step = gl.num_programs(0)
    start = gl.load(tiles + 4 * (gl.program_id(0) // HEADS))
    count = 0
    for item in range(gl.program_id(0), items, step):
        next_start = gl.load(tiles + 4 * (gl.minimum(item + step, items - 1) // HEADS))
        slot = count % SLOTS
        bar = ready.index(slot)
        mbarrier.wait(empty.index(slot), (count // SLOTS & 1) ^ 1)
        mbarrier.expect(bar, 3 * BLOCKS * copies.block_type.nbytes)
        column = item % HEADS * HEAD
        for block in gl.static_range(BLOCKS):
            row, room = start + block * _BLOCK, slot * BLOCKS + block
            copy_in(copies, [row, WIDTH + column], bar, k_ring.index(room))
            copy_in(copies, [row, column], bar, q_ring.index(room))
            copy_in(copies, [row, 2 * WIDTH + column], bar, v_ring.index(room))
        start = next_start
        count += 1  # noqa: SIM113


@gluon.jit
def _attend_apart(
    job, HEADS: gl.constexpr, BLOCKS: gl.constexpr,
    GROUPS: gl.constexpr, ALIBI: gl.constexpr, QUANTISE: gl.constexpr, GROUP: gl.constexpr,
):  # fmt: skip
    """Every so many records of the ring, by one group alone."""
    out, tiles, slopes, scale, items, ring = job
    q_ring, k_ring, v_ring, ready, empty = ring
    SLOTS: gl.constexpr = ready.type.shape[0]
    line = gl.arange(0, _BLOCK, gl.SliceLayout(1, _SCORES))
    step = gl.num_programs(0)
    count = GROUP
    for item in range(gl.program_id(0) + GROUP * step, items, GROUPS * step):
        head, tile = item % HEADS, tiles + 4 * (item // HEADS)
        start, length = gl.load(tile).to(gl.int64), gl.load(tile + 1)
        slope = 0.0
        if ALIBI:
            slope = gl.load(slopes + head) * _LOG2E
        slot = count % SLOTS
        first = slot * BLOCKS
        mbarrier.wait(ready.index(slot), count // SLOTS & 1)
        _zero_beyond(v_ring.index(first + BLOCKS - 1), length - (BLOCKS - 1) * _BLOCK)
        for query in range(0, BLOCKS * _BLOCK, _BLOCK):
            room = q_ring.index(first + query // _BLOCK)
            coming = ()
            for block in gl.static_range(BLOCKS):
                score = _start_scores(room, k_ring.index(first + block))
                coming = coming + (score,)  # type: ignore[assignment]  # noqa: RUF005
            scores = ()
            for block in gl.static_range(BLOCKS):
                score = warpgroup_mma_wait(BLOCKS - 1 - block, deps=(coming[block],))
                key = block * _BLOCK
                score = _adjusted(score, query + line, key, length, slope, ALIBI)
                scores = scores + (score,)  # type: ignore[assignment]  # noqa: RUF005
            most = scores[0]  # type: ignore[misc]
            for block in gl.static_range(1, BLOCKS):
                most = gl.maximum(most, scores[block])
            top = gl.max(most, axis=1)
            total = gl.exp2(scores[0] - top[:, None])  # type: ignore[misc]
            context = warpgroup_mma(
                gl.convert_layout(total.to(gl.bfloat16), _SHARES), v_ring.index(first),
                gl.zeros([_BLOCK, HEAD], gl.float32, _SCORES), use_acc=False, is_async=True,
            )  # fmt: skip
            for block in gl.static_range(1, BLOCKS):
                share = gl.exp2(scores[block] - top[:, None])
                total += share
                context = warpgroup_mma(
                    gl.convert_layout(share.to(gl.bfloat16), _SHARES), v_ring.index(first + block),
                    context, is_async=True,
                )  # fmt: skip
            factor = 1.0 / gl.sum(total, axis=1)
            value = warpgroup_mma_wait(0, deps=(context,)) * factor[:, None]
            _write(
                value, room, out, scale, start, query, length, head, HEADS * HEAD, QUANTISE,
            )  # fmt: skip
        mbarrier.arrive(empty.index(slot), count=1)
        count += GROUPS


# Kinds of numbers of tiles would be compiled one by one, in the middle of a run.
@gluon.jit(do_not_specialize=["count"])
def _apart(
    copies, out, tiles, slopes, scale, count,
    HEADS: gl.constexpr, BLOCKS: gl.constexpr, SLOTS: gl.constexpr, GROUPS: gl.constexpr,
    REGISTERS: gl.constexpr, ALIBI: gl.constexpr, QUANTISE: gl.constexpr,
):  # fmt: skip
    """A record of its own for each group."""
    rooms: gl.constexpr = [SLOTS * BLOCKS, _BLOCK, HEAD]
    q_ring = gl.allocate_shared_memory(copies.dtype, rooms, copies.layout)
    k_ring = gl.allocate_shared_memory(copies.dtype, rooms, copies.layout)
    v_ring = gl.allocate_shared_memory(copies.dtype, rooms, copies.layout)
    ready = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], mbarrier.MBarrierLayout())
    for slot in gl.static_range(SLOTS):
        mbarrier.init(ready.index(slot), count=1)
        mbarrier.init(empty.index(slot), count=1)
    ring = (q_ring, k_ring, v_ring, ready, empty)
    items = count * HEADS
    job = (out, tiles, slopes, scale, items, ring)
    if GROUPS == 2:
        gl.warp_specialize([
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _FIRST)),
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _SECOND)),
                (_fetch_apart, (copies, tiles, items, ring, HEADS, BLOCKS)),
        ], [4, 1], [REGISTERS, 24])  # fmt: skip
    elif GROUPS == 3:
        gl.warp_specialize([
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _FIRST)),
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _SECOND)),
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _THIRD)),
                (_fetch_apart, (copies, tiles, items, ring, HEADS, BLOCKS)),
        ], [4, 4, 1], [REGISTERS, REGISTERS, 24])  # fmt: skip
    else:
        gl.warp_specialize([
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _FIRST)),
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _SECOND)),
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _THIRD)),
                (_attend_apart, (job, HEADS, BLOCKS, GROUPS, ALIBI, QUANTISE, _FOURTH)),
                (_fetch_apart, (copies, tiles, items, ring, HEADS, BLOCKS)),
        ], [4, 4, 4, 1], [REGISTERS, REGISTERS, REGISTERS, 24])  # fmt: skip


@gluon.jit
def _fetch_shared(copies, tiles, items, ring, HEADS: gl.constexpr):
    """Copy a tile's queries, and then all keys and values of its record, block by block."""
    q_ring, k_ring, v_ring, q_ready, q_empty, ready, empty = ring
    SLOTS: gl.constexpr = ready.type.shape[0]
    WIDTH: gl.constexpr = HEADS * HEAD
    count, tiles_done = 0, 0
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        tile, column = tiles + 4 * (item // HEADS), item % HEADS * HEAD
        start, length, first = gl.load(tile), gl.load(tile + 1), gl.load(tile + 2)
        half = tiles_done % 2
        mbarrier.wait(q_empty.index(half), (tiles_done // 2 & 1) ^ 1)
        bar = q_ready.index(half)
        mbarrier.expect(bar, _BESIDE * copies.block_type.nbytes)
        for group in gl.static_range(_BESIDE):
            row = start + first + group * _BLOCK
            copy_in(copies, [row, column], bar, q_ring.index(half * _BESIDE + group))
        tiles_done += 1  # noqa: SIM113
        for key in range(0, length, _BLOCK):
            slot, row = count % SLOTS, start + key
            bar = ready.index(slot)
            mbarrier.wait(empty.index(slot), (count // SLOTS & 1) ^ 1)
            mbarrier.expect(bar, 2 * copies.block_type.nbytes)
            copy_in(copies, [row, WIDTH + column], bar, k_ring.index(slot))
            copy_in(copies, [row, 2 * WIDTH + column], bar, v_ring.index(slot))
            count += 1


@gluon.jit
def _attend_shared(
    job, HEADS: gl.constexpr, ALIBI: gl.constexpr,
    QUANTISE: gl.constexpr, GROUP: gl.constexpr,
):  # fmt: skip
    """One group's queries of every tile against all keys of the record, a running softmax."""
    out, tiles, slopes, scale, items, ring = job
    q_ring, k_ring, v_ring, q_ready, q_empty, ready, empty = ring
    SLOTS: gl.constexpr = ready.type.shape[0]
    line = gl.arange(0, _BLOCK, gl.SliceLayout(1, _SCORES))
    count, tiles_done = 0, 0
    for item in range(gl.program_id(0), items, gl.num_programs(0)):
        head, tile = item % HEADS, tiles + 4 * (item // HEADS)
        start, length = gl.load(tile).to(gl.int64), gl.load(tile + 1)
        first = gl.load(tile + 2) + GROUP * _BLOCK
        slope = 0.0
        if ALIBI:
            slope = gl.load(slopes + head) * _LOG2E
        half = tiles_done % 2
        room = q_ring.index(half * _BESIDE + GROUP)
        mbarrier.wait(q_ready.index(half), tiles_done // 2 & 1)
        if first < gl.load(tile + 3):
            top = gl.full([_BLOCK], float("-inf"), gl.float32, gl.SliceLayout(1, _SCORES))
            total = gl.zeros([_BLOCK], gl.float32, gl.SliceLayout(1, _SCORES))
            context = gl.zeros([_BLOCK, HEAD], gl.float32, _SCORES)
            for key in range(0, length, _BLOCK):
                slot = count % SLOTS
                mbarrier.wait(ready.index(slot), count // SLOTS & 1)
                coming = _start_scores(room, k_ring.index(slot))
                _zero_beyond(v_ring.index(slot), length - key)
                score = warpgroup_mma_wait(0, deps=(coming,))
                score = _adjusted(score, first + line, key, length, slope, ALIBI)
                higher = gl.maximum(top, gl.max(score, axis=1))
                share, shrink = gl.exp2(score - higher[:, None]), gl.exp2(top - higher)
                top = higher
                total = total * shrink + gl.sum(share, axis=1)
                coming = warpgroup_mma(
                    gl.convert_layout(share.to(gl.bfloat16), _SHARES), v_ring.index(slot),
                    context * shrink[:, None], is_async=True,
                )  # fmt: skip
                context = warpgroup_mma_wait(0, deps=(coming,))
                mbarrier.arrive(empty.index(slot), count=1)
                count += 1
            context *= (1.0 / total)[:, None]
            _write(
                context, room, out, scale, start, first, length, head, HEADS * HEAD, QUANTISE,
            )  # fmt: skip
        else:  # a tile may have fewer blocks of queries than there are groups
            for _ in range(0, length, _BLOCK):
                slot = count % SLOTS
                mbarrier.wait(ready.index(slot), count // SLOTS & 1)
                mbarrier.arrive(empty.index(slot), count=1)
                count += 1
        mbarrier.arrive(q_empty.index(half), count=1)
        tiles_done += 1  # noqa: SIM113


@gluon.jit(do_not_specialize=["count"])
def _shared(
    copies, out, tiles, slopes, scale, count, HEADS: gl.constexpr, SLOTS: gl.constexpr,
    REGISTERS: gl.constexpr, ALIBI: gl.constexpr, QUANTISE: gl.constexpr,
):  # fmt: skip
    """A tile of queries for all groups together."""
    q_rooms: gl.constexpr = [2 * _BESIDE, _BLOCK, HEAD]
    rooms: gl.constexpr = [SLOTS, _BLOCK, HEAD]
    q_ring = gl.allocate_shared_memory(copies.dtype, q_rooms, copies.layout)
    k_ring = gl.allocate_shared_memory(copies.dtype, rooms, copies.layout)
    v_ring = gl.allocate_shared_memory(copies.dtype, rooms, copies.layout)
    q_ready = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    q_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    ready = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [SLOTS, 1], mbarrier.MBarrierLayout())
    for half in gl.static_range(2):
        mbarrier.init(q_ready.index(half), count=1)
        mbarrier.init(q_empty.index(half), count=_BESIDE)
    for slot in gl.static_range(SLOTS):
        mbarrier.init(ready.index(slot), count=1)
        mbarrier.init(empty.index(slot), count=_BESIDE)
    ring = (q_ring, k_ring, v_ring, q_ready, q_empty, ready, empty)
    items = count * HEADS
    job = (out, tiles, slopes, scale, items, ring)
    gl.warp_specialize([
            (_attend_shared, (job, HEADS, ALIBI, QUANTISE, _FIRST)),
            (_attend_shared, (job, HEADS, ALIBI, QUANTISE, _SECOND)),
            (_attend_shared, (job, HEADS, ALIBI, QUANTISE, _THIRD)),
            (_attend_shared, (job, HEADS, ALIBI, QUANTISE, _FOURTH)),
            (_fetch_shared, (copies, tiles, items, ring, HEADS)),
        ], [4, 4, 4, 1], [REGISTERS, REGISTERS, REGISTERS, 24])  # fmt: skip


def attend(
    qkv_TE: Tensor,
    out_TD: Tensor,
    layout: BatchLayout,
    *,
    heads: int,
    slopes: Tensor | None = None,
    scale_D: Tensor | None = None,
) -> None:
    """See ``plain.attend``; in bfloat16, of heads of 64 columns."""
    copies = TensorDescriptor.from_tensor(qkv_TE, [BLOCK_KEYS, HEAD.value], _LAYOUT)
    programs = torch.cuda.get_device_properties(qkv_TE.device).multi_processor_count
    for part in layout.parts:
        tiles = layout.tiles[part.start : part.stop]
        arguments = (
            copies, out_TD, tiles,
            # What is not there is not read; its place takes any address.
            tiles if slopes is None else slopes, tiles if scale_D is None else scale_D, len(tiles),
        )  # fmt: skip
        way = _APART.get(part.blocks, _SHARED)
        options = {
            "HEADS": heads, "SLOTS": way.slots, "REGISTERS": way.registers,
            "ALIBI": slopes is not None, "QUANTISE": scale_D is not None,
            "num_warps": 4, "maxnreg": way.average,
        }  # fmt: skip
        grid = (min(programs, len(tiles) * heads),)
        if part.blocks in _APART:
            _apart[grid](*arguments, BLOCKS=part.blocks, GROUPS=way.groups, **options)
        else:
            _shared[grid](*arguments, **options)
