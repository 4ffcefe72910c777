"""MosaicBERT as plainly as it can be written: padded, with whole N x N bias matrices.

Written from the architecture's description (Portes et al. 2023, arXiv:2312.17482; ALiBi: Press et
al. 2022, arXiv:2108.12409), in float64 and one record, one head at a time where that is clearest.
The packed module is held to it.
"""

import math

import torch


def slopes(heads):
    """Slope of each head, straight from the ALiBi paper: 2^(-8/n), 2^(-16/n), ..."""

    def of_power(n):
        first = 2 ** (-8 / n)
        return [first ** (k + 1) for k in range(n)]

    if math.log2(heads) == int(math.log2(heads)):
        return of_power(heads)
    below = 2 ** int(math.log2(heads))
    return of_power(below) + of_power(2 * below)[0::2][: heads - below]


def layer_norm(x, weight, bias, eps=1e-12):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def encode(state, records, *, layers, heads):
    """Encode records padded to the longest; returns a list of (length, dim) float64 tensors.

    Parameters
    ----------
    state : dict
        Tensors under their published names, less ``bert.``.
    records : list of list of int
        Token ids of each record.
    """
    state = {name: tensor.double() for name, tensor in state.items()}
    longest = max(map(len, records))
    ids = torch.tensor([record + [3] * (longest - len(record)) for record in records])
    real = torch.tensor([[i < len(record) for i in range(longest)] for record in records])

    x = state["embeddings.word_embeddings.weight"][ids]
    x = x + state["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, state["embeddings.LayerNorm.weight"], state["embeddings.LayerNorm.bias"])
    dim = x.shape[-1]
    head_dim = dim // heads
    distance = torch.tensor(
        [[abs(i - j) for j in range(longest)] for i in range(longest)], dtype=torch.float64
    )
    for number in range(layers):
        at = f"encoder.layer.{number}"
        qkv = x @ state[f"{at}.attention.self.Wqkv.weight"].T
        qkv = qkv + state[f"{at}.attention.self.Wqkv.bias"]
        q, k, v = qkv[..., :dim], qkv[..., dim : 2 * dim], qkv[..., 2 * dim :]
        contexts = []
        for head, slope in enumerate(slopes(heads)):
            mine = slice(head * head_dim, (head + 1) * head_dim)
            scores = q[..., mine] @ k[..., mine].transpose(-1, -2) / math.sqrt(head_dim)
            scores = scores - slope * distance
            scores = scores.masked_fill(~real[:, None, :], -torch.inf)
            contexts.append(scores.softmax(-1) @ v[..., mine])
        attended = torch.cat(contexts, dim=-1)
        attended = attended @ state[f"{at}.attention.output.dense.weight"].T
        attended = attended + state[f"{at}.attention.output.dense.bias"]
        x = layer_norm(
            attended + x,
            state[f"{at}.attention.output.LayerNorm.weight"],
            state[f"{at}.attention.output.LayerNorm.bias"],
        )
        both = x @ state[f"{at}.mlp.gated_layers.weight"].T
        half = both.shape[-1] // 2
        inner = gelu(both[..., :half]) * both[..., half:]
        out = inner @ state[f"{at}.mlp.wo.weight"].T + state[f"{at}.mlp.wo.bias"]
        x = layer_norm(
            out + x, state[f"{at}.mlp.layernorm.weight"], state[f"{at}.mlp.layernorm.bias"]
        )
    return [x[row, : len(record)] for row, record in enumerate(records)]
