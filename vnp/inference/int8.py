"""A layer's products in int8: rows quantised one by one, or steps of a fixed range.

Weights have a scale for each output. What a norm and attention give is quantised by row, by its
largest value, where the whole row is at hand. A product that GELU follows writes tiles of 256
columns, so no program sees a row's largest value; but GELU has a least value, and the calibration
says how large each channel becomes. So it is written in 256 steps of a range of its own, and
beyond it stays at the end. What the steps are counted from adds the same to every row's product;
it goes where the biases of ``out`` and ``down`` are.

Sums are exact. So no number of a record depends on its neighbours, nor on the order of sums.

Shapes: T rows of a batch, D hidden width, I inputs, O outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vnp.inference.batch_layout import Rotary
from vnp.inference.calibration import STEPS, Exponents, LayerScales
from vnp.inference.linear import Product, times
from vnp.inference.ops.torch_int8 import GELU_LEAST
from vnp.inference.projections import (
    Arithmetic,
    Folded,
    Layer,
    Projecting,
    Projection,
    Stream,
)

_MOST = 127


def scales_of(exponents: Exponents, device: torch.device) -> Tensor:
    """Two to the power of quarters, float32; exact but for the rounding of four constants."""
    fractions = np.exp2(np.arange(STEPS) / STEPS).astype(np.float32)
    quarters = exponents.astype(np.int32)
    values = np.ldexp(fractions[quarters % STEPS], quarters // STEPS)
    return torch.from_numpy(values).to(device)


def quantise_weights(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise float32 weights: int8 (O, I) and the scale of each output, float32 (O,)."""
    scale_O = weight_OI.abs().amax(dim=1).clamp(min=1e-30) / _MOST
    return (weight_OI / scale_O[:, None]).round_().to(torch.int8).contiguous(), scale_O


