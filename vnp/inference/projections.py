"""From the residual stream to a projection of its norm, in as few passes as there can be.

A layer has two of them: to queries, keys and values, with a bias and rotary positions, and up to
the inner width, with a bias and GELU. Written out that is norm, product, and a pass after it.

- The weight and bias of the norm are in the projection, in float32. Where numbers have bfloat16's
  range and what follows can multiply by the row's 1 / deviation (GELU, and the products of
  ``hopper``), the rest of it is not written either: rows of weights that sum to zero take the
  mean away, and the product reads the raw stream. fp8 needs the standardised stream, and in
  float16 the raw one could overflow.
- What follows is done by the product itself where there are kernels for that (``hopper``).

Shapes: T rows of a batch, D hidden width, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from vnp.inference.batch_layout import Rotary
from vnp.inference.linear import FP8_MOST, Fp8Product, PlainProduct, Product, balanced

Watch = Callable[[Product], Product]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a model's projections are computed with."""

    ops: ModuleType  # ``triton``, ``torch`` or ``cpu`` of ``vnp.inference.ops``
    fused: ModuleType | None  # ``vnp.inference.ops.hopper``, where it runs and fits
    dtype: torch.dtype  # of products
    fp8: bool  # matrix products in fp8
    eps: float  # of the norms
    # ``vnp.inference.ops.triton_int8`` or ``torch_int8``: matrix products in int8.
    int8: ModuleType | None = None
    # Whether projections read a standardised stream: where products are quantised, or watched.
    standardised: bool = False
    watch: Watch | None = None  # what is made of each product of a model that is calibrated

    @property
    def packed(self) -> bool:
        """Whether products are those of ``vnp.inference.ops.cpu``, which do what follows them."""
        return hasattr(self.ops, "PackedProduct")

    @property
    def adds(self) -> bool:
        """Whether products add to the stream themselves, or leave it to the next norm."""
        return not self.standardised or (self.fused is not None and self.fused.adds)

    @property
    def attend(self) -> Callable[..., None]:
        """Attention within records; see ``ops.torch``."""
        return attention_of(self.ops, self.fused)

    @property
    def stream(self) -> torch.dtype:
        """What the residual stream is kept in."""
        return torch.float32 if self.packed else self.dtype

    @property
    def whole(self) -> bool:
        """Whether products add biases for nothing, and queries and keys come in float32."""
        return self.packed or self.dtype == torch.float32

    def product(
        self,
        weight_OI: Tensor,
        input_scale: Tensor | float | None,
        *,
        bias_O: Tensor | None = None,
        gelu: bool = False,
    ) -> Product:
        """Make a product; an fp8 one takes an input multiplied by a scale, and adds no bias."""
        if self.fp8 and input_scale is not None:
            return Fp8Product(weight_OI, input_scale=input_scale, fused=self.fused)
        if self.packed:
            packed: Product = self.ops.PackedProduct(
                weight_OI, dtype=self.dtype, bias_O=bias_O, activation="gelu" if gelu else "none"
            )
            return packed
        plain = PlainProduct(weight_OI, dtype=self.dtype, bias_O=bias_O)
        return plain if self.watch is None else self.watch(plain)


def attention_of(ops: ModuleType, fused: ModuleType | None) -> Callable[..., None]:
    """Attention of the fused kernels, which those of a CPU leave to its other operations."""
    attend: Callable[..., None] = getattr(fused, "attend", ops.attend)
    return attend


@dataclass(frozen=True, slots=True)
class Stream:
    """The residual stream of a batch, and what its norms are written to."""

    x_TD: Tensor
    a_TD: Tensor  # the standardised stream
    rstd_T: Tensor  # or 1 / deviation of each row; in int8 each row's scale


