"""The engine's operations on int8 as Triton kernels: quantised rows, and products of integers.

The products are for devices that ``hopper`` is not written for, from compute capability 8.0 on. A
sum of products of integers is exact in any order, so tiles may be as suits a device.

Shapes: T rows (tokens), D hidden width, I inputs, O outputs.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from vnp.inference.ops.triton_norm import parts_of, read_row


@triton.jit
def integer_of(x):
    """The lowest byte of a number of at most 2^22, rounded to the next integer (halves to even)."""
    return ((x + 12582912.0).to(tl.int32, bitcast=True) & 255).to(tl.int8)


@triton.jit
def _norm_rows(
    x, delta, shift, factor, out, scale, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr, HAS_DELTA: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * WIDTH
    row, variance = read_row(x, delta, shift, at, WIDTH, BLOCK, PARTS, HAS_DELTA, True)
    rstd = tl.rsqrt(variance + eps)
    values = ()
    largest = tl.zeros((BLOCK,), tl.float32)
    for part in tl.static_range(PARTS):
        column = part * BLOCK + tl.arange(0, BLOCK)
        inside = (BLOCK * PARTS == WIDTH) | (column < WIDTH)
        value = row[part] * rstd * tl.load(factor + column, inside, 0.0)
        largest = tl.maximum(largest, tl.abs(value))
        values = values + (value,)  # type: ignore[assignment]  # noqa: RUF005
    most = tl.maximum(tl.max(largest, axis=0), 1e-30)
    for part in tl.static_range(PARTS):
        column = part * BLOCK + tl.arange(0, BLOCK)
        inside = (BLOCK * PARTS == WIDTH) | (column < WIDTH)
        tl.store(out + at + column, integer_of(values[part] * (127.0 / most)), inside)
    tl.store(scale + tl.program_id(0), most / 127.0)


@triton.jit
def _quantise_rows(x, out, scale, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    at = tl.program_id(0).to(tl.int64) * WIDTH + column
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    most = tl.maximum(tl.max(tl.abs(value), axis=0), 1e-30)
    tl.store(out + at, integer_of(value * (127.0 / most)), mask=inside)
    tl.store(scale + tl.program_id(0), most / 127.0)


@triton.jit
def _multiply(
    a, weight, out, weight_scale, row_scale, rows, columns,
    INNER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
    TILES: tl.constexpr, BY_ROW: tl.constexpr,
):  # fmt: skip
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    number = tl.program_id(0)
    first = number // (TILES * across) * TILES
    height = tl.minimum(down - first, TILES)
    within = number % (TILES * across)
    row = (first + within % height) * ROWS + tl.arange(0, ROWS)
    column = within // height * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, BLOCK)
    left = a + (row % rows).to(tl.int64)[:, None] * INNER + inner[None, :]
    right = weight + (column % columns)[None, :] * INNER + inner[:, None]
    sums = tl.zeros((ROWS, COLUMNS), tl.int32)
    for _ in range(0, INNER, BLOCK):
        sums = tl.dot(tl.load(left), tl.load(right), acc=sums, out_dtype=tl.int32)
        left += BLOCK
        right += BLOCK
    # Rounded as a product that is written, then multiplied: as everywhere.
    value = sums.to(tl.float32).to(tl.bfloat16).to(tl.float32)
    value *= tl.load(weight_scale + column % columns)[None, :]
    if BY_ROW:
        value *= tl.load(row_scale + row % rows)[:, None]
    at = row.to(tl.int64)[:, None] * columns + column[None, :]
    there = (row < rows)[:, None] & (column < columns)[None, :]
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)


def norm_rows(
    x_TD: Tensor,
    out_TD: Tensor,
    scale_T: Tensor,
    *,
    eps: float,
    delta_TD: Tensor | None,
    shift_D: Tensor,
    factor_D: Tensor,
) -> None:
    """See ``plain.norm_rows``."""
    rows, width = x_TD.shape
    _norm_rows[(rows,)](
        x_TD, delta_TD, shift_D, factor_D, out_TD, scale_T, eps, **parts_of(width),
        HAS_DELTA=delta_TD is not None,
    )  # fmt: skip


def quantise_rows(x_TD: Tensor, out_TD: Tensor, scale_T: Tensor) -> None:
    """See ``plain.quantise_rows``."""
    rows, width = x_TD.shape
    _quantise_rows[(rows,)](
        x_TD, out_TD, scale_T, WIDTH=width, BLOCK=triton.next_power_of_2(width), num_warps=4
    )


def multiply(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    weight_scale_O: Tensor,
    row_scale_T: Tensor | None = None,
) -> None:
    """See ``plain.multiply``."""
    (rows, inner), columns = a_TI.shape, len(weight_OI)
    block = min(128, inner & -inner)
    _multiply[(triton.cdiv(rows, 128) * triton.cdiv(columns, 128),)](
        a_TI, weight_OI, out_TO, weight_scale_O, row_scale_T, rows, columns,
        INNER=inner, ROWS=128, COLUMNS=128, BLOCK=block, TILES=12,
        BY_ROW=row_scale_T is not None, num_warps=4, num_stages=4 if block < 128 else 3,
    )  # fmt: skip
