"""Matrix products that finish their own work, for Hopper: no pass over memory after them.

What follows a projection of ESM-2 is bias and GELU, bias and the turn of queries and keys by their
positions, or bias and the residual stream; before two of them stands a norm, of which one factor a
row is left. Written in Gluon,
Triton's lower level. A program is three groups of warps that live as long as the kernel. One loads
blocks of both inputs into a ring in shared memory. The other two multiply, each for 64 rows of a
tile of 128 x 256, and finish the last tile in pieces while the tensor cores work on the next: sums
are kept as bfloat16, as a product of cuBLAS would have written them, and an eighth is finished
every eighth of the way. So the numbers are those of a product and a pass after it, and each output
depends on its own row and on weights alone.

Shapes: T rows (tokens), I inputs, O outputs.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call,no-any-return"

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from vnp.engine import plain
from vnp.engine.kernels import gelu_of
from vnp.engine.spans import Then, Turn

_ROWS = 64  # of a group that multiplies: two groups share a tile's columns
_COLUMNS = 256
_PIECES = gl.constexpr(8)  # that a tile is finished in
_HEAD = gl.constexpr(64)  # columns of a head where queries and keys are turned
_BLOCK_BYTES = 128  # of inputs in a block: 64 of bfloat16, 128 of fp8
_STAGES = 4  # blocks in the ring; with them shared memory is full
_TILES = 24  # down a column of tiles before the next column, so that blocks are found in the cache
_REGISTERS = 168  # of a thread on average: 240 where it multiplies, 24 where it loads

_GELU, _TURN, _ADD = gl.constexpr(1), gl.constexpr(2), gl.constexpr(3)
_THEN: dict[Then, gl.constexpr] = {"gelu": _GELU, "turn": _TURN, "add": _ADD}

_DTYPES = {torch.bfloat16: gl.bfloat16, torch.float8_e4m3fn: gl.float8e4nv}
_gelu_of = gluon.jit(gelu_of.fn)
# Renamed between versions of Triton.
_copy_in = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
_copy_out = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global


@gluon.jit
def _tile(number, down, across, TILES: gl.constexpr):
    """Row and column of a tile."""
    first = number // (TILES * across) * TILES
    height = gl.minimum(down - first, TILES)
    within = number % (TILES * across)
    return first + within % height, within // height


@gluon.jit
def _load(a_desc, w_desc, ring, size, TILES: gl.constexpr):
    """Fill the ring, block after block."""
    a_ring, w_ring, ready, empty = ring
    down, across, steps = size[1], size[2], size[3]
    STAGES: gl.constexpr = w_ring.type.shape[0]
    ROWS: gl.constexpr = a_ring.type.shape[1]
    COLUMNS: gl.constexpr = w_ring.type.shape[1]
    BLOCK: gl.constexpr = w_ring.type.shape[2]
    count = 0
    for number in range(gl.program_id(0), down * across, gl.num_programs(0)):
        m, n = _tile(number, down, across, TILES)
        for step in range(steps):
            stage = count % STAGES
            bar = ready.index(stage)
            mbarrier.wait(empty.index(stage), (count // STAGES & 1) ^ 1)
            mbarrier.expect(bar, 2 * a_desc.block_type.nbytes + w_desc.block_type.nbytes)
            row, at = m * (2 * ROWS), step * BLOCK
            _copy_in(a_desc, [row, at], bar, a_ring.index(2 * stage))
            _copy_in(w_desc, [n * COLUMNS, at], bar, w_ring.index(stage))
            _copy_in(a_desc, [row + ROWS, at], bar, a_ring.index(2 * stage + 1))
            count += 1


@gluon.jit
def _step(sums, count, goes_on, ring, GROUP: gl.constexpr):
    """Start on a block of the ring; when the block before it is done, give that back."""
    a_ring, w_ring, ready, empty = ring
    STAGES: gl.constexpr = w_ring.type.shape[0]
    stage = count % STAGES
    mbarrier.wait(ready.index(stage), count // STAGES & 1)
    sums = warpgroup_mma(
        a_ring.index(2 * stage + GROUP), w_ring.index(stage).permute((1, 0)), sums,
        use_acc=goes_on, is_async=True,
    )  # fmt: skip
    sums = warpgroup_mma_wait(1, deps=(sums,))
    mbarrier.arrive(empty.index((count + STAGES - 1) % STAGES), count=1, pred=goes_on)
    return sums


@gluon.jit
def _keep(sums):
    """Sums as bfloat16, two in an integer.

    The conversion is one that the compiler does not move: past the start of the next tile it would
    hold the tensor cores up.
    """
    even, odd = sums.reshape([sums.shape[0], sums.shape[1] // 2, 2]).split()
    return gl.inline_asm_elementwise(
        "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", [even, odd],
        dtype=gl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@gluon.jit
def _kept(pairs, layout: gl.constexpr):
    """Back to float32."""
    even = (pairs << 16).to(gl.float32, bitcast=True)
    odd = (pairs & -65536).to(gl.float32, bitcast=True)
    value = gl.join(even, odd).reshape([pairs.shape[0], 2 * pairs.shape[1]])
    return gl.convert_layout(value, layout, assert_trivial=True)


@gluon.jit
def _halves(x):
    """Left and right half; a matter of names, nothing moves."""
    return x.reshape([x.shape[0], 2, x.shape[1] // 2]).permute([0, 2, 1]).split()


@gluon.jit
def _eighths(x):
    """Eight pieces, from left to right."""
    left, right = _halves(x)
    a, b = _halves(left)
    c, d = _halves(right)
    p0, p1 = _halves(a)
    p2, p3 = _halves(b)
    p4, p5 = _halves(c)
    p6, p7 = _halves(d)
    return p0, p1, p2, p3, p4, p5, p6, p7


@gluon.jit
def _sixteenths(x):
    """Sixteen pieces, from left to right."""
    p0, p1, p2, p3, p4, p5, p6, p7 = _eighths(x)
    a0, a1 = _halves(p0)
    b0, b1 = _halves(p1)
    c0, c1 = _halves(p2)
    d0, d1 = _halves(p3)
    e0, e1 = _halves(p4)
    f0, f1 = _halves(p5)
    g0, g1 = _halves(p6)
    h0, h1 = _halves(p7)
    return a0, a1, b0, b1, c0, c1, d0, d1, e0, e1, f0, f1, g0, g1, h0, h1


@gluon.jit
def _linear(value, vectors, rstd, at, FP8: gl.constexpr, STANDARDISE: gl.constexpr):
    """Columns of a product, as they would be had its input been standardised, with their bias."""
    weight_scale, bias = vectors[0], vectors[1]
    if FP8:
        value = value * gl.load(weight_scale + at)[None, :]
    if STANDARDISE > 0:
        value = value * rstd[:, None]
    return value + gl.load(bias + at)[None, :]


@gluon.jit
def _send(value, out_desc, room, row, column):
    room.store(value.to(room.dtype))
    fence_async_shared()
    _copy_out(out_desc, [row, column], room)


@gluon.jit
def _finish(
    parts, i: gl.constexpr, old, row, column, rstd, position, vectors, turn_columns,
    out_desc, rooms,
    layout: gl.constexpr, FP8: gl.constexpr, STANDARDISE: gl.constexpr, THEN: gl.constexpr,
    GROUP: gl.constexpr,
):  # fmt: skip
    """Finish an eighth of a tile and send it on its way to memory."""
    WIDTH: gl.constexpr = rooms.type.shape[2]
    offset = gl.arange(0, WIDTH, gl.SliceLayout(0, layout))
    if THEN == _TURN:  # a quarter of a head: some columns of its first half, and their partners
        HALF: gl.constexpr = _HEAD // 2
        PER: gl.constexpr = HALF // WIDTH
        first: gl.constexpr = i // PER * 2 * PER + i % PER
        at = column + first * WIDTH
        low, high = _kept(parts[first], layout), _kept(parts[first + PER], layout)
        low = _linear(low, vectors, rstd, at + offset, FP8, STANDARDISE)
        high = _linear(high, vectors, rstd, at + HALF + offset, FP8, STANDARDISE)
        angle = position[:, None] * HALF + (i % PER * WIDTH + offset)[None, :]
        turned = column < turn_columns
        c = gl.load(vectors[4] + angle, mask=turned, other=1.0).to(gl.float32)
        s = gl.load(vectors[5] + angle, mask=turned, other=0.0).to(gl.float32)
        tma.store_wait(2)  # the piece before last has left its rooms
        room: gl.constexpr = 4 * GROUP + i % 2 * 2
        _send(low * c - high * s, out_desc, rooms.index(room), row, at)
        _send(high * c + low * s, out_desc, rooms.index(room + 1), row, at + HALF)
    else:
        at = column + i * WIDTH
        value = _linear(_kept(parts[i], layout), vectors, rstd, at + offset, FP8, STANDARDISE)
        if THEN == _ADD:
            value = value + old.to(gl.float32)
        if THEN == _GELU:
            value = _gelu_of(value)
            if FP8:
                value = value * gl.load(vectors[2] + at + offset)[None, :]
        tma.store_wait(1)
        _send(value, out_desc, rooms.index(2 * GROUP + i % 2), row, at)


@gluon.jit
def _old(out, row, column, rows, width, layout: gl.constexpr, ROWS: gl.constexpr, C: gl.constexpr):
    """What a piece is added to."""
    line = row + gl.arange(0, ROWS, gl.SliceLayout(1, layout))
    at = column + gl.arange(0, C, gl.SliceLayout(0, layout))
    there = (line >= 0) & (line < rows)
    return gl.load(
        out + line.to(gl.int64)[:, None] * width + at[None, :], mask=there[:, None], other=0.0
    )


@gluon.jit
def _multiply(
    out, out_desc, vectors, turn_columns, ring, rooms, size,
    TILES: gl.constexpr, STANDARDISE: gl.constexpr, THEN: gl.constexpr, GROUP: gl.constexpr,
):  # fmt: skip
    """Multiply this group's rows of every tile, and finish them."""
    a_ring, w_ring, empty = ring[0], ring[1], ring[3]
    rows, down, across, steps = size
    STAGES: gl.constexpr = w_ring.type.shape[0]
    ROWS: gl.constexpr = a_ring.type.shape[1]
    COLUMNS: gl.constexpr = w_ring.type.shape[1]
    WIDTH: gl.constexpr = rooms.type.shape[2]
    DEPTH: gl.constexpr = 256 // a_ring.dtype.primitive_bitwidth
    FP8: gl.constexpr = a_ring.dtype.primitive_bitwidth == 8
    whole: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, DEPTH])
    piece: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, DEPTH])
    line = gl.arange(0, ROWS, gl.SliceLayout(1, piece))
    count = 0
    row, column = -ROWS, 0  # of the tile to finish; none yet
    pairs = _keep(gl.zeros([ROWS, COLUMNS], gl.float32, whole))
    rstd = gl.zeros([ROWS], gl.float32, gl.SliceLayout(1, piece))
    position = gl.zeros([ROWS], gl.int32, gl.SliceLayout(1, piece))
    old = gl.zeros([ROWS, WIDTH], gl.bfloat16, piece)
    for number in range(gl.program_id(0), down * across, gl.num_programs(0)):
        m, n = _tile(number, down, across, TILES)
        sums = gl.zeros([ROWS, COLUMNS], gl.float32, whole)
        parts = _sixteenths(pairs) if THEN == _TURN else _eighths(pairs)
        for i in gl.static_range(_PIECES):
            if THEN == _ADD:
                old = _old(out, row, column + i * WIDTH, rows, across * COLUMNS, piece, ROWS, WIDTH)
            sums = _step(sums, count, i > 0, ring, GROUP)
            count += 1
            if row >= 0:
                _finish(
                    parts, i, old, row, column, rstd, position, vectors, turn_columns,
                    out_desc, rooms, piece, FP8, STANDARDISE, THEN, GROUP,
                )  # fmt: skip
            for _ in range(1, steps // _PIECES):
                sums = _step(sums, count, True, ring, GROUP)
                count += 1
        for _ in range(steps // _PIECES * _PIECES, steps):
            sums = _step(sums, count, True, ring, GROUP)
            count += 1
        row, column = m * (2 * ROWS) + GROUP * ROWS, n * COLUMNS
        if STANDARDISE > 0:
            rstd = gl.load(vectors[3] + row + line, mask=row + line < rows, other=0.0)
        if THEN == _TURN:
            position = gl.load(vectors[6] + row + line, mask=row + line < rows, other=0)
        sums = warpgroup_mma_wait(0, deps=(sums,))
        mbarrier.arrive(empty.index((count + STAGES - 1) % STAGES), count=1)
        pairs = _keep(sums)
    if row >= 0:
        parts = _sixteenths(pairs) if THEN == _TURN else _eighths(pairs)
        for i in gl.static_range(_PIECES):
            if THEN == _ADD:
                old = _old(out, row, column + i * WIDTH, rows, across * COLUMNS, piece, ROWS, WIDTH)
            _finish(
                parts, i, old, row, column, rstd, position, vectors, turn_columns,
                out_desc, rooms, piece, FP8, STANDARDISE, THEN, GROUP,
            )  # fmt: skip
    tma.store_wait(0)


@gluon.jit
def _multiply_upper(
    out, out_desc, vectors, turn_columns, ring, rooms, size,
    TILES: gl.constexpr, STANDARDISE: gl.constexpr, THEN: gl.constexpr,
):  # fmt: skip
    _multiply(out, out_desc, vectors, turn_columns, ring, rooms, size, TILES, STANDARDISE, THEN, 0)


@gluon.jit
def _multiply_lower(
    out, out_desc, vectors, turn_columns, ring, rooms, size,
    TILES: gl.constexpr, STANDARDISE: gl.constexpr, THEN: gl.constexpr,
):  # fmt: skip
    _multiply(out, out_desc, vectors, turn_columns, ring, rooms, size, TILES, STANDARDISE, THEN, 1)


@gluon.jit
def _project(
    a_desc, w_desc, out, out_desc, weight_scale, bias, scale, rstd, cos, sin, positions,
    turn_columns, rows,
    STAGES: gl.constexpr, TILES: gl.constexpr, STANDARDISE: gl.constexpr, THEN: gl.constexpr,
):  # fmt: skip
    ROWS: gl.constexpr = a_desc.block_type.shape[0]
    COLUMNS: gl.constexpr = w_desc.block_type.shape[0]
    BLOCK: gl.constexpr = w_desc.block_type.shape[1]
    WIDTH: gl.constexpr = out_desc.block_type.shape[1]
    ROOMS: gl.constexpr = 4 * COLUMNS // _PIECES // WIDTH
    a_ring = gl.allocate_shared_memory(a_desc.dtype, [2 * STAGES, ROWS, BLOCK], a_desc.layout)
    w_ring = gl.allocate_shared_memory(w_desc.dtype, [STAGES, COLUMNS, BLOCK], w_desc.layout)
    rooms = gl.allocate_shared_memory(out_desc.dtype, [ROOMS, ROWS, WIDTH], out_desc.layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    ring = (a_ring, w_ring, ready, empty)
    size = (
        rows, gl.cdiv(rows, 2 * ROWS), w_desc.shape[0] // COLUMNS, w_desc.shape[1] // BLOCK,
    )  # fmt: skip
    vectors = (weight_scale, bias, scale, rstd, cos, sin, positions)
    gl.warp_specialize(
        [
            (_multiply_upper, (
                out, out_desc, vectors, turn_columns, ring, rooms, size, TILES, STANDARDISE, THEN,
            )),
            (_multiply_lower, (
                out, out_desc, vectors, turn_columns, ring, rooms, size, TILES, STANDARDISE, THEN,
            )),
            (_load, (a_desc, w_desc, ring, size, TILES)),
        ],
        [4, 1],  # warps of the second and third
        [240, 24],  # their registers
    )  # fmt: skip


def fits(dim: int, ffn: int, *, head: int, dtype: torch.dtype) -> bool:
    """Whether ``project`` takes all products of a layer: widths, columns of a head, and dtype."""
    if dtype not in _DTYPES or head != _HEAD.value or dim % _COLUMNS or ffn % _COLUMNS:
        return False
    blocks = [width * dtype.itemsize / _BLOCK_BYTES for width in (dim, ffn)]
    return all(count >= _PIECES.value and count.is_integer() for count in blocks)


def project(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    bias_O: Tensor,
    weight_scale_O: Tensor | None = None,
    rstd_T: Tensor | None = None,
    then: Then,
    turn: Turn | None = None,
    scale_O: Tensor | None = None,
) -> None:
    """See ``plain.project``. Heads that are turned have 64 columns."""
    vectors = [weight_scale_O, bias_O, scale_O, rstd_T]
    vectors += [None, None, None] if turn is None else [*turn.tables, turn.positions]
    programs = torch.cuda.get_device_properties(a_TI.device).multi_processor_count
    width = _COLUMNS // _PIECES.value // (2 if then == "turn" else 1)
    _project[(programs,)](
        _descriptor(a_TI, _ROWS, _BLOCK_BYTES // a_TI.element_size()),
        _descriptor(weight_OI, _COLUMNS, _BLOCK_BYTES // weight_OI.element_size()),
        out_TO,
        _descriptor(out_TO, _ROWS, width),
        # What is not there is not read; its place takes any address.
        *(bias_O if vector is None else vector for vector in vectors),
        0 if turn is None else turn.columns,
        len(a_TI),
        STAGES=_STAGES, TILES=_TILES,
        STANDARDISE=int(rstd_T is not None), THEN=_THEN[then].value,
        num_warps=4, maxnreg=_REGISTERS,
    )  # fmt: skip


def check(device: torch.device, *, fp8: bool) -> None:
    """Compile what ``project`` needs for a precision, and compare it with ``plain.project``.

    Raises
    ------
    RuntimeError
        If numbers differ; and whatever a compiler may raise.
    """
    with torch.inference_mode():
        generator = torch.Generator(device).manual_seed(0)

        def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.randn(shape, generator=generator, device=device).to(dtype)

        rows, width = 2 * _ROWS + 16, 1024
        dtype = torch.float8_e4m3fn if fp8 else torch.bfloat16
        a_TI, weight_OI = random(rows, width, dtype=dtype), random(width, width, dtype=dtype)
        rstd_T, angles = random(rows).abs() / 32, random(rows, _HEAD.value // 2)
        positions = torch.arange(rows, dtype=torch.int32, device=device)
        turn = Turn((angles.cos().half(), angles.sin().half()), positions, width // 2)
        bias_O, weight_scale_O, scale_O = (random(width).abs() + 1 for _ in range(3))
        for then in _THEN:
            quantised = fp8 and then == "gelu"
            old = random(rows, width, dtype=dtype if quantised else torch.bfloat16)
            ours, theirs = old.clone(), old.clone()
            for compute, out_TO in ((project, ours), (plain.project, theirs)):
                compute(
                    a_TI, weight_OI, out_TO, bias_O=bias_O,
                    weight_scale_O=weight_scale_O / 32 if fp8 else None,
                    rstd_T=None if fp8 or then == "add" else rstd_T,
                    then=then, turn=turn if then == "turn" else None,
                    scale_O=scale_O if quantised else None,
                )  # fmt: skip
            off = float((ours.float() - theirs.float()).norm() / theirs.float().norm())
            if not off < (0.03 if quantised else 0.004):
                raise RuntimeError(f"a product with {then} is off by {off:.2g} of its length")


def _descriptor(matrix: Tensor, rows: int, columns: int) -> TensorDescriptor:
    return TensorDescriptor.from_tensor(
        matrix, [rows, columns], _layout(rows, columns, matrix.dtype)
    )


@cache
def _layout(rows: int, columns: int, dtype: torch.dtype) -> gl.NVMMASharedLayout:
    return gl.NVMMASharedLayout.get_default_for([rows, columns], _DTYPES[dtype])
