"""Choose the scales of channels for int8: run a model on some records and watch its products.

A channel's scale is the square root of the largest value that it had over the largest weight that
it meets (Xiao et al. 2023, arXiv:2211.10438), so that neither becomes hard to quantise. Then each
product is computed in eight bits from values that were seen, and one that stays too far from what
it was is kept in bfloat16.

Shapes: T rows of a batch, I inputs of a product, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vnp.inference.batch_layout import plan_layout
from vnp.inference.calibration import PRODUCTS, STEPS, Calibration, Exponents, LayerScales
from vnp.inference.device import Placement
from vnp.inference.esm2 import Esm2Engine
from vnp.inference.int8 import quantise_weights, scales_of
from vnp.inference.linear import Product
from vnp.inference.ops.torch_int8 import GELU_LEAST, quantise_rows, write
from vnp.inference.upload import Upload
from vnp.models.packing import fill, padded_rows
from vnp.models.spec import ModelSpec
from vnp.models.tokens import Tokens

# Relative error of a product, above which it stays in bfloat16. Rows and weights of normal numbers
# are off by 1 % each way, products of e4m3 by 4 %.
MOST_OFF = 0.03
# What GELU gives may become so many times the most that was seen, before it stays at the end.
_ROOM = 1.25
_KEPT_ROWS = 2048  # of a product's input, to try it with


class Watched:
    """A product, and what it was given."""

    def __init__(self, product: Product, seen: Seen) -> None:
        self.weight_OI = product.weight_OI
        self.scale_O = None
        self.most_I = torch.zeros(self.weight_OI.shape[1], device=self.weight_OI.device)
        self.rows: list[Tensor] = []
        self._product, self._seen = product, seen

    def __call__(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Write the product, and look at its input."""
        a = a_TI[: self._seen.tokens]
        torch.maximum(self.most_I, a.abs().amax(dim=0).float(), out=self.most_I)
        if sum(map(len, self.rows)) < _KEPT_ROWS:
            step = max(1, len(a) * self._seen.batches // _KEPT_ROWS)
            self.rows.append(a[::step].clone())
        self._product(a_TI, out_TO)

    def add(self, a_TI: Tensor, out_TO: Tensor) -> None:
        """Not available: the norm after it adds, as without kernels for Hopper."""
        raise NotImplementedError


class Seen:
    """Which rows of a batch are tokens, for all watched products."""

    def __init__(self) -> None:
        self.products: list[Watched] = []
        self.tokens, self.batches = 0, 1

    def watch(self, product: Product) -> Product:
        """Wrap a product."""
        self.products.append(Watched(product, self))
        return self.products[-1]


@torch.inference_mode()
def calibrate(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    tokens: Tokens,
    *,
    placement: Placement,
    ops: ModuleType,
    token_budget: int,
) -> Calibration:
    """Choose scales for an ESM-2 from records like those to be embedded.

    Parameters
    ----------
    spec, tensors
        The model and its checkpoint.
    tokens
        The records.
    placement, ops
        Where, in which precision, and with which operations to compute them; ``Esm2Engine``.
    token_budget
        Most tokens in a batch.
    """
    seen = Seen()
    upload = (
        Upload(tensors, placement.device)
        if placement.device.type == "cuda"
        else nullcontext(tensors)
    )
    with upload as placed:
        engine = Esm2Engine(
            spec, placed, device=placement.device, dtype=placement.dtype, fp8=False, ops=ops,
            watch=seen.watch,
        )  # fmt: skip
    batches = fill(tokens.lengths, token_budget=token_budget, most_records=len(tokens.lengths))
    seen.batches = len(batches)
    most = max((batch.tokens for batch in batches), default=1)
    work = engine.workspace(padded_rows(most, token_budget=token_budget))
    for batch in batches:
        rows = padded_rows(batch.tokens, token_budget=token_budget)
        plan = plan_layout(batch, tokens.collect(batch.records), rows=rows, pooling=spec.pooling)
        buffer = torch.empty(plan.size, dtype=torch.int32)
        plan.write(buffer.numpy(), padding=engine.padding_id)
        seen.tokens = batch.tokens
        out_nD = torch.empty((len(batch.records), spec.embedding_dim), device=placement.device)
        engine(plan.on(buffer.to(placement.device)), work, out_nD)
    products = seen.products
    return Calibration(
        tuple(_scales(products[n : n + 4]) for n in range(0, len(products), len(PRODUCTS)))
    )


def _scales(products: list[Watched]) -> LayerScales:
    exponents: dict[str, Exponents] = {}
    kept = set()
    for name, product in zip(PRODUCTS, products, strict=True):
        weight_OI = product.weight_OI.float()
        most_I = product.most_I.clamp(min=1e-4)
        if name == "down":
            most_I = most_I * _ROOM - GELU_LEAST
        balanced_I = (most_I / weight_OI.abs().amax(dim=0).clamp(min=1e-6)).sqrt()
        if name == "down":  # now a step: that of the channel that has least room fills the range
            balanced_I *= (most_I / balanced_I).max() / 255
        else:
            balanced_I /= balanced_I.log().mean().exp()
        exponents[name] = _exponents(balanced_I, up=name == "down")
        if not _error(name, product, weight_OI, exponents[name]) <= MOST_OFF:  # or NaN
            kept.add(name)
    return LayerScales(**exponents, kept=frozenset(kept))


def _exponents(scale_I: Tensor, *, up: bool) -> Exponents:
    steps: NDArray[np.float64] = np.log2(scale_I.double().cpu().numpy()) * STEPS
    rounded = np.nan_to_num(np.ceil(steps) if up else np.round(steps))
    exponents: Exponents = np.clip(rounded, -127, 127).astype(np.int8)
    return exponents


def _error(name: str, product: Watched, weight_OI: Tensor, exponents: Exponents) -> float:
    """Relative error of a product in eight bits, of rows that were seen."""
    a_TI = torch.cat(product.rows).float()
    scale_I = scales_of(exponents, a_TI.device)
    quantised_TI = torch.empty_like(a_TI, dtype=torch.int8)
    if name == "down":
        write(a_TI, quantised_TI, 1 / scale_I)
        near_TI = (quantised_TI.float() + 128) * scale_I + GELU_LEAST
    else:
        row_scale_T = torch.empty(len(a_TI), device=a_TI.device)
        quantise_rows(a_TI / scale_I, quantised_TI, row_scale_T)
        near_TI = quantised_TI.float() * row_scale_T[:, None] * scale_I
    quantised_OI, scale_O = quantise_weights(weight_OI * scale_I)
    near_OI = quantised_OI.float() * scale_O[:, None] / scale_I
    exact = a_TI @ weight_OI.t()
    return float((near_TI @ near_OI.t() - exact).norm() / exact.norm())
