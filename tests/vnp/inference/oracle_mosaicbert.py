"""MosaicBERT as plainly as torch has it, one record at a time; the implementation is held to it."""

import torch
from torch.nn import functional

from tests.vnp.inference.reference_mosaicbert import slopes


@torch.inference_mode()
def encode(spec, tensors, ids, *, dtype=torch.float32):
    """Hidden states (L, D) of one record, in the dtype."""

    def linear(x, name):
        bias = tensors.get(f"{name}.bias")
        weight = tensors[f"{name}.weight"].to(dtype)
        return functional.linear(x, weight, None if bias is None else bias.to(dtype))

    def norm(x, name):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[1:], weight.to(dtype), bias.to(dtype), 1e-12)

    table = tensors["embeddings.word_embeddings.weight"].float()
    table = table + tensors["embeddings.token_type_embeddings.weight"].float()[0]
    position = torch.arange(len(ids))
    distance = (position[:, None] - position).abs()
    bias_HLL = (-torch.tensor(slopes(spec.heads))[:, None, None] * distance).to(dtype)
    x_LD = norm(table.to(dtype)[torch.as_tensor(ids).long()], "embeddings.LayerNorm")
    for number in range(spec.layers):
        at = f"encoder.layer.{number}"
        qkv = linear(x_LD, f"{at}.attention.self.Wqkv").view(len(ids), 3, spec.heads, -1)
        q, k, v = (x.transpose(0, 1)[None] for x in qkv.unbind(1))
        context = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias_HLL)[0]
        out = linear(context.transpose(0, 1).flatten(1), f"{at}.attention.output.dense")
        x_LD = norm(x_LD + out, f"{at}.attention.output.LayerNorm")
        gate, value = linear(x_LD, f"{at}.mlp.gated_layers").chunk(2, dim=-1)
        out = linear(functional.gelu(gate) * value, f"{at}.mlp.wo")
        x_LD = norm(x_LD + out, f"{at}.mlp.layernorm")
    return x_LD
