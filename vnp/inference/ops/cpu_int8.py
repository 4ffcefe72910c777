"""The engine's operations on int8 on a CPU: VNNI's products by oneDNN, and compiled passes.

As ``vnp.inference.ops.torch_int8``, and the products of ``hopper`` that do what follows them.
oneDNN multiplies unsigned inputs with signed weights, so 128 is added to inputs, and taken off
again as their zero point; sums of integers are exact. What stands before and after a product reads
and writes a row once, while it is in the first cache: in plain torch these passes take as long as
the products.

Shapes: T rows (tokens), D hidden width, I inputs, O outputs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vnp.inference.batch_layout import Rotary
from vnp.inference.ops.torch import rotary as rotate
from vnp.inference.ops.torch_int8 import GELU_LEAST
from vnp.models.compiled import compiled

Array = NDArray[Any]

__all__ = ["adds", "fits", "multiply", "norm_rows", "obstacle", "project", "quantise_rows"]

adds = False  # products are written

_ROWS = 1024  # that weights are packed for
_MOST = 127  # of a quantised row
_SIGN = np.int32(0x7FFFFFFF)  # all bits of a float32 but its sign; as integers NaN is the largest
_LEAST = np.float32(GELU_LEAST)

_packed: dict[int, tuple[weakref.ref[Tensor], Tensor, Tensor]] = {}


def fits(dim: int, ffn: int, *, head: int, dtype: torch.dtype) -> bool:  # noqa: ARG001
    """Whether there are products for such shapes: for all of them, in int8."""
    return dtype == torch.int8


def obstacle() -> str | None:
    """Why int8 cannot be computed here, or None if it can."""
    found = torch.cpu.get_capabilities()
    if not any(found.get(flag) for flag in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return "the processor has neither VNNI nor AMX"
    # The largest sums there are: instructions of 16 bits would saturate.
    a_TI = torch.full((32, 96), -128, dtype=torch.int8)
    a_TI[:, ::3] = 127
    weight_OI = torch.full((64, 96), 127, dtype=torch.int8)
    weight_OI[::2] = -127
    expected = a_TI.double() @ weight_OI.double().t()
    try:
        out = torch.empty(32, 64)
        multiply(a_TI, weight_OI, out, weight_scale_O=torch.ones(64))
    except (RuntimeError, AttributeError) as error:
        return f"oneDNN: {str(error).splitlines()[0][:200]}"
    return (
        None if torch.equal(out.double(), expected) else "oneDNN's products of int8 are not exact"
    )


def multiply(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    weight_scale_O: Tensor,
    row_scale_T: Tensor | None = None,
) -> None:
    """Write a product of quantised inputs and weights times its scales."""
    product_TO = _product(a_TI, weight_OI, weight_scale_O)
    if row_scale_T is None:
        out_TO.copy_(product_TO)
    else:
        torch.mul(product_TO, row_scale_T[:, None], out=out_TO)


def project(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    bias_O: Tensor,
    weight_scale_O: Tensor,
    row_scale_T: Tensor,
    rotary: Rotary | None = None,
    scale_O: Tensor | None = None,
) -> None:
    """Write a product and what follows it: scales, bias, and rotary positions or else GELU.

    As int8, what GELU gives comes in ``scale`` steps to 1 from its least value on.
    """
    product_TO = _product(a_TI, weight_OI, weight_scale_O)
    if rotary is None and out_TO.dtype == torch.int8:
        assert scale_O is not None
        arrays = [each.numpy() for each in (product_TO, row_scale_T, bias_O, scale_O, out_TO)]
        _by_rows(_gelu_steps, len(product_TO), *arrays)
        return
    if rotary is not None:
        torch.addcmul(bias_O, product_TO, row_scale_T[:, None], out=out_TO)
        rotate(out_TO, rotary, bias_E=None)
        return
    torch.addcmul(bias_O, product_TO, row_scale_T[:, None], out=product_TO)
    out_TO.copy_(functional.gelu(product_TO))


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
    """Add to the residual stream and write its norm times factors, each row quantised to int8.

    ``x += delta``, in place; then ``norm(x + shift) * factor`` is ``out * scale``.
    """
    if delta_TD is not None:
        x_TD.add_(delta_TD)
    tensors = (x_TD, shift_D, factor_D, out_TD, scale_T)
    _by_rows(_norm_rows, len(x_TD), *(each.numpy() for each in tensors), np.float32(eps))


def quantise_rows(x_TD: Tensor, out_TD: Tensor, scale_T: Tensor) -> None:
    """Quantise rows to int8, each by its largest value: ``x`` is ``out * scale``."""
    _by_rows(_quantise_rows, len(x_TD), x_TD.float().numpy(), out_TD.numpy(), scale_T.numpy())


def _product(a_TI: Tensor, weight_OI: Tensor, weight_scale_O: Tensor) -> Tensor:
    """Times the scales of the weights, float32."""
    packed, zeros = _pack(weight_OI)
    unsigned = torch.bitwise_xor(a_TI.view(torch.uint8), 128)
    product: Tensor = torch.ops.onednn.qlinear_pointwise(
        unsigned, 1.0, 128, packed, weight_scale_O, zeros, None, 1.0, 0, torch.float32, "none", [],
        "",
    )  # fmt: skip
    return product


def _pack(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Weights in the blocks that oneDNN reads, and their zero points; kept as long as they are."""
    key = id(weight_OI)
    if key not in _packed:
        packed = torch.ops.onednn.qlinear_prepack(weight_OI, [_ROWS, weight_OI.shape[1]])
        zeros = torch.zeros(len(weight_OI), dtype=torch.int32)
        _packed[key] = (weakref.ref(weight_OI, lambda _: _packed.pop(key, None)), packed, zeros)
    _, packed, zeros = _packed[key]
    return packed, zeros


