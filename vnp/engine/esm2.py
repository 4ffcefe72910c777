"""ESM-2 on the engine's operations: what ``vnp.models.esm2`` computes, in eight passes a layer.

The layer is rewritten, not approximated:

- The weight and bias of a norm go into the projection after it, in float32, so a norm writes only
  the standardised stream.
- The bias of ``out`` and ``down`` is the same for every token. It is left out of the residual
  stream; each norm adds the sum of those so far (``shift``). Then the product itself adds to the
  stream, with one rounding.
- The biases of ``qkv`` and ``up`` are added by attention and by GELU, in float32.
- The second norm of a layer is not written at all where numbers have bfloat16's range: ``up`` has
  rows that sum to zero (but for rounding), which takes the mean away, and reads the raw stream;
  GELU multiplies by the row's 1 / deviation. fp8 needs the standardised stream, and float16 could
  overflow.

Shapes: T rows of a batch, D hidden width, F inner width, E = 3 * D, n records, K = D / heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vnp.engine.products import FP8, FP8_MOST, Fp8Product, Product, ShortProduct, bound_scale
from vnp.engine.spans import Spans
from vnp.models.esm2 import TOKEN_DROPOUT_SCALE, Esm2Config

PADDING_ID = 1  # <pad>


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_shift: Tensor  # float32, biases left out of the stream before this layer
    qkv: Product
    qkv_bias: Tensor  # float32
    context_scale: Tensor | None  # fp8: what attention multiplies its output by
    out: Product
    mlp_shift: Tensor
    up: Product
    up_bias: Tensor
    up_lead: Tensor | None  # of the biases left out; None: `up` reads a written norm
    inner_scale: Tensor | None  # fp8: what GELU multiplies its output by
    down: Product


class Workspace:
    """Buffers for as many rows as a batch may have, reused by every layer and batch."""

    def __init__(
        self, rows: int, config: Esm2Config, *, dtype: torch.dtype, fp8: bool, device: torch.device
    ) -> None:
        def make(width: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros((rows, width), dtype=dtype, device=device)

        self.rows = rows
        self.x_TD = make(config.dim)
        self.qkv_TE = make(3 * config.dim)
        self.u_TF = make(config.ffn)
        self.a_TD = make(config.dim, FP8 if fp8 else dtype)  # input of a product
        self.h_TF = make(config.ffn, FP8) if fp8 else self.u_TF
        self.delta_TD = make(config.dim) if fp8 else None
        self.rstd_T = torch.zeros(rows, dtype=torch.float32, device=device)


class Esm2Engine:
    """Token ids to one mean per record."""

    padding_id = PADDING_ID

    def __init__(
        self,
        config: Esm2Config,
        tensors: Mapping[str, Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        fp8: bool,
        ops: ModuleType,
    ) -> None:
        """Fold and place the weights.

        Parameters
        ----------
        config
            The shapes.
        tensors
            The checkpoint under canonical names; see ``vnp.models.esm2.naming``.
        device, dtype
            Where, and in what the residual stream is kept.
        fp8
            Matrix products in fp8.
        ops
            ``vnp.engine.kernels`` or ``vnp.engine.plain``.
        """
        self.config = config
        self._device, self._dtype, self._fp8, self._ops = device, dtype, fp8, ops
        self._raw_up = not fp8 and dtype != torch.float16
        self._input_scale = FP8_MOST / config.dim**0.5 if fp8 else 1.0

        def get(name: str) -> Tensor:
            return tensors[name].to(device, torch.float32)

        self._table = (get("embeddings.word_embeddings.weight") * TOKEN_DROPOUT_SCALE).to(dtype)
        shift_D = torch.zeros(config.dim, dtype=torch.float32, device=device)
        self._layers = []
        for number in range(config.layers):
            layer = self._fold(f"encoder.layer.{number}", get, shift_D)
            self._layers.append(layer)
            shift_D = layer.mlp_shift + get(f"encoder.layer.{number}.output.dense.bias")
        self._shift_D = shift_D
        at = "encoder.emb_layer_norm_after"
        self._affine = (get(f"{at}.weight"), get(f"{at}.bias"))
        exponents = torch.arange(0, config.dim // config.heads, 2, dtype=torch.float32)
        self._frequencies = 1.0 / (10000.0 ** (exponents / (config.dim // config.heads)))
        self._rotary = self._angles(1)

    def _fold(self, at: str, get: Any, shift_D: Tensor) -> _Layer:
        norm_weight, norm_bias = (get(f"{at}.attention.LayerNorm.{x}") for x in ("weight", "bias"))
        parts = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        qkv_ED = torch.cat([get(f"{part}.weight") for part in parts])
        qkv_bias = torch.cat([get(f"{part}.bias") for part in parts]) + qkv_ED @ norm_bias
        qkv_ED = qkv_ED * norm_weight
        out_DD = get(f"{at}.attention.output.dense.weight")
        mlp_shift = shift_D + get(f"{at}.attention.output.dense.bias")
        up_FD = get(f"{at}.intermediate.dense.weight")
        up_bias = get(f"{at}.intermediate.dense.bias") + up_FD @ get(f"{at}.LayerNorm.bias")
        up_FD = up_FD * get(f"{at}.LayerNorm.weight")
        up_lead = None
        if self._raw_up:
            up_FD = up_FD - up_FD.mean(dim=1, keepdim=True)
            up_lead = up_FD @ mlp_shift
        down_DF = get(f"{at}.output.dense.weight")
        context_scale = inner_scale = None
        if self._fp8:
            dim = self.config.dim
            context_scale = bound_scale(qkv_ED[2 * dim :], qkv_bias[2 * dim :])
            inner_scale = bound_scale(up_FD, up_bias)
        return _Layer(
            attention_shift=shift_D,
            qkv=self._product(qkv_ED, self._input_scale),
            qkv_bias=qkv_bias,
            context_scale=context_scale,
            out=self._product(out_DD, context_scale),
            mlp_shift=mlp_shift,
            up=self._product(up_FD, self._input_scale),
            up_bias=up_bias,
            up_lead=up_lead,
            inner_scale=inner_scale,
            down=self._product(down_DF, inner_scale),
        )

    def _product(self, weight_OI: Tensor, input_scale: Tensor | float | None) -> Product:
        if self._fp8 and input_scale is not None:
            return Fp8Product(weight_OI, input_scale=input_scale)
        return ShortProduct(weight_OI, dtype=self._dtype)

    def workspace(self, rows: int) -> Workspace:
        """Make the buffers for batches of up to ``rows`` rows."""
        return Workspace(rows, self.config, dtype=self._dtype, fp8=self._fp8, device=self._device)

    def __call__(self, spans: Spans, work: Workspace, out_nD: Tensor) -> None:
        """Encode a batch and write the mean of each record, float32 (n, D)."""
        ops, config, rows = self._ops, self.config, spans.rows
        if spans.longest > len(self._rotary[0]):
            self._rotary = self._angles(spans.longest)
        x_TD, a_TD, qkv_TE = work.x_TD[:rows], work.a_TD[:rows], work.qkv_TE[:rows]
        u_TF, h_TF, rstd_T = work.u_TF[:rows], work.h_TF[:rows], work.rstd_T[:rows]
        delta_TD = None if work.delta_TD is None else work.delta_TD[:rows]
        pending: Tensor | None = None  # what the next norm is to add to the stream
        torch.index_select(self._table, 0, spans.ids, out=x_TD)
        for layer in self._layers:
            ops.norm(
                x_TD, a_TD, eps=config.eps, delta_TD=pending, shift_D=layer.attention_shift,
                scale=self._input_scale,
            )  # fmt: skip
            layer.qkv(a_TD, qkv_TE)
            ops.attend(
                qkv_TE, a_TD, spans, heads=config.heads, bias_E=layer.qkv_bias,
                rotary=self._rotary, scale_D=layer.context_scale,
            )  # fmt: skip
            pending = _to_stream(layer.out, a_TD, x_TD, delta_TD)
            standard = None
            if layer.up_lead is not None:
                ops.rstd(x_TD, rstd_T, eps=config.eps, shift_D=layer.mlp_shift)
                standard = (rstd_T, layer.up_lead)
                layer.up(x_TD, u_TF)
            else:
                ops.norm(
                    x_TD, a_TD, eps=config.eps, delta_TD=pending, shift_D=layer.mlp_shift,
                    scale=self._input_scale,
                )  # fmt: skip
                layer.up(a_TD, u_TF)
            ops.gelu(u_TF, h_TF, bias_F=layer.up_bias, standard=standard, scale_F=layer.inner_scale)
            pending = _to_stream(layer.down, h_TF, x_TD, delta_TD)
        if pending is not None:
            x_TD.add_(pending)
        ops.pool(x_TD, out_nD, spans, eps=config.eps, shift_D=self._shift_D, affine=self._affine)

    def _angles(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotary angles, (positions, K / 2), 1024 positions at a time."""
        count = -(-positions // 1024) * 1024
        angles = torch.arange(count, dtype=torch.float32)[:, None] * self._frequencies
        # Every program reads them. In float16 they are off by an eighth of what bfloat16 rounds.
        dtype = torch.float16 if self._dtype == torch.bfloat16 else torch.float32
        return angles.cos().to(self._device, dtype), angles.sin().to(self._device, dtype)


def _to_stream(product: Product, a: Tensor, x_TD: Tensor, delta_TD: Tensor | None) -> Tensor | None:
    """Add a product to the residual stream, or hand it back for the next norm to add."""
    if delta_TD is None:
        product.add(a, x_TD)
    else:
        product(a, delta_TD)
    return delta_TD
