"""The engine's operations on int8 in plain torch: see ``vnp.inference.ops.torch``.

Shapes: T rows (tokens and padding), D hidden width, I inputs, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# What GELU gives is one of 256 steps above its least value, the first of which is -128.
GELU_LEAST = -0.17
_MOST = 127  # of a quantised row


def multiply(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    weight_scale_O: Tensor,
    row_scale_T: Tensor | None = None,
    add: bool = False,
) -> None:
    """Write a product of quantised inputs and weights times its scales; see ``project``.

    With ``add`` the product, rounded, is added to what is there.
    """
    value = scaled_product(a_TI, weight_OI, weight_scale_O, row_scale_T)
    if add:
        value = out_TO.float() + value.to(out_TO.dtype).float()
    out_TO.copy_(value)


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
        x_TD.copy_(x_TD.float() + delta_TD.float())
    value = functional.layer_norm(x_TD.float() + shift_D, x_TD.shape[1:], eps=eps)
    _quantise(value * factor_D, out_TD, scale_T)


def quantise_rows(x_TD: Tensor, out_TD: Tensor, scale_T: Tensor) -> None:
    """Quantise rows to int8, each by its largest value: ``x`` is ``out * scale``."""
    _quantise(x_TD.float(), out_TD, scale_T)


def scaled_product(
    a_TI: Tensor, weight_OI: Tensor, weight_scale_O: Tensor | None, row_scale_T: Tensor | None
) -> Tensor:
    """A product as bfloat16, as it would be written, times its scales, float32."""
    dtype = (
        torch.float64 if a_TI.dtype == torch.int8 else torch.float32
    )  # sums of integers are exact
    value = (a_TI.to(dtype) @ weight_OI.to(dtype).t()).float().to(torch.bfloat16).float()
    if weight_scale_O is not None:
        value = value * weight_scale_O
    return value if row_scale_T is None else value * row_scale_T[:, None]


def write(value: Tensor, out: Tensor, scale: Tensor | None) -> None:
    """Write values times a scale; as int8 those of GELU, in steps from their least on."""
    if out.dtype == torch.int8:
        assert scale is not None
        value = ((value - GELU_LEAST) * scale).clamp_(0, 255).round_() - 128
    elif scale is not None:
        value = value * scale
    out.copy_(value)


def _quantise(value_TD: Tensor, out_TD: Tensor, scale_T: Tensor) -> None:
    most_T = value_TD.abs().amax(dim=1).clamp(min=1e-30)
    torch.div(most_T, _MOST, out=scale_T)
    out_TD.copy_((value_TD * (_MOST / most_T)[:, None]).round_())