def _by_rows(work: Callable[..., None], rows: int, *arguments: object) -> None:
    """Run a compiled pass over all rows, by as many threads as torch has."""
    threads = min(torch.get_num_threads(), max(1, rows // 64))
    if threads == 1:
        work(0, rows, *arguments)
        return
    cuts = [rows * n // threads for n in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(work, start, stop, *arguments) for start, stop in pairwise(cuts)]
        for part in parts:
            part.result()


# Sums may be taken in another order, so that they use all of a register; NaN stays NaN.
_compiled = compiled(error_model="numpy", fastmath={"reassoc", "contract"})


@_compiled
def _quantised(row_D: Array, bits_D: Array, out_D: Array) -> Any:
    """Quantise a row; returns its scale, NaN if there is one in the row."""
    most = np.int32(0)
    for d in range(len(row_D)):
        most = max(most, bits_D[d] & _SIGN)
    value = np.array([max(most, np.int32(0x0DA24260))], np.int32).view(np.float32)[0]  # 1e-30
    per_step = np.float32(_MOST) / value
    for d in range(len(row_D)):
        out_D[d] = np.int8(np.int32(np.rint(row_D[d] * per_step)))
    return value / np.float32(_MOST)


@_compiled
def _quantise_rows(start: int, stop: int, x_TD: Array, out_TD: Array, scale_T: Array) -> None:
    for t in range(start, stop):
        scale_T[t] = _quantised(x_TD[t], x_TD[t].view(np.int32), out_TD[t])


@_compiled
def _norm_rows(
    start: int, stop: int, x_TD: Array, shift_D: Array, factor_D: Array, out_TD: Array,
    scale_T: Array, eps: np.float32,
) -> None:  # fmt: skip
    width = len(shift_D)
    row_D = np.empty(width, np.float32)
    bits_D = row_D.view(np.int32)
    for t in range(start, stop):
        x_D = x_TD[t]
        total = np.float32(0)
        for d in range(width):
            row_D[d] = x_D[d] + shift_D[d]
            total += row_D[d]
        mean = total / np.float32(width)
        squares = np.float32(0)
        for d in range(width):
            centred = row_D[d] - mean
            squares += centred * centred
        rstd = np.float32(1) / np.sqrt(squares / np.float32(width) + eps)
        for d in range(width):
            row_D[d] = (row_D[d] - mean) * rstd * factor_D[d]
        scale_T[t] = _quantised(row_D, bits_D, out_TD[t])


@_compiled
def _gelu_steps(
    start: int, stop: int, product_TO: Array, row_scale_T: Array, bias_O: Array, per_step_O: Array,
    out_TO: Array,
) -> None:  # fmt: skip
    """GELU by erf (Abramowitz and Stegun 7.1.26, off by less than 2e-7), in steps as int8."""
    width = product_TO.shape[1]
    for t in range(start, stop):
        scale = row_scale_T[t]
        if scale != scale:  # steps have no NaN; the residual stream has it already, and keeps it
            scale = np.float32(0)
        for o in range(width):
            value = product_TO[t, o] * scale + bias_O[o]
            z = abs(value) * np.float32(0.70710678)
            k = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * z)
            tail = (np.float32(1.061405429) * k - np.float32(1.453152027)) * k
            tail = ((tail + np.float32(1.421413741)) * k - np.float32(0.284496736)) * k
            tail = (tail + np.float32(0.254829592)) * k
            # e^(-z^2) as 2^whole * 2^part
            power = max(-z * z * np.float32(1.44269504), np.float32(-120))
            whole = np.floor(power)
            part = power - whole
            two = np.float32(0.0096180) + part * np.float32(0.00133336)
            two = np.float32(0.0555041) + part * two
            two = np.float32(0.24022651) + part * two
            two = np.float32(1) + part * (np.float32(0.69314718) + part * two)
            bits = (np.int32(whole) + np.int32(127)) << np.int32(23)
            half = np.float32(0.5) * tail * two * np.int32(bits).view(np.float32)
            gelu = value * (np.float32(1) - half) if value > 0 else value * half
            steps = np.rint((gelu - _LEAST) * per_step_O[o])
            steps = min(max(steps, np.float32(0)), np.float32(255))
            out_TO[t, o] = np.int8(np.int32(steps) - np.int32(128))
