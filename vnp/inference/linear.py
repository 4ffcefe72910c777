"""Weights of a layer and their products by cuBLAS or torch's BLAS; in fp8 with scales.

fp8 is e4m3: 3 bits of mantissa between 2^-6 and 448. Weights are quantised once, with one scale for
each output. Activations are quantised by the kernel that makes them, with scales that follow from
the weights alone: the norm's output never exceeds sqrt(D), so no projection of it exceeds sqrt(D)
times the length of its weights (Cauchy-Schwarz), nor does what GELU or an average of values makes
of it. Scaled by such a bound nothing overflows, and a typical value, some 50 times smaller, still
lies 500 times above where e4m3 loses precision. So nothing is measured on the data, no row's scale
depends on another's, and the scales vanish into the next weights.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
FP8_MOST = 448.0
# Quantised inputs and weights are each off by up to 2^-4, so a product may pass its bound a little.
FP8_MARGIN = 1.15
_MOST_MOVED = 128  # weights of a row; rounding 2,560 of them adds up to some 15 steps


class Product(Protocol):
    """y = a @ W^T for one weight matrix."""

    weight_OI: Tensor

    @property
    def scale_O(self) -> Tensor | None:  # noqa: N802  the letter is its shape
        """What the product of quantised weights is multiplied by."""
        ...

    def __call__(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Write the product."""
        ...

    def add(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Add the product to what is there; where it is quantised it is rounded before."""
        ...


class PlainProduct:
    """In the dtype of the weights (not fp8), summed in float32."""

    scale_O: Tensor | None = None

    def __init__(
        self, weight_OI: Tensor, *, dtype: torch.dtype, bias_O: Tensor | None = None
    ) -> None:
        """Round float32 weights, and a bias that ``__call__`` adds."""
        self.weight_OI = weight_OI.to(dtype).contiguous()
        self._bias_O = None if bias_O is None else bias_O.to(dtype)

    def __call__(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Write the product."""
        if self._bias_O is None:
            torch.mm(a_TI, self.weight_OI.t(), out=out_TO)
        else:
            torch.addmm(self._bias_O, a_TI, self.weight_OI.t(), out=out_TO)

    def add(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Add the product to what is there, rounding once."""
        out_TO.addmm_(a_TI, self.weight_OI.t())


class Fp8Product:
    """In fp8, summed in float32, written in bfloat16; the input's scales are in the weights."""

    def __init__(
        self,
        weight_OI: Tensor,
        *,
        input_scale: Tensor | float,
        fused: ModuleType | None = None,
    ) -> None:
        """Quantise float32 weights for inputs that were multiplied by ``input_scale``, (I,).

        With ``fused``, ``vnp.inference.ops.hopper``, that takes cuBLAS's place.
        """
        self._fused = fused
        weight_OI = weight_OI / input_scale
        scale_O = weight_OI.abs().amax(dim=1).clamp(min=1e-30) / FP8_MOST
        self.scale_O: Tensor | None = scale_O
        self._scale_1O = scale_O[None, :]
        self.weight_OI = (weight_OI / scale_O[:, None]).to(FP8).contiguous()
        self._ones: Tensor | None = None

    def __call__(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Write the product."""
        if self._fused is not None:
            self._fused.multiply(a_TI, self.weight_OI, out_TO, weight_scale_O=self.scale_O)
            return
        if a_TI.device.type != "cuda":  # the same numbers where there are no such products
            out_TO.copy_((a_TI.float() @ self.weight_OI.float().t()) * self._scale_1O)
            return
        if self._ones is None or len(self._ones) < len(a_TI):
            self._ones = torch.ones((len(a_TI), 1), dtype=torch.float32, device=a_TI.device)
        torch._scaled_mm(
            a_TI,
            self.weight_OI.t(),
            scale_a=self._ones[: len(a_TI)],
            scale_b=self._scale_1O,
            out_dtype=out_TO.dtype,
            use_fast_accum=True,
            out=out_TO,
        )

    def add(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Add the product, rounded, to what is there, for Hopper; else the next norm has to."""
        if self._fused is None:
            raise NotImplementedError
        self._fused.multiply(a_TI, self.weight_OI, out_TO, weight_scale_O=self.scale_O, add=True)


def balanced(weight_OI: Tensor) -> Tensor:
    """Round weights whose rows sum to zero to bfloat16, so that they still do.

    Rounded one by one, what a row sums to grows with sqrt(I), and a product with a row of inputs
    whose mean is not zero is off by that much times the mean. So those weights of a row that lie
    nearest to the middle between two numbers go to the other one, as many as it takes: what is left
    is about one step of a weight.

    Returns
    -------
    float32 (O, I), of numbers that bfloat16 has.
    """
    rounded = weight_OI.to(torch.bfloat16)
    value = rounded.float()
    excess_O1 = value.double().sum(dim=1, keepdim=True)
    down = excess_O1.sign().to(torch.int16)  # numbers are to move against the excess
    bits = rounded.view(torch.int16)
    moved = torch.where(rounded > 0, bits - down, bits + down).view(torch.bfloat16).float()
    # How far from the middle, in steps: 0 there, 1 for numbers that needed no rounding.
    step = moved - value
    far = ((moved - weight_OI) ** 2 - (value - weight_OI) ** 2) / step**2
    too_far = step.abs() > excess_O1.abs()  # the row would sum to more, the other way
    far.masked_fill_((value == 0) | too_far, math.inf)
    cost, chosen = far.topk(min(_MOST_MOVED, far.shape[1]), dim=1, largest=False)
    old, new = value.gather(1, chosen), moved.gather(1, chosen)
    steps = (new - old).double().abs()
    enough = steps.cumsum(dim=1) - steps / 2 <= excess_O1.abs()
    return value.scatter(1, chosen, torch.where(enough & cost.isfinite(), new, old))


def times(weight_OI: Tensor, vector_I: Tensor) -> Tensor:
    """Product of a matrix and a vector, the same bits wherever a file maps the matrix to.

    BLAS may sum in another order where memory is aligned otherwise.
    """
    return (weight_OI * vector_I).sum(dim=1)


def bound_scale(weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Factor per output that keeps a projection of a norm's output within fp8.

    ``weight_OI`` has the norm's weights folded in: its input has length sqrt(I) at most.
    """
    most = weight_OI.shape[1] ** 0.5 * weight_OI.norm(dim=1) * FP8_MARGIN
    if bias_O is not None:
        most = most + bias_O.abs()
    scale: Tensor = FP8_MOST / most.clamp(min=1e-20)
    return scale
