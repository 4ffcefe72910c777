"""Layer norms as Triton kernels: of the residual stream, and of queries and keys.

A row is read once, by one warp where that has registers for it: threads of a warp add up without
barriers, and no lane is idle where powers of two divide the width.

Shapes: T rows (tokens), D hidden width, E = 3 * D, S parts of heads.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from vnp.inference.batch_layout import Rotary

_MOST_OF_A_WARP = 2560  # numbers of a row that are normed by one warp: 80 a thread


@triton.jit
def read_row(
    x, delta, shift, at, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
    HAS_DELTA: tl.constexpr, HAS_SHIFT: tl.constexpr,
):  # fmt: skip
    """A row less its mean, in parts side by side, and its variance."""
    EVEN: tl.constexpr = BLOCK * PARTS == WIDTH
    row = ()
    total = tl.zeros((BLOCK,), tl.float32)
    for part in tl.static_range(PARTS):
        column = part * BLOCK + tl.arange(0, BLOCK)
        inside = EVEN | (column < WIDTH)
        value = tl.load(x + at + column, inside, 0.0).to(tl.float32)
        if HAS_DELTA:
            value += tl.load(delta + at + column, inside, 0.0).to(tl.float32)
            rounded = value.to(x.dtype.element_ty)
            tl.store(x + at + column, rounded, inside)
            value = rounded.to(tl.float32)
        if HAS_SHIFT:
            value += tl.load(shift + column, inside, 0.0)
        total += value
        row = row + (value,)  # type: ignore[assignment]  # noqa: RUF005
    mean = tl.sum(total, axis=0) / WIDTH
    centred = ()
    squares = tl.zeros((BLOCK,), tl.float32)
    for part in tl.static_range(PARTS):
        inside = EVEN | (part * BLOCK + tl.arange(0, BLOCK) < WIDTH)
        value = tl.where(inside, row[part] - mean, 0.0)
        squares += value * value
        centred = centred + (value,)  # type: ignore[assignment]  # noqa: RUF005
    return centred, tl.sum(squares, axis=0) / WIDTH


@triton.jit
def _norm(
    x, delta, shift, weight, bias, out, eps, scale,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
    HAS_DELTA: tl.constexpr, HAS_SHIFT: tl.constexpr, AFFINE: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * WIDTH
    row, variance = read_row(x, delta, shift, at, WIDTH, BLOCK, PARTS, HAS_DELTA, HAS_SHIFT)
    rstd = tl.rsqrt(variance + eps)
    for part in tl.static_range(PARTS):
        column = part * BLOCK + tl.arange(0, BLOCK)
        inside = (BLOCK * PARTS == WIDTH) | (column < WIDTH)
        value = row[part] * rstd
        if AFFINE:
            value *= tl.load(weight + column, inside, 0.0)
            value += tl.load(bias + column, inside, 0.0)
        tl.store(out + at + column, (value * scale).to(out.dtype.element_ty), inside)


@triton.jit
def _rstd(
    x, shift, out, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * WIDTH
    _, variance = read_row(x, x, shift, at, WIDTH, BLOCK, PARTS, False, True)
    tl.store(out + tl.program_id(0), tl.rsqrt(variance + eps))


@triton.jit
def _qk_norm(
    qkv, weight, cos, sin, positions, eps, D: tl.constexpr, WIDTH: tl.constexpr,
    HALF: tl.constexpr, BLOCK_HALF: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1) * D
    head = tl.arange(0, HEADS)
    half = tl.arange(0, BLOCK_HALF)
    column = head[:, None] * (2 * HALF) + half[None, :]
    there = (head * (2 * HALF) < D)[:, None] & (half < HALF)[None, :]
    at = qkv + row * WIDTH + part + column
    low = tl.load(at, mask=there, other=0.0).to(tl.float32)
    high = tl.load(at + HALF, mask=there, other=0.0).to(tl.float32)
    squares = tl.sum(tl.sum(low * low + high * high, axis=1), axis=0)
    factor = tl.rsqrt(squares / D + eps)
    low *= factor * tl.load(weight + part + column, mask=there, other=0.0)
    high *= factor * tl.load(weight + part + column + HALF, mask=there, other=0.0)
    angle = tl.load(positions + row) * HALF + half
    c = tl.load(cos + angle, mask=half < HALF, other=0.0).to(tl.float32)[None, :]
    s = tl.load(sin + angle, mask=half < HALF, other=0.0).to(tl.float32)[None, :]
    tl.store(at, (low * c - high * s).to(qkv.dtype.element_ty), mask=there)
    tl.store(at + HALF, (high * c + low * s).to(qkv.dtype.element_ty), mask=there)


@triton.jit
def _qk_rstd(
    squares, out, rows, eps, D: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < rows
    total = tl.zeros((BLOCK,), tl.float32)
    squares += tl.program_id(1) * PARTS * rows
    for part in tl.static_range(PARTS):
        total += tl.load(squares + part * rows + row, mask=there, other=0.0)
    tl.store(out + tl.program_id(1) * rows + row, tl.rsqrt(total / D + eps), mask=there)


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
        x_TD, delta_TD, shift_D, weight, bias, out_TD, eps, scale, **parts_of(width),
        HAS_DELTA=delta_TD is not None, HAS_SHIFT=shift_D is not None, AFFINE=affine is not None,
    )  # fmt: skip


def rstd(x_TD: Tensor, out_T: Tensor, *, eps: float, shift_D: Tensor) -> None:
    """See ``plain.rstd``."""
    rows, width = x_TD.shape
    _rstd[(rows,)](x_TD, shift_D, out_T, eps, **parts_of(width))


def qk_norm(qkv_TE: Tensor, how: Rotary, *, weight_2D: Tensor, eps: float) -> None:
    """See ``plain.qk_norm``."""
    rows, width = qkv_TE.shape
    half = how.tables[0].shape[1]
    dim = how.columns // 2
    _qk_norm[(rows, 2)](
        qkv_TE, weight_2D, *how.tables, how.positions, eps,
        D=dim, WIDTH=width, HALF=half, BLOCK_HALF=triton.next_power_of_2(half),
        HEADS=triton.next_power_of_2(dim // (2 * half)), num_warps=4,
    )  # fmt: skip


def qk_rstd(squares_ST: Tensor, out_2T: Tensor, *, eps: float, dim: int) -> None:
    """See ``plain.qk_rstd``."""
    parts, rows = squares_ST.shape
    _qk_rstd[(triton.cdiv(rows, 128), 2)](
        squares_ST, out_2T, rows, eps, D=dim, PARTS=parts // 2, BLOCK=128, num_warps=4
    )


def parts_of(width: int) -> dict[str, int]:
    """How a row is cut for one warp, which needs no barriers; one that is too long takes four.

    Into powers of two with nothing left over, where they are long enough to be read fast.
    """
    block = min(512, width & -width)
    if block < 128:
        block = triton.next_power_of_2(width)
    warps = 1 if width <= _MOST_OF_A_WARP else 4
    return {"WIDTH": width, "BLOCK": block, "PARTS": triton.cdiv(width, block), "num_warps": warps}
