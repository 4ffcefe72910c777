"""Poolings of hidden states in plain torch: any of `vnp.models.pooling`, several side by side.

Engines have a fused mean (``ops.pool``); these serve every other pooling, and models that run
through transformers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vnp.inference.batch_layout import BatchLayout, pooled_span
from vnp.models.pooling import parts_of


def pool_groups(states_TD: Tensor, out_nP: Tensor, layout: BatchLayout) -> None:
    """Pool packed hidden states, float32 (T, D), into ``out``, float32 (n, D x parts)."""
    record = 0
    for group in layout.groups:
        stop = group.start + group.count * group.length
        of_group = states_TD[group.start : stop].view(group.count, group.length, -1)
        pooled = [
            reduced(part, of_group[:, slice(*pooled_span(part, group.length))])
            for part in parts_of(layout.pooling)
        ]
        out_nP[record : record + group.count] = torch.cat(pooled, dim=1)
        record += group.count


def pool_masked(states_nTD: Tensor, mask_nT: Tensor, pooling: str) -> Tensor:
    """Pool hidden states that are padded on the right.

    Parameters
    ----------
    states_nTD
        float32 (n, T, D).
    mask_nT
        bool (n, T): the tokens of the sequence, neither padding nor special ones.
    pooling
        See `vnp.models.pooling`.

    Returns
    -------
    float32 (n, D x parts)
    """
    chosen = mask_nT[:, :, None]
    count = mask_nT.sum(dim=1, keepdim=True).clamp(min=1).to(states_nTD.dtype)
    mean = (states_nTD * chosen).sum(dim=1) / count
    pooled = []
    for part in parts_of(pooling):
        if part == "mean":
            pooled.append(mean)
        elif part == "max":
            pooled.append(states_nTD.masked_fill(~chosen, -torch.inf).amax(dim=1))
        elif part == "std":
            squares = ((states_nTD - mean[:, None]) ** 2 * chosen).sum(dim=1)
            pooled.append((squares / count).sqrt())
        else:
            pooled.append(states_nTD[:, 0])
    return torch.cat(pooled, dim=1)


def reduced(part: str, states_nTD: Tensor) -> Tensor:
    """Pool tokens (n, T, D) that all enter; (n, D)."""
    if part == "max":
        return states_nTD.amax(dim=1)
    if part == "std":
        return states_nTD.std(dim=1, correction=0)
    return states_nTD.mean(dim=1)
