"""ESM-2 (Lin et al. 2023, Science, ade2574) on packed tokens.

A pre-norm transformer encoder with rotary positions, exact GELU and a norm after the last layer.
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

from vnp.inference.plain_attention import Attend, Attention, Layout, RotaryAttention
from vnp.models.registry import ModelSpec
from vnp.models.weights import Naming

# ESM-2 was trained with 15 % of the tokens chosen, 80 % of these masked and masked ones zeroed.
# At inference nothing is masked, so embeddings are scaled by what was left on average:
# (1 - 0.15 * 0.8) / (1 - 0). With <mask> tokens in a sequence they would be zeroed and the
# divisor be 1 less their share; our tokens have none, as no letter is written <mask>.
TOKEN_DROPOUT_SCALE = 1.0 - 0.15 * 0.8


@dataclass(frozen=True, slots=True)
class Esm2Config:
    """Shapes of one ESM-2."""

    vocab: int  # rows of the token embedding
    dim: int  # D
    layers: int  # number of layers
    heads: int  # attention heads
    ffn: int  # F
    eps: float = 1e-5  # added to the variance in every layer norm

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """Take the shapes from the registry."""
        return cls(spec.vocab, spec.dim, spec.layers, spec.heads, spec.ffn)


class Layer(nn.Module):
    """One transformer layer: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: Esm2Config) -> None:
        super().__init__()
        dim, ffn = config.dim, config.ffn
        self.attention_norm = nn.LayerNorm(dim, eps=config.eps)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps=config.eps)
        self.up = nn.Linear(dim, ffn)
        self.down = nn.Linear(ffn, dim)

    def forward(self, x_TD: Tensor, attend: Attend) -> Tensor:
        """Apply the layer to the residual stream."""
        x_TD = x_TD + self.out(attend(self.qkv(self.attention_norm(x_TD))))
        h_TF = functional.gelu(self.up(self.mlp_norm(x_TD)))
        out_TD: Tensor = x_TD + self.down(h_TF)
        return out_TD


class Esm2(nn.Module):
    """The encoder: token ids to hidden states after the final layer norm."""

    def __init__(self, config: Esm2Config, *, attention: Attention) -> None:
        super().__init__()
        self.config = config
        self.attention = attention
        self.embed = nn.Embedding(config.vocab, config.dim)  # token dropout's scale is in it
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)

    def forward(self, ids_T: Tensor, layout: Layout) -> Tensor:
        """Encode packed tokens; returns hidden states x_TD in the module's dtype."""
        attend = self.attention(layout)
        x_TD = self.embed(ids_T)
        for layer in self.layers:
            x_TD = layer(x_TD, attend)
        final_TD: Tensor = self.norm(x_TD)
        return final_TD

    @classmethod
    def load(
        cls,
        config: Esm2Config,
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
            theirs, ours = f"encoder.layer.{number}", f"layers.{number}"
            for kind in ("weight", "bias"):
                qkv = [
                    tensors[f"{theirs}.attention.self.{part}.{kind}"].to(device, dtype)
                    for part in ("query", "key", "value")
                ]
                own[f"{ours}.qkv.{kind}"] = torch.cat(qkv)
                for their_part, our_part in _LAYER.items():
                    tensor = tensors[f"{theirs}.{their_part}.{kind}"]
                    own[f"{ours}.{our_part}.{kind}"] = tensor.to(device, dtype)
        # Scaled before it is rounded to a shorter dtype: one rounding instead of two.
        table = tensors["embeddings.word_embeddings.weight"].to(device, torch.float32)
        own["embed.weight"] = (table * TOKEN_DROPOUT_SCALE).to(dtype)
        for kind in ("weight", "bias"):
            own[f"norm.{kind}"] = tensors[f"encoder.emb_layer_norm_after.{kind}"].to(device, dtype)
        if attention is None:
            attention = RotaryAttention(heads=config.heads, head_dim=config.dim // config.heads)
        with torch.device("meta"):
            module = cls(config, attention=attention)
        module.load_state_dict(own, strict=True, assign=True)
        return module.requires_grad_(requires_grad=False).eval()


# Published name of a part of a layer -> ours; query, key and value become one matrix.
_LAYER = {
    "attention.LayerNorm": "attention_norm",
    "attention.output.dense": "out",
    "LayerNorm": "mlp_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
}


def naming(config: Esm2Config) -> Naming:
    """Name the tensors of the published checkpoints that the encoder uses."""
    dim, ffn = config.dim, config.ffn
    shapes: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (config.vocab, dim)}
    for number in range(config.layers):
        at = f"encoder.layer.{number}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            shapes |= {f"{at}.{part}.weight": (dim, dim), f"{at}.{part}.bias": (dim,)}
        for part, (rows, columns) in {
            "attention.output.dense": (dim, dim),
            "intermediate.dense": (ffn, dim),
            "output.dense": (dim, ffn),
        }.items():
            shapes |= {f"{at}.{part}.weight": (rows, columns), f"{at}.{part}.bias": (rows,)}
        for part in ("attention.LayerNorm", "LayerNorm"):
            shapes |= {f"{at}.{part}.weight": (dim,), f"{at}.{part}.bias": (dim,)}
    at = "encoder.emb_layer_norm_after"
    shapes |= {f"{at}.weight": (dim,), f"{at}.bias": (dim,)}
    return Naming(
        prefix="esm.",
        shapes=shapes,
        # Absolute positions are in the published files though rotary models never read them.
        unused=re.compile(
            r"embeddings\.(position_ids|position_embeddings\.weight)"
            r"|encoder\.layer\.(\d+|\*)\.attention\.self\.rotary_embeddings\.inv_freq"
            r"|rotary_embeddings\.inv_freq"
            r"|(pooler|lm_head|contact_head|classifier)\..+"
        ),
    )