class Projection:
    """Norm, product, bias, and then GELU or rotary positions."""

    def __init__(
        self,
        arithmetic: Arithmetic,
        weight_OD: Tensor,
        bias_O: Tensor,
        *,
        shift_D: Tensor,
        gelu: bool,
        scale_O: Tensor | None = None,
    ) -> None:
        """Place the weights.

        Parameters
        ----------
        arithmetic
            What it is made of.
        weight_OD, bias_O
            float32, with the norm's weight and bias in them. Where columns are rotated, the bias of
            others must be zero.
        shift_D
            Added to the stream before its norm.
        gelu
            Whether GELU follows; else rotary positions.
        scale_O
            What the output is multiplied by before it is written in fp8.
        """
        self._arithmetic, self._gelu, self._scale_O = arithmetic, gelu, scale_O
        # A stream that lacks nothing is not read once more for that.
        whole_stream = arithmetic.packed and not bool(shift_D.any())
        self._shift_D = None if whole_stream else shift_D
        self._product_does_gelu = gelu and arithmetic.packed and scale_O is None
        apart = arithmetic.standardised or arithmetic.packed
        short = arithmetic.dtype == torch.bfloat16 and not apart
        self._lead_O: Tensor | None = None
        if short and (arithmetic.fused is not None or gelu):
            weight_OD = weight_OD - weight_OD.mean(dim=1, keepdim=True)
            self._lead_O = weight_OD @ shift_D
            weight_OD = balanced(weight_OD)
        # A standardised row has length sqrt(D), so no value of it is larger.
        self._input_scale = FP8_MOST / weight_OD.shape[1] ** 0.5 if arithmetic.fp8 else 1.0
        whole = arithmetic.whole
        self._bias_O = None if whole else bias_O
        self._product = arithmetic.product(
            weight_OD,
            self._input_scale,
            bias_O=bias_O if whole else None,
            gelu=self._product_does_gelu,
        )

    def __call__(
        self,
        stream: Stream,
        out_TO: Tensor,
        *,
        before_TO: Tensor | None = None,
        pending_TD: Tensor | None = None,
        rotary: Rotary | None = None,
    ) -> None:
        """Write the projection.

        Parameters
        ----------
        stream
            The residual stream and its norms' place.
        out_TO
            Output.
        before_TO
            Where the product is written before GELU, unless it does that itself; ``out_TO`` if not
            given.
        pending_TD
            What is to be added to the stream first.
        rotary
            How columns are rotated, if they are.
        """
        assert (rotary is None) == self._gelu, "either GELU or rotary positions"
        assert pending_TD is None or self._lead_O is None, "the raw stream is whole"
        ops, fused, eps = self._arithmetic.ops, self._arithmetic.fused, self._arithmetic.eps
        product, standard, a_TD = self._product, None, stream.a_TD
        if self._lead_O is not None:
            ops.rstd(stream.x_TD, stream.rstd_T, eps=eps, shift_D=self._shift_D)
            standard, a_TD = (stream.rstd_T, self._lead_O), stream.x_TD
        else:
            ops.norm(
                stream.x_TD, a_TD, eps=eps, delta_TD=pending_TD, shift_D=self._shift_D,
                scale=self._input_scale,
            )  # fmt: skip
        if fused is not None:
            fused.project(
                a_TD, product.weight_OI, out_TO, bias_O=self._bias_O,
                weight_scale_O=product.scale_O, standard=standard, rotary=rotary,
                scale_O=self._scale_O,
            )  # fmt: skip
            return
        before_TO = out_TO if before_TO is None else before_TO
        product(a_TD, before_TO)
        if self._product_does_gelu:
            return
        if self._gelu:
            ops.gelu(
                before_TO, out_TO, bias_F=self._bias_O, standard=standard, scale_F=self._scale_O
            )
        elif rotary is not None:
            ops.rotary(before_TO, rotary, bias_E=self._bias_O)


@dataclass(frozen=True, slots=True)
class Folded:
    """The weights of a layer, float32, with its norms and biases where they cost nothing."""

    qkv_ED: Tensor
    qkv_bias_E: Tensor
    shift_D: Tensor  # what the stream lacks before the layer
    out_DD: Tensor
    out_bias_D: Tensor | None  # where products add biases
    mlp_shift_D: Tensor  # what the stream lacks before the second norm
    up_FD: Tensor
    up_bias_F: Tensor
    down_DF: Tensor
    down_bias_D: Tensor | None


class Projecting(Protocol):
    """``Projection``, or what stands for it in another arithmetic."""

    def __call__(
        self,
        stream: Stream,
        out_TO: Tensor,
        *,
        before_TO: Tensor | None = None,
        pending_TD: Tensor | None = None,
        rotary: Rotary | None = None,
    ) -> None:
        """Write the projection."""
        ...


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer computes."""

    qkv: Projecting
    context_scale: Tensor | None  # fp8: what attention multiplies its output by
    out: Product
    up: Projecting
    down: Product
    wide: bool = False  # int8: whether ``down`` takes bfloat16 nevertheless
    apart: bool = False  # and whether GELU is a pass of its own
