"""ESM-2 on the engine's operations: what `plain_esm2` computes, in few passes a layer.

The layer is rewritten, not approximated:

- What ``projections`` says of norms, biases, turns and GELU.
- The bias of ``out`` and ``down`` is the same for every token, and so is what the bias of the
  values adds to a context, as shares sum to one. They are left out of the residual stream; each
  norm adds the sum of those so far (``shift``). Then a product itself adds to the stream, with one
  rounding.
- Queries come out of their projection times log2(e) / sqrt(K).

Shapes: T rows of a batch, D hidden width, F inner width, E = 3 * D, n records, K = D / heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vnp.inference.batch_layout import Spans, Turn
from vnp.inference.linear import FP8, Product, bound_scale
from vnp.inference.plain_esm2 import TOKEN_DROPOUT_SCALE, Esm2Config
from vnp.inference.projections import Means, Projection, Stream

PADDING_ID = 1  # <pad>


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Projection
    context_scale: Tensor | None  # fp8: what attention multiplies its output by
    out: Product
    up: Projection
    down: Product


class Workspace:
    """Buffers for as many rows as a batch may have, reused by every layer and batch."""

    def __init__(
        self, rows: int, config: Esm2Config, *, dtype: torch.dtype, fp8: bool, fused: bool,
        device: torch.device,
    ) -> None:  # fmt: skip
        def make(width: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros((rows, width), dtype=dtype, device=device)

        self.rows = rows
        self.x_TD = make(config.dim)
        self.qkv_TE = make(3 * config.dim)
        self.a_TD = make(config.dim, FP8 if fp8 else dtype)  # input of a product
        self.h_TF = make(config.ffn, FP8 if fp8 else dtype)
        self.u_TF = make(config.ffn) if fp8 and not fused else self.h_TF  # before GELU
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
        fused: ModuleType | None = None,
    ) -> None:
        """Fold and place the weights.

        Parameters
        ----------
        config
            The shapes.
        tensors
            The checkpoint under canonical names; see ``vnp.inference.plain_esm2.naming``.
        device, dtype
            Where, and in what the residual stream is kept.
        fp8
            Matrix products in fp8.
        ops
            ``vnp.inference.ops.triton`` or ``vnp.inference.ops.torch``.
        fused
            ``vnp.inference.ops.hopper`` where it runs: products that do what follows them.

        Raises
        ------
        ValueError
            If those products are not for such shapes.
        """
        self.config = config
        self._device, self._dtype, self._ops = device, dtype, ops
        head = config.dim // config.heads
        if fused is not None and not fused.fits(
            config.dim, config.ffn, head=head, dtype=FP8 if fp8 else dtype
        ):
            raise ValueError("there are no fused products for these shapes")
        self.fused = fused is not None
        self._means = Means(ops=ops, fused=fused, dtype=dtype, fp8=fp8, eps=config.eps)

        def get(name: str) -> Tensor:
            return tensors[name].to(device, torch.float32)

        self._table = (get("embeddings.word_embeddings.weight") * TOKEN_DROPOUT_SCALE).to(dtype)
        shift_D = torch.zeros(config.dim, dtype=torch.float32, device=device)
        self._layers = []
        for number in range(config.layers):
            layer, shift_D = self._fold(f"encoder.layer.{number}", get, shift_D)
            self._layers.append(layer)
        self._shift_D = shift_D
        at = "encoder.emb_layer_norm_after"
        self._affine = (get(f"{at}.weight"), get(f"{at}.bias"))
        exponents = torch.arange(0, head, 2, dtype=torch.float32)
        self._frequencies = 1.0 / (10000.0 ** (exponents / head))
        self._rotary = self._angles(1)

    def _fold(self, at: str, get: Any, shift_D: Tensor) -> tuple[_Layer, Tensor]:
        """A layer, for a stream that lacks ``shift_D``; and what the stream after it lacks."""
        means, dim, fp8 = self._means, self.config.dim, self._means.fp8
        head = dim // self.config.heads

        def linear(name: str) -> tuple[Tensor, Tensor]:
            return get(f"{at}.{name}.weight"), get(f"{at}.{name}.bias")

        parts = [linear(f"attention.self.{part}") for part in ("query", "key", "value")]
        qkv_ED, qkv_bias = _with_norm(
            torch.cat([weight for weight, _ in parts]),
            torch.cat([bias for _, bias in parts]),
            *linear("attention.LayerNorm"),
        )
        qkv_ED[:dim] *= math.log2(math.e) / math.sqrt(head)
        qkv_bias[:dim] *= math.log2(math.e) / math.sqrt(head)
        values_bias = qkv_bias[2 * dim :].clone()
        qkv_bias[2 * dim :] = 0
        context_scale = bound_scale(qkv_ED[2 * dim :]) if fp8 else None
        out_DD, out_bias = linear("attention.output.dense")
        mlp_shift = shift_D + out_bias + out_DD @ values_bias
        up_FD, up_bias = _with_norm(*linear("intermediate.dense"), *linear("LayerNorm"))
        inner_scale = bound_scale(up_FD, up_bias) if fp8 else None
        down_DF, down_bias = linear("output.dense")
        layer = _Layer(
            qkv=Projection(means, qkv_ED, qkv_bias, shift_D=shift_D, gelu=False),
            context_scale=context_scale,
            out=means.product(out_DD, context_scale),
            up=Projection(means, up_FD, up_bias, shift_D=mlp_shift, gelu=True, scale_O=inner_scale),
            down=means.product(down_DF, inner_scale),
        )
        return layer, mlp_shift + down_bias

    def workspace(self, rows: int) -> Workspace:
        """Make the buffers for batches of up to ``rows`` rows."""
        return Workspace(
            rows, self.config, dtype=self._dtype, fp8=self._means.fp8, fused=self.fused,
            device=self._device,
        )  # fmt: skip

    def __call__(self, spans: Spans, work: Workspace, out_nD: Tensor) -> None:
        """Encode a batch and write the mean of each record, float32 (n, D)."""
        ops, config, rows = self._ops, self.config, spans.rows
        if spans.longest > len(self._rotary[0]):
            self._rotary = self._angles(spans.longest)
        x_TD, a_TD, qkv_TE = work.x_TD[:rows], work.a_TD[:rows], work.qkv_TE[:rows]
        u_TF, h_TF = work.u_TF[:rows], work.h_TF[:rows]
        delta_TD = None if work.delta_TD is None else work.delta_TD[:rows]
        stream = Stream(x_TD, a_TD, work.rstd_T[:rows])
        turn = Turn(self._rotary, spans.positions, 2 * config.dim)
        pending: Tensor | None = None  # what the next norm is to add to the stream
        torch.index_select(self._table, 0, spans.ids, out=x_TD)
        for layer in self._layers:
            layer.qkv(stream, qkv_TE, pending_TD=pending, turn=turn)
            ops.attend(qkv_TE, a_TD, spans, heads=config.heads, scale_D=layer.context_scale)
            pending = _to_stream(layer.out, a_TD, x_TD, delta_TD)
            layer.up(stream, h_TF, before_TO=u_TF, pending_TD=pending)
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


def _with_norm(
    weight_OD: Tensor, bias_O: Tensor, norm_weight_D: Tensor, norm_bias_D: Tensor
) -> tuple[Tensor, Tensor]:
    """Put the weight and bias of a norm into the projection after it."""
    return weight_OD * norm_weight_D, bias_O + weight_OD @ norm_bias_D
