"""What follows a matrix product on Hopper, done by the product's own program (see ``hopper``).

The sums of a tile are kept as bfloat16, as a product of cuBLAS would have written them. An eighth
of a tile is finished at a time: bias and GELU, values times GELU or SiLU of their gates, or the
rotary embedding of queries and keys, which ESM-C norms as well.

In int8 the sums are exact. They are multiplied by a scale of the row and one of the column (for an
input of fixed range by that of the column alone), and GELU writes 256 steps of a range of its own.

A norm over all heads of a token does not fit in a tile. So the product writes queries and keys
that lack its last factor, 1 / deviation, with the sums of squares that it follows from; attention
multiplies scores by it.

Shapes: T rows (tokens), O outputs, S parts of heads that squares are summed over.
"""

from __future__ import annotations

from triton._C.libtriton import ir
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language._core import builtin
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, tma

from vnp.inference.ops.triton import gelu_of, signed_share

PIECES = gl.constexpr(8)  # that a tile is finished in
HEAD = gl.constexpr(64)  # columns of a head
HEADS = gl.constexpr(4)  # of a tile
# What follows a product; ADDED is one that memory adds to what is there. From ROTARY on columns
# rotate; from NORMED on they are normed as well, and PARTLY is for rotated columns that do not make
# up whole tiles.
ADDED, PLAIN, GELU, GEGLU, SWIGLU, ROTARY, NORMED, PARTLY = (gl.constexpr(m) for m in range(8))
# How a product becomes that of a standardised row: a raw stream's by what is left of the norm,
# a quantised one's by scales of columns, or of columns and rows.
STANDARDISED, BY_COLUMN, BY_BOTH = (gl.constexpr(how) for how in range(3))

_gelu_of, _signed_share = gluon.jit(gelu_of.fn), gluon.jit(signed_share.fn)
# Renamed between versions of Triton.
copy_in = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
_copy_out = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global


@builtin
def _add(tensor_desc, coord, src, _semantic=None):
    """Memory adds each number to its own: of Triton 3.6, whose Gluon has no name for it."""
    coord = _semantic._convert_to_ir_values(coord, require_i64=False)
    add = ir.DESCRIPTOR_REDUCE_KIND.ADD
    _semantic.builder.create_async_tma_reduce(add, tensor_desc.handle, coord, src.handle)


_add_out = getattr(tma, "async_atomic_add", None) or _add


