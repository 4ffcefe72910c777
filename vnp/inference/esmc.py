"""ESM Cambrian (ESM-C; as in transformers' ``esmc``) on packed tokens, in few passes a layer.

A pre-norm transformer encoder with rotary positions, layer norms of queries and keys over all
heads, gated linear units with SiLU, and branches scaled by sqrt(36 / layers).

The layer is rewritten, not approximated:

- Weight and bias of a norm are in the projection after it, in float32; the scale of a branch is in
  its last product. So products themselves add to the residual stream, with one rounding.
- In bfloat16 the product up reads the raw stream: rows of weights that sum to zero take the mean
  away, and what follows it multiplies by each row's 1 / deviation (``projections`` says more): a
  pass, or the product itself where there are kernels for that (``hopper``). With those kernels the
  product to queries, keys and values does the same.
- The means of queries and of keys, over all heads, are taken out of their weights, whose columns
  then sum to zero. What is left of their norms is a factor for each row, which ``hopper`` leaves to
  attention.
- Queries come out of their norm times ``ops.QUERY_FACTOR`` / sqrt(K).

Shapes: T rows of a batch, D hidden width, F inner width, E = 3 * D, n records, K = D / heads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from vnp.inference.batch_layout import BatchLayout, Rotary
from vnp.inference.linear import PlainProduct, Product, balanced, times
from vnp.inference.ops import torch as plain
from vnp.inference.pooling import pool_groups
from vnp.models.pooling import MEANS
from vnp.models.spec import ModelSpec
from vnp.models.weights import Naming

PADDING_ID = 1  # <pad>
EPS = 1e-5  # added to the variance in every layer norm
_DEPTH = 36  # layers at which branches are not scaled


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Product
    qkv_bias: Tensor  # float32 (E,)
    norms_E: Tensor  # float32: weights of the norms of queries and keys, and ones for values
    out: Product
    up: Product
    up_bias: Tensor  # float32 (2F,)
    down: Product


class Workspace:
    """Buffers for as many rows as a batch may have, reused by every layer and batch."""

    def __init__(
        self, rows: int, spec: ModelSpec, *, dtype: torch.dtype, device: torch.device, fused: bool,
        packed: bool,
    ) -> None:  # fmt: skip
        def make(width: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros((rows, width), dtype=dtype, device=device)

        self.rows = rows
        self.x_TD = make(spec.dim, torch.float32 if packed else dtype)
        self.qkv_TE = make(3 * spec.dim, torch.float32 if packed else dtype)
        self.a_TD = make(spec.dim)
        self.u_T2F = make(0 if fused or packed else 2 * spec.ffn)
        self.h_TF = make(spec.ffn)
        # 1 / deviation: of the stream, and of queries and keys with what it follows from.
        self.parts = 4 * spec.heads if fused else 0
        self.rstd_T, self.rstd_2T, self.squares_ST = (
            torch.zeros(width * rows, dtype=torch.float32, device=device)
            for width in (1, 2, self.parts)
        )


class EsmcEngine:
    """Token ids to one row per record."""

    padding_id = PADDING_ID

    def __init__(
        self,
        spec: ModelSpec,
        tensors: Mapping[str, Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        ops: ModuleType,
        fused: ModuleType | None = None,
    ) -> None:
        """Fold and place the weights; the parameters are those of ``Esm2Engine``."""
        self._spec = spec
        self._fused = fused if dtype == torch.bfloat16 else None
        self._device, self._dtype, self._ops = device, dtype, ops
        self._packed = hasattr(ops, "PackedProduct")
        # In float16 the raw stream could overflow, and packed products leave nothing to do after.
        self._raw = dtype == torch.bfloat16 and not self._packed
        self._shift_D = torch.zeros(spec.dim, dtype=torch.float32, device=device)

        def get(name: str) -> Tensor:
            return tensors[name].to(device, torch.float32)

        self._table = get("embed_tokens.weight").to(torch.float32 if self._packed else dtype)
        self._layers = [
            self._fold({name: get(f"layers.{number}.{name}") for name in _shapes(spec)})
            for number in range(spec.layer or spec.layers)
        ]
        self._affine = (get("norm.weight"), torch.zeros_like(self._shift_D))
        head = spec.dim // spec.heads
        self._frequencies = 1.0 / 10000.0 ** (torch.arange(0, head, 2, dtype=torch.float32) / head)
        self._rotary = self._angles(1)

    def _fold(self, tensors: Mapping[str, Tensor]) -> _Layer:
        spec, dtype = self._spec, self._dtype
        scale = math.sqrt(_DEPTH / spec.layers)
        q_DD, k_DD, v_DD = (tensors[f"self_attn.{part}_proj.weight"] for part in "qkv")
        parts = [weight - weight.mean(dim=0, keepdim=True) for weight in (q_DD, k_DD)]
        qkv_ED, qkv_bias = _with_norm(torch.cat([*parts, v_DD]), tensors, "input_layernorm")
        norms = [tensors[f"self_attn.{part}_norm.weight"] for part in "qk"]
        norms_E = torch.cat([*norms, torch.ones_like(norms[0])])
        norms_E[: spec.dim] *= self._ops.QUERY_FACTOR / math.sqrt(spec.dim // spec.heads)
        up_FD, up_bias = _with_norm(
            torch.cat([tensors["mlp.gate_proj.weight"], tensors["mlp.up_proj.weight"]]),
            tensors,
            "post_attention_layernorm",
        )
        if self._raw:
            up_FD = balanced(up_FD - up_FD.mean(dim=1, keepdim=True))
        if self._fused is not None:
            qkv_ED = balanced(qkv_ED - qkv_ED.mean(dim=1, keepdim=True))
            order = plain.gated_order(spec.ffn).to(self._device)
            up_FD, up_bias = up_FD[order], up_bias[order]
        kind: type[PlainProduct] = PlainProduct
        up: Product
        if self._packed:
            kind = self._ops.PackedProduct
            up = self._ops.GatedProduct(up_FD, dtype=dtype, activation="swish", bias_2F=up_bias)
        else:
            up = PlainProduct(up_FD, dtype=dtype)
        return _Layer(
            qkv=kind(qkv_ED, dtype=dtype, bias_O=qkv_bias),
            qkv_bias=qkv_bias,
            norms_E=norms_E,
            out=kind(tensors["self_attn.o_proj.weight"] * scale, dtype=dtype),
            up=up,
            up_bias=up_bias,
            down=kind(tensors["mlp.down_proj.weight"] * scale, dtype=dtype),
        )

    def workspace(self, rows: int) -> Workspace:
        """Make the buffers for batches of up to ``rows`` rows."""
        return Workspace(
            rows, self._spec, dtype=self._dtype, device=self._device,
            fused=self._fused is not None, packed=self._packed,
        )  # fmt: skip

    def __call__(self, layout: BatchLayout, work: Workspace, out_nD: Tensor) -> None:
        """Encode a batch and write the row of each record, float32 (n, D x poolings)."""
        if self._spec.pooling in MEANS and self._spec.layer is None:
            x_TD = self._stream(layout, work)
            self._ops.pool(
                x_TD, out_nD, layout, eps=EPS, shift_D=self._shift_D, affine=self._affine
            )
        else:
            pool_groups(self.states(layout, work), out_nD, layout)

    def states(self, layout: BatchLayout, work: Workspace) -> Tensor:
        """Encode a batch; return the hidden states of the chosen layer, float32 (T, D).

        Those of the last layer are normed, as in the published model; those of another are not.
        """
        value = self._stream(layout, work).float()
        if self._spec.layer is not None:
            return value
        return torch.nn.functional.layer_norm(value, value.shape[1:], *self._affine, EPS)

    def _stream(self, layout: BatchLayout, work: Workspace) -> Tensor:
        """Run the layers; return the residual stream."""
        ops, spec, rows = self._ops, self._spec, layout.rows
        if layout.longest > len(self._rotary[0]):
            self._rotary = self._angles(layout.longest)
        x_TD, a_TD, qkv_TE = work.x_TD[:rows], work.a_TD[:rows], work.qkv_TE[:rows]
        u_T2F, h_TF, rstd_T = work.u_T2F[:rows], work.h_TF[:rows], work.rstd_T[:rows]
        rstd_2T = work.rstd_2T[: 2 * rows].view(2, rows)
        squares_ST = work.squares_ST[: work.parts * rows].view(work.parts, rows)
        rotary = Rotary(self._rotary, layout.positions, 2 * spec.dim)
        torch.index_select(self._table, 0, layout.ids, out=x_TD)
        for layer in self._layers:
            if self._fused is not None:
                ops.rstd(x_TD, rstd_T, eps=EPS, shift_D=self._shift_D)
                self._fused.project(
                    x_TD, layer.qkv.weight_OI, qkv_TE, bias_O=layer.qkv_bias,
                    standard=(rstd_T, None), rotary=rotary,
                    norm=(layer.norms_E, squares_ST),
                )  # fmt: skip
                ops.qk_rstd(squares_ST, rstd_2T, eps=EPS, dim=spec.dim)
                ops.attend(qkv_TE, a_TD, layout, heads=spec.heads, rstd_2T=rstd_2T)
            else:
                ops.norm(x_TD, a_TD, eps=EPS)
                layer.qkv(a_TD, qkv_TE)
                ops.qk_norm(qkv_TE, rotary, weight_2D=layer.norms_E[: 2 * spec.dim], eps=EPS)
                ops.attend(qkv_TE, a_TD, layout, heads=spec.heads)
            layer.out.add(a_TD, x_TD)
            if self._raw:
                ops.rstd(x_TD, rstd_T, eps=EPS, shift_D=self._shift_D)
                if self._fused is not None:
                    self._fused.project(
                        x_TD, layer.up.weight_OI, h_TF, bias_O=layer.up_bias,
                        standard=(rstd_T, None), activation="swiglu",
                    )  # fmt: skip
                else:
                    layer.up(x_TD, u_T2F)
                    ops.swiglu(u_T2F, h_TF, bias_2F=layer.up_bias, rstd_T=rstd_T)
            else:
                ops.norm(x_TD, a_TD, eps=EPS)
                if self._packed:
                    layer.up(a_TD, h_TF)
                else:
                    layer.up(a_TD, u_T2F)
                    ops.swiglu(u_T2F, h_TF, bias_2F=layer.up_bias)
            layer.down.add(h_TF, x_TD)
        return x_TD

    def _angles(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotary angles, (positions, K / 2), 1024 positions at a time."""
        count = -(-positions // 1024) * 1024
        angles = torch.arange(count, dtype=torch.float32)[:, None] * self._frequencies
        # In float16 they are off by an eighth of what bfloat16 rounds.
        short = self._dtype == torch.bfloat16 and not self._packed
        dtype = torch.float16 if short else torch.float32
        return angles.cos().to(self._device, dtype), angles.sin().to(self._device, dtype)


def _with_norm(
    weight_OD: Tensor, tensors: Mapping[str, Tensor], norm: str
) -> tuple[Tensor, Tensor]:
    """Put the weight and bias of a norm into the projection after it, which has no bias."""
    return weight_OD * tensors[f"{norm}.weight"], times(weight_OD, tensors[f"{norm}.bias"])


def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Tensors of a layer."""
    dim, ffn = spec.dim, spec.ffn
    shapes: dict[str, tuple[int, ...]] = {
        f"self_attn.{part}_proj.weight": (dim, dim) for part in "qkvo"
    }
    shapes |= {f"self_attn.{part}_norm.weight": (dim,) for part in "qk"}
    for norm in ("input_layernorm", "post_attention_layernorm"):
        shapes |= {f"{norm}.weight": (dim,), f"{norm}.bias": (dim,)}
    shapes |= {f"mlp.{part}_proj.weight": (ffn, dim) for part in ("gate", "up")}
    return shapes | {"mlp.down_proj.weight": (dim, ffn)}


def naming(spec: ModelSpec) -> Naming:
    """Name the tensors of the published checkpoints that the encoder uses."""
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (spec.vocab, spec.dim)}
    for number in range(spec.layers):
        shapes |= {f"layers.{number}.{name}": shape for name, shape in _shapes(spec).items()}
    shapes["norm.weight"] = (spec.dim,)
    return Naming(
        prefix="esmc.",
        shapes=shapes,
        unused=re.compile(r"rotary_emb\.(original_)?inv_freq|(lm_head|classifier|score)\..+"),
    )
