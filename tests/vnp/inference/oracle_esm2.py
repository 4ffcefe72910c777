"""ESM-2 as plainly as torch has it, one record at a time; the implementation is held to it."""

import torch
from torch.nn import functional


def rotated(x_LHK):
    """Rotary positions (Su et al. 2021): column i of a head is paired with column i + K / 2."""
    length, _, head = x_LHK.shape
    frequencies = 1 / 10000 ** (torch.arange(0, head, 2).float() / head)
    angles = torch.arange(length).float()[:, None] * frequencies
    angles = torch.cat((angles, angles), dim=-1)[:, None]
    low, high = x_LHK.float().chunk(2, dim=-1)
    out = x_LHK.float() * angles.cos() + torch.cat((-high, low), dim=-1) * angles.sin()
    return out.to(x_LHK.dtype)


@torch.inference_mode()
def encode(spec, tensors, ids, *, dtype=torch.float32):
    """Hidden states (L, D) of one record after the final norm, in the dtype."""
    table = tensors["embeddings.word_embeddings.weight"].float() * 0.88  # token dropout

    def linear(x, name):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return functional.linear(x, weight.to(dtype), bias.to(dtype))

    def norm(x, name):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[1:], weight.to(dtype), bias.to(dtype), 1e-5)

    x_LD = table.to(dtype)[torch.as_tensor(ids).long()]
    for number in range(spec.layers):
        at = f"encoder.layer.{number}"
        a_LD = norm(x_LD, f"{at}.attention.LayerNorm")
        q, k, v = (
            linear(a_LD, f"{at}.attention.self.{part}").view(len(ids), spec.heads, -1)
            for part in ("query", "key", "value")
        )
        q, k, v = (x.transpose(0, 1)[None] for x in (rotated(q), rotated(k), v))
        context = functional.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).flatten(1)
        x_LD = x_LD + linear(context, f"{at}.attention.output.dense")
        inner = linear(norm(x_LD, f"{at}.LayerNorm"), f"{at}.intermediate.dense")
        x_LD = x_LD + linear(functional.gelu(inner), f"{at}.output.dense")
    return norm(x_LD, "encoder.emb_layer_norm_after")
