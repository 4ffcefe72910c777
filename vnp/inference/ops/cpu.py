"""The operations on a CPU: matrix products by oneDNN, with weights packed once for its blocks.

As ``vnp.inference.ops.torch``, but for what a product of oneDNN does on its way out: biases, GELU,
SiLU and gates cost no passes of their own there. It multiplies bfloat16 by the instructions of
AVX512-BF16 and AMX, and float32 faster than MKL does on processors that are not Intel's.

Shapes: T rows (tokens), D hidden width, F inner width, I inputs and O outputs of a product.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vnp.inference.ops.torch import (
    GATED,
    QUERY_FACTOR,
    attend,
    gated_order,
    gelu,
    pool,
    qk_norm,
    rotary,
)

__all__ = [
    "GATED",
    "QUERY_FACTOR",
    "GatedProduct",
    "PackedProduct",
    "attend",
    "gated_order",
    "gelu",
    "name",
    "norm",
    "obstacle",
    "pool",
    "qk_norm",
    "rotary",
    "version",
]

name, version = "oneDNN", torch.__version__

Activation = Literal["none", "gelu", "swish"]
_FORM = {"none": "", "gelu": "none", "swish": ""}  # "none" is the GELU of erf, "tanh" the other one

_ROWS = 1024  # that weights are packed for; other numbers are as fast, from about a hundred

_MOST_OFF = 0.25  # of a small product of numbers up to about 20, in bfloat16


class PackedProduct:
    """y = f(a @ W^T + b), in the dtype of the weights, summed in float32."""

    scale_O: Tensor | None = None

    def __init__(
        self, weight_OI: Tensor, *, dtype: torch.dtype, bias_O: Tensor | None = None,
        activation: Activation = "none",
    ) -> None:  # fmt: skip
        """Round float32 weights and pack them."""
        self.weight_OI = _packed(weight_OI.to(dtype))
        self._bias_O = None if bias_O is None else bias_O.to(dtype)
        self._then: tuple[str, list[None], str] = (activation, [], _FORM[activation])

    def __call__(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Write the product and what follows it; ``out`` may have another dtype."""
        out_TO.copy_(self.made(a_TI))

    def made(self, a_TI: Tensor) -> Tensor:
        """Return it in memory of its own."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            a_TI, self.weight_OI, self._bias_O, *self._then
        )
        return product

    def times(self, a_TI: Tensor, other_TO: Tensor) -> Tensor:
        """Return it times another tensor."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            a_TI, other_TO, self.weight_OI, self._bias_O, "mul"
        )
        return product

    def add(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Add it to what is there."""
        out_TO.add_(self.made(a_TI))


class GatedProduct:
    """h = f(a @ G^T + g) * (a @ V^T + v), of weights whose upper half are the gates'."""

    scale_O: Tensor | None = None

    def __init__(
        self, weight_2FI: Tensor, *, dtype: torch.dtype, activation: Activation,
        bias_2F: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Round float32 weights and pack them."""
        halves = weight_2FI.chunk(2)
        biases = (None, None) if bias_2F is None else bias_2F.chunk(2)
        self._gate = PackedProduct(halves[0], dtype=dtype, bias_O=biases[0], activation=activation)
        self._value = PackedProduct(halves[1], dtype=dtype, bias_O=biases[1])

    def __call__(self, a_TI: Tensor, out_TF: Tensor) -> None:
        """Write gates times values."""
        out_TF.copy_(self._value.times(a_TI, self._gate.made(a_TI)))


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
    """Add to the residual stream and write its layer norm; see ``vnp.inference.ops.torch``."""
    assert scale == 1.0, "for fp8"
    if delta_TD is not None:
        x_TD.add_(delta_TD)
    value = x_TD if shift_D is None else x_TD + shift_D
    weight, bias = affine or (None, None)
    out_TD.copy_(functional.layer_norm(value, value.shape[1:], weight, bias, eps))


def __getattr__(attribute: str) -> ModuleType:
    """``int8`` is imported where it is used, as it is compiled."""
    if attribute == "int8":
        return importlib.import_module("vnp.inference.ops.cpu_int8")
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")


def obstacle(dtype: torch.dtype) -> str | None:
    """Why products cannot be packed here, or None if they can: two small ones are tried."""
    if dtype not in (torch.float32, torch.bfloat16):
        return f"oneDNN's products here are not for {str(dtype).removeprefix('torch.')}"
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "torch was built without oneDNN"
    a_TI = (torch.arange(16 * 32) % 7 - 3).view(16, 32).to(dtype)
    weight_OI = (torch.arange(48 * 32) % 5 - 2).view(48, 32) / 8
    bias_O = (torch.arange(48) % 9 - 4) / 4
    expected = functional.linear(a_TI.float(), weight_OI, bias_O)
    gate = functional.gelu(expected[:, :24])
    try:
        product = PackedProduct(weight_OI, dtype=dtype, bias_O=bias_O)
        gated = GatedProduct(weight_OI, dtype=dtype, activation="gelu", bias_2F=bias_O)
        off = (product.made(a_TI).float() - expected).abs().max()
        h_TF = torch.empty_like(gate)
        gated(a_TI, h_TF)
        off = torch.maximum(off, (h_TF - gate * expected[:, 24:]).abs().max())
    except (RuntimeError, AttributeError) as error:
        return f"oneDNN: {str(error).splitlines()[0][:200]}"
    return None if float(off) < _MOST_OFF else f"oneDNN's products are off by {float(off):.2g}"


def _packed(weight_OI: Tensor) -> Tensor:
    """Weights in the blocks that oneDNN reads."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), _ROWS)
    return packed
