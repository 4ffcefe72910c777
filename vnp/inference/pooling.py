"""From hidden states to one row per record, summed in float32.

``mean_residues_1024`` (ESM-2): the mean over residues, the first and last token (<cls>, <eos>)
left out, of at most the first 1024 residues.
``mean_all_tokens`` (DNABERT): the mean over all tokens, [CLS] and [SEP] included.
Both are VirNucPro's (Brief Bioinform 2025, bbaf224).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vnp.inference.plain_attention import Layout
from vnp.models.registry import Pooling

MOST_RESIDUES = 1024


def pooled_span(pooling: Pooling, length: int) -> tuple[int, int]:
    """Which tokens of a record of ``length`` tokens enter its mean, as [first, last)."""
    if pooling == "mean_all_tokens":
        return 0, length
    return 1, min(length - 1, 1 + MOST_RESIDUES)


def pool(x_TD: Tensor, layout: Layout, pooling: Pooling) -> Tensor:
    """Average hidden states over each record, in float32.

    Parameters
    ----------
    x_TD : Tensor
        Hidden states of packed tokens; rows past the layout's tokens are not read.
    layout : Layout
        Where the records lie.
    pooling : {"mean_residues_1024", "mean_all_tokens"}
        The rule.

    Returns
    -------
    Tensor
        float32, shape (n, D), in the order of the batch.
    """
    rows = []
    for group in layout.groups:
        first, last = pooled_span(pooling, group.length)
        stop = group.start + group.count * group.length
        x_nLD = x_TD[group.start : stop].view(group.count, group.length, -1)
        rows.append(x_nLD[:, first:last].mean(dim=1, dtype=torch.float32))
    return torch.cat(rows)
