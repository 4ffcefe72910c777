"""MosaicBERT, the architecture of DNABERT-2 and DNABERT-S, on packed tokens.

BERT with post-norm layers, linear attention biases in place of positions and gated linear units
(Portes et al. 2023, arXiv:2312.17482; Zhou et al. 2023, arXiv:2306.15006).

Norms come after the addition here, so the stream itself is standardised, in place. The bias of
``out`` and ``down`` is added by the norm that follows, and with it what the bias of the values adds
to a context, as shares sum to one. That of the keys adds the same to all scores of a query and
changes no share. Queries come out of their projection times ``ops.QUERY_FACTOR`` / sqrt(K). The
linear biases of attention are computed where they are used. Where there are kernels for that
(``hopper``) the product up gates its own values.

Shapes: T rows of a batch, D hidden width, F inner width, E = 3 * D, n records.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from vnp.inference.batch_layout import BatchLayout
from vnp.inference.linear import PlainProduct, Product, times
from vnp.inference.ops import torch as plain
from vnp.inference.pooling import pool_groups
from vnp.inference.projections import attention_of
from vnp.models.pooling import MEANS
from vnp.models.spec import ModelSpec
from vnp.models.weights import Naming

PADDING_ID = 0
EPS = 1e-12  # added to the variance in every layer norm

Affine = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Product
    out: Product
    out_bias: Tensor | None  # float32, added by the norm after it, if not by the product
    attention_affine: Affine
    up: Product
    down: Product
    down_bias: Tensor | None
    mlp_affine: Affine


class Workspace:
    """Buffers for as many rows as a batch may have, reused by every layer and batch."""

    def __init__(
        self, rows: int, spec: ModelSpec, *, dtype: torch.dtype, device: torch.device, packed: bool,
        gated: bool,
    ) -> None:  # fmt: skip
        """Make them; ``gated``: nothing lies between the product up and its gated values."""

        def make(width: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros((rows, width), dtype=dtype, device=device)

        self.rows = rows
        self.x_TD = make(spec.dim, torch.float32 if packed else dtype)
        self.qkv_TE = make(3 * spec.dim, torch.float32 if packed else dtype)
        self.a_TD = make(spec.dim)
        self.u_T2F = make(0 if packed or gated else 2 * spec.ffn)
        self.h_TF = make(spec.ffn)


class MosaicBertEngine:
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
        """Place the weights; the parameters are those of ``Esm2Engine``."""
        self._spec = spec
        self.fused = fused if dtype == torch.bfloat16 else None
        self._device, self._dtype, self._ops = device, dtype, ops
        self._packed = hasattr(ops, "PackedProduct")

        def get(name: str) -> Tensor:
            return tensors[name].to(device, torch.float32)

        def affine(name: str) -> Affine:
            return get(f"{name}.weight"), get(f"{name}.bias")

        def to_stream(name: str, bias_D: Tensor) -> tuple[Product, Tensor | None]:
            """A product that is added to the stream, and what the norm after it is to add."""
            weight = get(f"{name}.weight")
            if self._packed:
                return ops.PackedProduct(weight, dtype=dtype, bias_O=bias_D), None
            return PlainProduct(weight, dtype=dtype), bias_D

        def gated(name: str) -> Product:
            if self._packed:
                product: Product = ops.GatedProduct(
                    get(f"{name}.weight"), dtype=dtype, activation="gelu"
                )
                return product
            weight = get(f"{name}.weight")
            if self.fused is not None:
                weight = weight[plain.gated_order(spec.ffn).to(device)]
            return PlainProduct(weight, dtype=dtype)

        # Records are single sentences, so every token is of type 0. The table holds what the first
        # norm makes of each row: a token's embedding depends on its id alone.
        words = get("embeddings.word_embeddings.weight")
        words = words + get("embeddings.token_type_embeddings.weight")[0]
        words = torch.nn.functional.layer_norm(
            words, (spec.dim,), *affine("embeddings.LayerNorm"), EPS
        )
        self._table = words.to(torch.float32 if self._packed else dtype)
        self._layers = []
        for number in range(spec.layer or spec.layers):
            at = f"encoder.layer.{number}"
            qkv, values_bias = self._qkv(
                get(f"{at}.attention.self.Wqkv.weight"), get(f"{at}.attention.self.Wqkv.bias")
            )
            attended = f"{at}.attention.output"
            out_DD, dense_bias = get(f"{attended}.dense.weight"), get(f"{attended}.dense.bias")
            dense_bias = dense_bias + times(out_DD, values_bias)
            out, out_bias = to_stream(f"{attended}.dense", dense_bias)
            down, down_bias = to_stream(f"{at}.mlp.wo", get(f"{at}.mlp.wo.bias"))
            self._layers.append(
                _Layer(
                    qkv=qkv,
                    out=out,
                    out_bias=out_bias,
                    attention_affine=affine(f"{attended}.LayerNorm"),
                    up=gated(f"{at}.mlp.gated_layers"),
                    down=down,
                    down_bias=down_bias,
                    mlp_affine=affine(f"{at}.mlp.layernorm"),
                )
            )
        self._slopes = torch.tensor(alibi_slopes(spec.heads), dtype=torch.float32, device=device)

    def _qkv(self, weight_ED: Tensor, bias_E: Tensor) -> tuple[Product, Tensor]:
        """The projection, and the bias of the values, which it leaves out."""
        dim = self._spec.dim
        factor_E = torch.ones_like(bias_E)
        factor_E[:dim] = self._ops.QUERY_FACTOR / math.sqrt(dim // self._spec.heads)
        of_queries_E = torch.cat((bias_E[:dim] * factor_E[:dim], torch.zeros_like(bias_E[dim:])))
        kind = self._ops.PackedProduct if self._packed else PlainProduct
        product = kind(weight_ED * factor_E[:, None], dtype=self._dtype, bias_O=of_queries_E)
        return product, bias_E[2 * dim :]

    def workspace(self, rows: int) -> Workspace:
        """Make the buffers for batches of up to ``rows`` rows."""
        return Workspace(
            rows, self._spec, dtype=self._dtype, device=self._device, packed=self._packed,
            gated=self.fused is not None,
        )  # fmt: skip

    def __call__(self, layout: BatchLayout, work: Workspace, out_nD: Tensor) -> None:
        """Encode a batch and write the row of each record, float32 (n, D x poolings)."""
        if self._spec.pooling in MEANS:
            self._ops.pool(self._stream(layout, work), out_nD, layout)
        else:
            pool_groups(self.states(layout, work), out_nD, layout)

    def states(self, layout: BatchLayout, work: Workspace) -> Tensor:
        """Encode a batch; return the hidden states of the chosen layer, float32 (T, D)."""
        return self._stream(layout, work).float()

    def _stream(self, layout: BatchLayout, work: Workspace) -> Tensor:
        ops, spec, rows = self._ops, self._spec, layout.rows
        x_TD, a_TD, qkv_TE = work.x_TD[:rows], work.a_TD[:rows], work.qkv_TE[:rows]
        u_T2F, h_TF = work.u_T2F[:rows], work.h_TF[:rows]
        attend = attention_of(ops, self.fused)
        torch.index_select(self._table, 0, layout.ids, out=x_TD)
        for layer in self._layers:
            layer.qkv(self._input(x_TD, a_TD), qkv_TE)
            attend(qkv_TE, a_TD, layout, heads=spec.heads, slopes=self._slopes)
            layer.out.add(a_TD, x_TD)
            ops.norm(
                x_TD, x_TD, eps=EPS, shift_D=layer.out_bias,
                affine=layer.attention_affine,
            )  # fmt: skip
            if self._packed:
                layer.up(self._input(x_TD, a_TD), h_TF)
            elif self.fused is not None:
                self.fused.project(x_TD, layer.up.weight_OI, h_TF, activation="geglu")
            else:
                layer.up(x_TD, u_T2F)
                ops.geglu(u_T2F, h_TF)
            layer.down.add(h_TF, x_TD)
            ops.norm(x_TD, x_TD, eps=EPS, shift_D=layer.down_bias, affine=layer.mlp_affine)
        return x_TD

    def _input(self, x_TD: Tensor, a_TD: Tensor) -> Tensor:
        """The stream as products take it: rounded to ``a``, if it is kept in float32."""
        return x_TD if x_TD.dtype == self._dtype else a_TD.copy_(x_TD)


def alibi_slopes(heads: int) -> list[float]:
    """Slope of each head (Press et al. 2022, arXiv:2108.12409): geometric, from 2^(-8/n).

    For a number of heads that is not a power of two: the sequence of the next lower power, then
    every other term, from the first, of the sequence of twice that power.
    """
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-8.0 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]


# Published name of a tensor of a layer -> ours.
_LAYER = {
    "attention.self.Wqkv.weight": "qkv.weight",
    "attention.self.Wqkv.bias": "qkv.bias",
    "attention.output.dense.weight": "out.weight",
    "attention.output.dense.bias": "out.bias",
    "attention.output.LayerNorm.weight": "attention_norm.weight",
    "attention.output.LayerNorm.bias": "attention_norm.bias",
    "mlp.gated_layers.weight": "up.weight",
    "mlp.wo.weight": "down.weight",
    "mlp.wo.bias": "down.bias",
    "mlp.layernorm.weight": "mlp_norm.weight",
    "mlp.layernorm.bias": "mlp_norm.bias",
}


def naming(spec: ModelSpec) -> Naming:
    """Name the tensors of the published checkpoints that the encoder uses."""
    dim, ffn = spec.dim, spec.ffn
    of_part: dict[str, tuple[int, ...]] = {
        "qkv.weight": (3 * dim, dim),
        "qkv.bias": (3 * dim,),
        "out.weight": (dim, dim),
        "up.weight": (2 * ffn, dim),
        "down.weight": (dim, ffn),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (spec.vocab, dim),
        "embeddings.token_type_embeddings.weight": (2, dim),
        "embeddings.LayerNorm.weight": (dim,),
        "embeddings.LayerNorm.bias": (dim,),
    }
    for number in range(spec.layers):
        for theirs, ours in _LAYER.items():
            shapes[f"encoder.layer.{number}.{theirs}"] = of_part.get(ours, (dim,))
    return Naming(
        prefix="bert.",
        shapes=shapes,
        unused=re.compile(r"embeddings\.(position_ids|token_type_ids)|(pooler|cls|classifier)\..+"),
    )