@gluon.jit
def keep(sums):
    """Sums as bfloat16, two in an integer; those of integers are rounded once more before.

    The conversion is one that the compiler does not move: past the start of the next tile it would
    hold the tensor cores up.
    """
    even, odd = sums.reshape([sums.shape[0], sums.shape[1] // 2, 2]).split()
    even, odd = even.to(gl.float32), odd.to(gl.float32)
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
def eighths(x):
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
def sixteenths(x):
    """Sixteen pieces, from left to right."""
    p0, p1, p2, p3, p4, p5, p6, p7 = eighths(x)
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
def take_vectors(vectors, column, columns, COLUMNS: gl.constexpr, MODE: gl.constexpr):
    """What the columns of a tile are finished with: lead, bias, and a scale or weight."""
    layout: gl.constexpr = gl.BlockedLayout([COLUMNS // 128], [32], [4], [0])
    lead = gl.zeros([COLUMNS], gl.float32, layout)
    bias, third = lead, lead
    if MODE != GEGLU:  # which has none
        at = column + gl.arange(0, COLUMNS, layout)
        there = at < columns  # past the last column nothing is written
        lead = gl.load(vectors[0] + at, mask=there, other=0.0)
        bias = gl.load(vectors[1] + at, mask=there, other=0.0)
        third = vectors[7 if MODE >= NORMED else 2] + at
        third = gl.load(third, mask=there, other=0.0)
    return lead, bias, third


@gluon.jit
def keep_vectors(taken, shared, GROUP: gl.constexpr):
    """Put them where every thread of a group finds them."""
    for k in gl.static_range(3):
        shared.index(3 * GROUP + k).store(taken[k])


@gluon.jit
def _vector(
    shared, k: gl.constexpr, first: gl.constexpr, WIDTH: gl.constexpr, GROUP: gl.constexpr,
    layout: gl.constexpr,
):  # fmt: skip
    """Some columns of one of them."""
    part = shared.index(3 * GROUP + k).slice(first, WIDTH)
    return part.load(gl.SliceLayout(0, layout))


@gluon.jit
def _linear(
    value, shared, rstd, first: gl.constexpr, layout: gl.constexpr,
    HOW: gl.constexpr, MODE: gl.constexpr, GROUP: gl.constexpr,
):  # fmt: skip
    """Columns of a product, as they would be had its input been standardised, with their bias."""
    WIDTH: gl.constexpr = value.shape[1]
    if MODE == GEGLU:  # its model shifts and scales nothing
        return value
    if HOW != STANDARDISED:  # of quantised weights lead is the scale
        value = value * _vector(shared, 0, first, WIDTH, GROUP, layout)[None, :]
        if HOW == BY_BOTH:
            value = value * rstd[:, None]
        if MODE <= PLAIN:
            return value
    elif MODE == GELU or MODE == ROTARY:  # noqa: SIM109  the language has no tuples of modes
        value = (value + _vector(shared, 0, first, WIDTH, GROUP, layout)[None, :]) * rstd[:, None]
    else:  # of models that shift nothing
        value = value * rstd[:, None]
    return value + _vector(shared, 1, first, WIDTH, GROUP, layout)[None, :]


@gluon.jit
def _steps(x, per_step):
    """GELU in 256 steps from its least value up, as -128 to 127; nothing is beyond.

    A number plus 2^23 + 128 has its rounded value, plus 128, in the lowest bits.
    """
    share = per_step * 0.00392156862745098  # of the range
    half, x = gl.broadcast((share * 0.5)[None, :], x)
    least, x = gl.broadcast((share * 0.17)[None, :], x)
    half = half * x
    return gl.inline_asm_elementwise(
        """
        {
        .reg .f32 s<4>;
        .reg .b32 low, high;
        fma.rn.sat.f32 s0, $1, $5, $9;
        fma.rn.sat.f32 s1, $2, $6, $10;
        fma.rn.sat.f32 s2, $3, $7, $11;
        fma.rn.sat.f32 s3, $4, $8, $12;
        fma.rn.f32 s0, s0, 0f437F0000, 0f4B000080;
        fma.rn.f32 s1, s1, 0f437F0000, 0f4B000080;
        fma.rn.f32 s2, s2, 0f437F0000, 0f4B000080;
        fma.rn.f32 s3, s3, 0f437F0000, 0f4B000080;
        prmt.b32 low, s0, s1, 0x0040;
        prmt.b32 high, s2, s3, 0x0040;
        prmt.b32 $0, low, high, 0x5410;
        }
        """,
        "=r,f,f,f,f,f,f,f,f,f,f,f,f", [half, _signed_share(x), half + least],
        dtype=gl.int8, is_pure=True, pack=4,
    )  # fmt: skip


@gluon.jit
def angles_of(tables, position, quarter, there, layout: gl.constexpr, WIDTH: gl.constexpr):
    """Cosines and sines for some columns of a head, at the positions of some rows."""
    half: gl.constexpr = HEAD // 2
    column = quarter * WIDTH + gl.arange(0, WIDTH, gl.SliceLayout(0, layout))
    at = position[:, None] * half + column[None, :]
    cos = gl.load(tables[0] + at, mask=there, other=1.0)
    return cos, gl.load(tables[1] + at, mask=there, other=0.0)


@gluon.jit
def finish(
    parts, i: gl.constexpr, row, column, rstd, angles, vectors, shared, out_desc, rooms, limits,
    layout: gl.constexpr, HOW: gl.constexpr, MODE: gl.constexpr, GROUP: gl.constexpr,
):  # fmt: skip
    """Finish an eighth of a tile and send it on its way to memory."""
    rows, rotary_columns = limits
    WIDTH: gl.constexpr = rooms.type.shape[2]
    if MODE >= ROTARY:  # columns of the first half of a head, and their partners in the second
        half: gl.constexpr = HEAD // 2
        partner: gl.constexpr = half // WIDTH
        first: gl.constexpr = i % HEADS * 2 * partner + i // HEADS
        at = column + first * WIDTH
        low, high = _kept(parts[first], layout), _kept(parts[first + partner], layout)
        cos, sin = angles[0].to(gl.float32), angles[1].to(gl.float32)
        low = _linear(low, shared, rstd, first * WIDTH, layout, HOW, MODE, GROUP)
        high = _linear(high, shared, rstd, first * WIDTH + half, layout, HOW, MODE, GROUP)
        if MODE >= NORMED:
            if at < rotary_columns:
                line = row + gl.arange(0, low.shape[0], gl.SliceLayout(1, layout))
                part = (at // HEAD * (half // WIDTH) + i // HEADS) * rows
                gl.store(
                    vectors[8] + part + line, gl.sum(low * low + high * high, axis=1), line < rows
                )
            low *= _vector(shared, 2, first * WIDTH, WIDTH, GROUP, layout)[None, :]
            high *= _vector(shared, 2, first * WIDTH + half, WIDTH, GROUP, layout)[None, :]
            if MODE == PARTLY:
                cos = gl.where(at < rotary_columns, cos, 1.0)
                sin = gl.where(at < rotary_columns, sin, 0.0)
        tma.store_wait(2)  # the piece before last has left its rooms
        pair: gl.constexpr = 4 * GROUP + i % 2 * 2  # of rooms
        rooms.index(pair).store((low * cos - high * sin).to(rooms.dtype))
        rooms.index(pair + 1).store((high * cos + low * sin).to(rooms.dtype))
        fence_async_shared()
        _copy_out(out_desc, [row, at], rooms.index(pair))
        _copy_out(out_desc, [row, at + half], rooms.index(pair + 1))
    elif MODE < ROTARY and MODE > GELU:  # gates in a tile's first half, in the second their values
        start: gl.constexpr = i * WIDTH
        gate = _kept(parts[i], layout)
        gate = _linear(gate, shared, rstd, start, layout, HOW, MODE, GROUP)
        value = _kept(parts[i + PIECES], layout)
        value = _linear(value, shared, rstd, start + PIECES * WIDTH, layout, HOW, MODE, GROUP)
        if MODE == GEGLU:
            gate = _gelu_of(gate)
        else:
            whole = 1.0 + gl.exp2(gate * -1.4426950408889634)
            gate *= gl.inline_asm_elementwise(
                "rcp.approx.ftz.f32 $0, $1;", "=f,f", [whole], dtype=gl.float32, is_pure=True,
                pack=1,
            )  # fmt: skip
        tma.store_wait(1)
        place: gl.constexpr = 2 * GROUP + i % 2
        rooms.index(place).store((gate * value).to(rooms.dtype))
        fence_async_shared()
        _copy_out(out_desc, [row, column // 2 + i * WIDTH], rooms.index(place))
    else:
        left: gl.constexpr = i * WIDTH
        at = column + left
        value = _kept(parts[i], layout)
        value = _linear(value, shared, rstd, left, layout, HOW, MODE, GROUP)
        if rooms.dtype == gl.int8:
            quantised = _steps(value, _vector(shared, 2, left, WIDTH, GROUP, layout))
        else:
            if MODE == GELU and rooms.dtype == gl.float8e4nv:
                half = 0.5 * value
                value = half * _signed_share(value) + half
            elif MODE == GELU:
                value = _gelu_of(value)
            if rooms.dtype == gl.float8e4nv:
                value *= _vector(shared, 2, left, WIDTH, GROUP, layout)[None, :]
            quantised = value.to(rooms.dtype)
        tma.store_wait(1)
        room: gl.constexpr = 2 * GROUP + i % 2
        rooms.index(room).store(quantised)
        fence_async_shared()
        if MODE == ADDED:
            _add_out(out_desc, [row, at], rooms.index(room))
        else:
            _copy_out(out_desc, [row, at], rooms.index(room))
