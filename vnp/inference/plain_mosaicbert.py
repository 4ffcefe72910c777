"""MosaicBERT, the architecture of DNABERT-2 and DNABERT-S, on packed tokens.

BERT with post-norm layers, linear attention biases in place of positions and gated linear units
(Portes et al. 2023, arXiv:2312.17482; Zhou et al. 2023, arXiv:2306.15006).
Shapes: T tokens of a batch, D hidden width, F inner width, E = 3 * D.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from vnp.inference.plain_attention import AlibiAttention, Attend, Attention, Layout
from vnp.models.registry import ModelSpec
from vnp.models.weights import Naming


@dataclass(frozen=True, slots=True)
class MosaicBertConfig:
    """Shapes of one MosaicBERT."""

    vocab: int  # rows of the token embedding
    dim: int  # D
    layers: int  # number of layers
    heads: int  # attention heads
    ffn: int  # F
    eps: float = 1e-12  # added to the variance in every layer norm

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """Take the shapes from the registry."""
        return cls(spec.vocab, spec.dim, spec.layers, spec.heads, spec.ffn)


class Layer(nn.Module):
    """One transformer layer: norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, config: MosaicBertConfig) -> None:
        super().__init__()
        dim, ffn = config.dim, config.ffn
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=config.eps)
        self.up = nn.Linear(dim, 2 * ffn, bias=False)  # gate in the first half, value in the second
        self.down = nn.Linear(ffn, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps=config.eps)

    def forward(self, x_TD: Tensor, attend: Attend) -> Tensor:
        """Apply the layer to the residual stream."""
        x_TD = self.attention_norm(x_TD + self.out(attend(self.qkv(x_TD))))
        gate_TF, value_TF = self.up(x_TD).chunk(2, dim=-1)
        h_TF = functional.gelu(gate_TF) * value_TF
        out_TD: Tensor = self.mlp_norm(x_TD + self.down(h_TF))
        return out_TD


class MosaicBert(nn.Module):
    """The encoder: token ids to hidden states of the last layer."""

    def __init__(self, config: MosaicBertConfig, *, attention: Attention) -> None:
        super().__init__()
        self.config = config
        self.attention = attention
        self.embed = nn.Embedding(config.vocab, config.dim)  # the token type's row is added to it
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, ids_T: Tensor, layout: Layout) -> Tensor:
        """Encode packed tokens; returns hidden states x_TD in the module's dtype."""
        attend = self.attention(layout)
        x_TD: Tensor = self.norm(self.embed(ids_T))
        for layer in self.layers:
            x_TD = layer(x_TD, attend)
        return x_TD

    @classmethod
    def load(
        cls,
        config: MosaicBertConfig,
        tensors: Mapping[str, Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        attention: Attention | None = None,
    ) -> Self:
        """Build the module from tensors under their canonical names (see ``naming``).

        ``attention`` defaults to the plain one, which runs on any device.
        """
        own: dict[str, Tensor] = {}
        for number in range(config.layers):
            for theirs, ours in _LAYER.items():
                name = f"encoder.layer.{number}.{theirs}"
                own[f"layers.{number}.{ours}"] = tensors[name].to(device, dtype)
        # Records are single sentences, so every token is of type 0.
        words = tensors["embeddings.word_embeddings.weight"].to(device, torch.float32)
        types = tensors["embeddings.token_type_embeddings.weight"].to(device, torch.float32)
        own["embed.weight"] = (words + types[0]).to(dtype)
        for kind in ("weight", "bias"):
            own[f"norm.{kind}"] = tensors[f"embeddings.LayerNorm.{kind}"].to(device, dtype)
        if attention is None:
            attention = AlibiAttention(heads=config.heads, head_dim=config.dim // config.heads)
        with torch.device("meta"):
            module = cls(config, attention=attention)
        module.load_state_dict(own, strict=True, assign=True)
        return module.requires_grad_(requires_grad=False).eval()


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


def naming(config: MosaicBertConfig) -> Naming:
    """Name the tensors of the published checkpoints that the encoder uses."""
    dim, ffn = config.dim, config.ffn
    of_part: dict[str, tuple[int, ...]] = {
        "qkv.weight": (3 * dim, dim),
        "qkv.bias": (3 * dim,),
        "out.weight": (dim, dim),
        "up.weight": (2 * ffn, dim),
        "down.weight": (dim, ffn),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab, dim),
        "embeddings.token_type_embeddings.weight": (2, dim),
        "embeddings.LayerNorm.weight": (dim,),
        "embeddings.LayerNorm.bias": (dim,),
    }
    for number in range(config.layers):
        for theirs, ours in _LAYER.items():
            shapes[f"encoder.layer.{number}.{theirs}"] = of_part.get(ours, (dim,))
    return Naming(
        prefix="bert.",
        shapes=shapes,
        unused=re.compile(r"embeddings\.(position_ids|token_type_ids)|(pooler|cls|classifier)\..+"),
    )