class _Weights:
    def __init__(self, arithmetic: Arithmetic, weight_OI: Tensor) -> None:
        self.weight_OI, self.scale_O = quantise_weights(weight_OI)
        assert arithmetic.int8 is not None
        self._ops = arithmetic.int8
        self._products = arithmetic.fused or arithmetic.int8

    def __call__(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Write the product."""
        self._product(a_TI, out_TO, {})

    def add(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Add the product, rounded, to what is there, where ``Arithmetic.adds``."""
        self._product(a_TI, out_TO, {"add": True})

    def _product(self, a_TI: Tensor, out_TO: Tensor, how: dict[str, Any]) -> None:
        self._products.multiply(a_TI, self.weight_OI, out_TO, weight_scale_O=self.scale_O, **how)


class RowsProduct(_Weights):
    """Of rows in bfloat16, quantised one by one."""

    def _product(self, a_TI: Tensor, out_TO: Tensor, how: dict[str, Any]) -> None:
        quantised_TI = torch.empty_like(a_TI, dtype=torch.int8)
        scale_T = torch.empty(len(a_TI), dtype=torch.float32, device=a_TI.device)
        self._ops.quantise_rows(a_TI, quantised_TI, scale_T)
        super()._product(quantised_TI, out_TO, how | {"row_scale_T": scale_T})


class StepsProduct(_Weights):
    """Of what GELU gave, in steps that are the same for every row; less ``constant_O``."""

    def __init__(self, arithmetic: Arithmetic, weight_OI: Tensor, step_I: Tensor) -> None:
        """Quantise float32 weights for inputs in steps of such sizes."""
        super().__init__(arithmetic, weight_OI * step_I)
        # GELU is (count + 128) * step + GELU_LEAST.
        from_count_0 = 128 + GELU_LEAST / step_I
        self.constant_O = times(self.weight_OI, from_count_0) * self.scale_O


class RowsProjection:
    """Norm, product of quantised rows, bias, and then GELU or rotary positions."""

    def __init__(
        self,
        arithmetic: Arithmetic,
        weight_OD: Tensor,
        bias_O: Tensor,
        *,
        shift_D: Tensor,
        channel_scale_D: Tensor,
        gelu: bool,
        step_O: Tensor | None = None,
    ) -> None:
        """Place the weights; see ``projections.Projection``.

        Parameters
        ----------
        arithmetic, weight_OD, bias_O, shift_D, gelu
            As there.
        channel_scale_D
            What the standardised stream is divided by.
        step_O
            Size of a step of what GELU gives, where that is int8.
        """
        self._arithmetic, self._shift_D, self._bias_O = arithmetic, shift_D, bias_O
        self._gelu = gelu
        self.weight_OI, self.scale_O = quantise_weights(weight_OD * channel_scale_D)
        self._factor_D = 1 / channel_scale_D
        self._per_step_O = None if step_O is None else 1 / step_O

    def __call__(
        self,
        stream: Stream,
        out_TO: Tensor,
        *,
        before_TO: Tensor | None = None,
        pending_TD: Tensor | None = None,
        rotary: Rotary | None = None,
    ) -> None:
        """Write the projection; see ``projections.Projection``."""
        assert (rotary is None) == self._gelu, "either GELU or rotary positions"
        arithmetic, x_TD = self._arithmetic, stream.x_TD
        assert arithmetic.int8 is not None
        quantised_TD = torch.empty_like(x_TD, dtype=torch.int8)
        arithmetic.int8.norm_rows(
            x_TD, quantised_TD, stream.rstd_T, eps=arithmetic.eps, delta_TD=pending_TD,
            shift_D=self._shift_D, factor_D=self._factor_D,
        )  # fmt: skip
        scales = {"weight_scale_O": self.scale_O, "row_scale_T": stream.rstd_T}
        if arithmetic.fused is not None:
            arithmetic.fused.project(
                quantised_TD, self.weight_OI, out_TO, bias_O=self._bias_O, rotary=rotary,
                scale_O=self._per_step_O, **scales,
            )  # fmt: skip
            return
        before_TO = out_TO if before_TO is None else before_TO
        arithmetic.int8.multiply(quantised_TD, self.weight_OI, before_TO, **scales)
        if rotary is not None:
            arithmetic.ops.rotary(before_TO, rotary, bias_E=self._bias_O)
        else:
            arithmetic.ops.gelu(before_TO, out_TO, bias_F=self._bias_O, scale_F=self._per_step_O)


def layer_of(
    arithmetic: Arithmetic, folded: Folded, scales: LayerScales
) -> tuple[Layer, Tensor | float]:
    """A layer in int8, but for what the calibration keeps in bfloat16.

    Returns
    -------
    The layer, and what ``down`` leaves out of the stream, float32 (D,) or nothing.
    """
    device = folded.out_DD.device
    # Norm, product, and a pass after it.
    plain = replace(arithmetic, fused=None, int8=None)
    context_D, step_F = scales_of(scales.out, device), scales_of(scales.down, device)
    qkv_ED, out_DD = folded.qkv_ED.clone(), folded.out_DD * context_D
    qkv_ED[2 * len(context_D) :] /= context_D[:, None]
    wide = "down" in scales.kept
    qkv: Projecting
    if "qkv" in scales.kept:
        qkv = Projection(plain, qkv_ED, folded.qkv_bias_E, shift_D=folded.shift_D, gelu=False)
    else:
        qkv = RowsProjection(
            arithmetic, qkv_ED, folded.qkv_bias_E, shift_D=folded.shift_D, gelu=False,
            channel_scale_D=scales_of(scales.qkv, device),
        )  # fmt: skip
    up: Projecting
    if "up" in scales.kept:
        up = Projection(
            plain, folded.up_FD, folded.up_bias_F, shift_D=folded.mlp_shift_D, gelu=True,
            scale_O=None if wide else 1 / step_F,
        )  # fmt: skip
    else:
        up = RowsProjection(
            arithmetic, folded.up_FD, folded.up_bias_F, shift_D=folded.mlp_shift_D, gelu=True,
            channel_scale_D=scales_of(scales.up, device), step_O=None if wide else step_F,
        )  # fmt: skip
    down: Product
    constant_D: Tensor | float = 0.0
    if wide:
        down = plain.product(folded.down_DF, None)
    else:
        down = StepsProduct(arithmetic, folded.down_DF, step_F)
        constant_D = down.constant_O
    out = plain.product(out_DD, None) if "out" in scales.kept else RowsProduct(arithmetic, out_DD)
    layer = Layer(
        qkv=qkv, context_scale=None, out=out, up=up, down=down, wide=wide, apart="up" in scales.kept
    )
    return layer, constant_D
