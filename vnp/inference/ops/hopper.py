"""Matrix products that finish their own work, for Hopper: no pass over memory after them.

What follows a projection is bias and GELU, or the rotary embedding of queries and keys, or what
ESM-C has in their place (``hopper_epilogue``); before it comes a norm, of which one factor a row is
left.
Written in Gluon, Triton's lower level. A program is three groups of warps that live as long as the
kernel. One loads blocks of both inputs into a ring in shared memory. The other two multiply, each
for 64 rows of a tile of 128 x 256, and finish the last tile in pieces while the tensor cores work
on the next: sums are kept as bfloat16, as a product of cuBLAS would have written them, and an
eighth is finished every eighth of the way. So the numbers are those of a product and a pass after
it, and each output depends on its own row and on weights alone.

Shapes: T rows (tokens), I inputs, O outputs.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from vnp.inference.batch_layout import Rotary
from vnp.inference.ops import torch as plain
from vnp.inference.ops.hopper_attention import QUERY_FACTOR, attend
from vnp.inference.ops.hopper_epilogue import (
    ADDED,
    BY_BOTH,
    BY_COLUMN,
    GEGLU,
    GELU,
    HEAD,
    HEADS,
    NORMED,
    PARTLY,
    PIECES,
    PLAIN,
    ROTARY,
    STANDARDISED,
    SWIGLU,
    angles_of,
    copy_in,
    eighths,
    finish,
    keep,
    keep_vectors,
    sixteenths,
    take_vectors,
)

__all__ = ["QUERY_FACTOR", "adds", "attend", "fits", "multiply", "project"]

adds = True  # ``multiply`` to what is there, if asked to

_ROWS = 64  # of a group that multiplies: two groups share a tile's columns
_COLUMNS = 256
_BLOCK_BYTES = 128  # of inputs in a block: 64 of bfloat16, 128 of fp8 and int8
_STAGES = 4  # blocks in the ring; with them shared memory is full
_TILES = 12  # down a column of tiles before the next column, so that blocks are found in the cache
_REGISTERS = 168  # of a thread on average: 240 where it multiplies, 24 where it loads

_DTYPES = {
    torch.bfloat16: gl.bfloat16,
    torch.float8_e4m3fn: gl.float8e4nv,
    torch.int8: gl.int8,
}


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
            copy_in(a_desc, [row, at], bar, a_ring.index(2 * stage))
            copy_in(w_desc, [n * COLUMNS, at], bar, w_ring.index(stage))
            copy_in(a_desc, [row + ROWS, at], bar, a_ring.index(2 * stage + 1))
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
def _multiply(
    out_desc, vectors, rotary_columns, ring, shared, rooms, size,
    TILES: gl.constexpr, HOW: gl.constexpr, MODE: gl.constexpr, GROUP: gl.constexpr,
):  # fmt: skip
    """Multiply this group's rows of every tile, and finish them."""
    a_ring, w_ring, empty = ring[0], ring[1], ring[3]
    rows, down, across, steps, columns = size
    limits = rows, rotary_columns
    rstds, tables, positions = vectors[3], (vectors[4], vectors[5]), vectors[6]
    STAGES: gl.constexpr = w_ring.type.shape[0]
    ROWS: gl.constexpr = a_ring.type.shape[1]
    COLUMNS: gl.constexpr = w_ring.type.shape[1]
    WIDTH: gl.constexpr = rooms.type.shape[2]
    DEPTH: gl.constexpr = 256 // a_ring.dtype.primitive_bitwidth
    INT8: gl.constexpr = a_ring.dtype == gl.int8
    SUM: gl.constexpr = gl.int32 if INT8 else gl.float32
    # The compiler has no instruction for 256 columns of integers.
    AT_ONCE: gl.constexpr = COLUMNS // 2 if INT8 else COLUMNS
    whole: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, AT_ONCE, DEPTH])
    piece: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, DEPTH])
    line = gl.arange(0, ROWS, gl.SliceLayout(1, piece))
    count = 0
    row, column = -1, 0  # of the tile to finish; none yet
    pairs = keep(gl.zeros([ROWS, COLUMNS], SUM, whole))
    rstd = gl.zeros([ROWS], gl.float32, gl.SliceLayout(1, piece))
    position = gl.zeros([ROWS], gl.int32, gl.SliceLayout(1, piece))
    for number in range(gl.program_id(0), down * across, gl.num_programs(0)):
        m, n = _tile(number, down, across, TILES)
        sums = gl.zeros([ROWS, COLUMNS], SUM, whole)
        parts = sixteenths(pairs) if MODE > GELU else eighths(pairs)
        angles = tables
        for i in gl.static_range(PIECES):
            if MODE >= ROTARY and i % HEADS == 0:  # the same for all heads of the tile
                there = column < rotary_columns
                angles = angles_of(tables, position, i // HEADS, there, piece, WIDTH)
            sums = _step(sums, count, i > 0, ring, GROUP)
            count += 1
            if row >= 0:
                finish(
                    parts, i, row, column, rstd, angles, vectors, shared, out_desc, rooms, limits,
                    piece, HOW, MODE, GROUP,
                )  # fmt: skip
            for _ in range(1, steps // PIECES):
                sums = _step(sums, count, True, ring, GROUP)
                count += 1
        for _ in range(steps // PIECES * PIECES, steps):
            sums = _step(sums, count, True, ring, GROUP)
            count += 1
        row, column = m * (2 * ROWS) + GROUP * ROWS, n * COLUMNS
        if HOW != BY_COLUMN:
            rstd = gl.load(rstds + row + line, mask=row + line < rows, other=0.0)
        if MODE >= ROTARY:
            position = gl.load(positions + row + line, mask=row + line < rows, other=0)
        taken = take_vectors(vectors, column, columns, COLUMNS, MODE)
        sums = warpgroup_mma_wait(0, deps=(sums,))
        mbarrier.arrive(empty.index((count + STAGES - 1) % STAGES), count=1)
        pairs = keep(sums)
        keep_vectors(taken, shared, GROUP)
    if row >= 0:
        parts = sixteenths(pairs) if MODE > GELU else eighths(pairs)
        angles = tables
        for i in gl.static_range(PIECES):
            if MODE >= ROTARY and i % HEADS == 0:
                there = column < rotary_columns
                angles = angles_of(tables, position, i // HEADS, there, piece, WIDTH)
            finish(
                parts, i, row, column, rstd, angles, vectors, shared, out_desc, rooms, limits,
                piece, HOW, MODE, GROUP,
            )  # fmt: skip
    tma.store_wait(0)


@gluon.jit
def _multiply_upper(
    out_desc, vectors, rotary_columns, ring, shared, rooms, size,
    TILES: gl.constexpr, HOW: gl.constexpr, MODE: gl.constexpr,
):  # fmt: skip
    _multiply(out_desc, vectors, rotary_columns, ring, shared, rooms, size, TILES, HOW, MODE, 0)


@gluon.jit
def _multiply_lower(
    out_desc, vectors, rotary_columns, ring, shared, rooms, size,
    TILES: gl.constexpr, HOW: gl.constexpr, MODE: gl.constexpr,
):  # fmt: skip
    _multiply(out_desc, vectors, rotary_columns, ring, shared, rooms, size, TILES, HOW, MODE, 1)


@gluon.jit
def _project(
    a_desc, w_desc, out_desc, lead, bias, scale, rstd, cos, sin, positions, weight, squares,
    rotary_columns, rows,
    STAGES: gl.constexpr, TILES: gl.constexpr, HOW: gl.constexpr, MODE: gl.constexpr,
):  # fmt: skip
    ROWS: gl.constexpr = a_desc.block_type.shape[0]
    COLUMNS: gl.constexpr = w_desc.block_type.shape[0]
    BLOCK: gl.constexpr = w_desc.block_type.shape[1]
    WIDTH: gl.constexpr = out_desc.block_type.shape[1]
    ROOMS: gl.constexpr = 4 * COLUMNS // PIECES // WIDTH
    a_ring = gl.allocate_shared_memory(a_desc.dtype, [2 * STAGES, ROWS, BLOCK], a_desc.layout)
    w_ring = gl.allocate_shared_memory(w_desc.dtype, [STAGES, COLUMNS, BLOCK], w_desc.layout)
    rooms = gl.allocate_shared_memory(out_desc.dtype, [ROOMS, ROWS, WIDTH], out_desc.layout)
    shared = gl.allocate_shared_memory(
        gl.float32, [6, COLUMNS], gl.SwizzledSharedLayout(1, 1, 1, [0])
    )
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    ring = (a_ring, w_ring, ready, empty)
    columns = w_desc.shape[0]
    size = (
        rows, gl.cdiv(rows, 2 * ROWS), gl.cdiv(columns, COLUMNS), w_desc.shape[1] // BLOCK, columns,
    )  # fmt: skip
    vectors = (lead, bias, scale, rstd, cos, sin, positions, weight, squares)
    gl.warp_specialize(
        [
            (_multiply_upper, (
                out_desc, vectors, rotary_columns, ring, shared, rooms, size, TILES, HOW, MODE,
            )),
            (_multiply_lower, (
                out_desc, vectors, rotary_columns, ring, shared, rooms, size, TILES, HOW, MODE,
            )),
            (_load, (a_desc, w_desc, ring, size, TILES)),
        ],
        [4, 1],  # warps of the second and third
        [240, 24],  # their registers
    )  # fmt: skip


def fits(
    dim: int, ffn: int, *, head: int, dtype: torch.dtype, activation: plain.Activation = "gelu"
) -> bool:
    """Whether there are kernels for a model: its widths, columns of a head, and dtype."""
    blocks, rest = divmod(dim * dtype.itemsize, _BLOCK_BYTES)
    if activation == "gelu":
        fit = dtype in _DTYPES and not (dim % _COLUMNS or ffn % _COLUMNS)
    else:
        fit = dtype == torch.bfloat16 and not 2 * ffn % _COLUMNS
    return fit and not rest and blocks >= PIECES.value and head == HEAD.value


def project(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    bias_O: Tensor | None = None,
    weight_scale_O: Tensor | None = None,
    row_scale_T: Tensor | None = None,
    standard: tuple[Tensor, Tensor | None] | None = None,
    rotary: Rotary | None = None,
    scale_O: Tensor | None = None,
    activation: plain.Activation = "gelu",
    norm: tuple[Tensor, Tensor] | None = None,
) -> None:
    """See ``plain.project``: quantised with ``weight_scale_O``, in bfloat16 with ``standard``.

    Without ``norm`` columns with rotary embedding, from the left, make up whole tiles of 256; with
    it, and before a gated activation, there is no ``lead``.
    """
    mode = {"gelu": GELU, "geglu": GEGLU, "swiglu": SWIGLU}[activation]
    if rotary is not None:
        normed = PARTLY if rotary.columns % _COLUMNS else NORMED
        mode = ROTARY if norm is None else normed
        assert mode is not ROTARY or rotary.columns % _COLUMNS == 0
    rstd_T, lead_O = standard or (row_scale_T, weight_scale_O)
    assert mode in (GELU, ROTARY) or lead_O is None
    vectors = [lead_O, bias_O, scale_O, rstd_T]
    vectors += [None, None, None] if rotary is None else [*rotary.tables, rotary.positions]
    vectors += [None, None] if norm is None else norm
    how = STANDARDISED
    if weight_scale_O is not None or mode is GEGLU:  # no 1 / deviation of rows
        how = BY_COLUMN if row_scale_T is None else BY_BOTH
    _launch(
        a_TI, weight_OI, out_TO, vectors, mode=mode, how=how,
        columns=0 if rotary is None else rotary.columns,
    )  # fmt: skip


def multiply(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    weight_scale_O: Tensor,
    row_scale_T: Tensor | None = None,
    add: bool = False,
) -> None:
    """See ``plain.multiply``."""
    _launch(
        a_TI, weight_OI, out_TO, [weight_scale_O, None, None, row_scale_T, *(5 * [None])],
        mode=ADDED if add else PLAIN, how=BY_COLUMN if row_scale_T is None else BY_BOTH, columns=0,
    )  # fmt: skip


def _launch(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    vectors: list[Tensor | None],
    *,
    mode: gl.constexpr,
    how: gl.constexpr,
    columns: int,
) -> None:
    programs = torch.cuda.get_device_properties(a_TI.device).multi_processor_count
    present = next((vector for vector in vectors if vector is not None), out_TO)
    width = _COLUMNS // PIECES.value // (1 if mode.value <= GELU.value else 2)
    _project[(programs,)](
        _descriptor(a_TI, _ROWS, _BLOCK_BYTES // a_TI.element_size()),
        _descriptor(weight_OI, _COLUMNS, _BLOCK_BYTES // weight_OI.element_size()),
        _descriptor(out_TO, _ROWS, width),
        # What is not there is not read; its place takes any address.
        *(present if vector is None else vector for vector in vectors),
        columns,
        len(a_TI),
        STAGES=_STAGES, TILES=_TILES, HOW=how.value, MODE=mode.value,
        num_warps=4, maxnreg=_REGISTERS,
    )  # fmt: skip


def _descriptor(matrix: Tensor, rows: int, columns: int) -> TensorDescriptor:
    return TensorDescriptor.from_tensor(
        matrix, [rows, columns], _layout(rows, columns, matrix.dtype)
    )


@cache
def _layout(rows: int, columns: int, dtype: torch.dtype) -> gl.NVMMASharedLayout:
    return gl.NVMMASharedLayout.get_default_for([rows, columns], _DTYPES[dtype])
