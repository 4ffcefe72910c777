"""The fused operations of the engine in plain torch: what the kernels must compute.

Slow and short. It runs anywhere, and every kernel of ``kernels`` is tested against it.

Shapes: T rows (tokens and padding), D hidden width, F inner width, E = 3 * D, n records.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from vnp.inference.batch_layout import Spans, Turn

name, version = "plain torch", torch.__version__


def norm(
    x_TD: Tensor,
    out_TD: Tensor,
    *,
    eps: float,
    delta_TD: Tensor | None = None,
    shift_D: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
    scale: float = 1.0,
) -> None:
    """Add to the residual stream and write its layer norm.

    ``x += delta``, in place; then ``out = scale * norm(x + shift)``, with weight and bias if
    ``affine`` has them. ``out`` may be ``x``.
    """
    value = x_TD.float()
    if delta_TD is not None:
        value = value + delta_TD.float()
        x_TD.copy_(value)
    if shift_D is not None:
        value = value + shift_D
    weight, bias = affine or (None, None)
    out_TD.copy_(functional.layer_norm(value, value.shape[1:], weight, bias, eps) * scale)


def rstd(x_TD: Tensor, out_T: Tensor, *, eps: float, shift_D: Tensor) -> None:
    """Write what a layer norm of ``x + shift`` multiplies each row by, float32: 1 / deviation."""
    out_T.copy_(torch.rsqrt((x_TD.float() + shift_D).var(dim=1, correction=0) + eps))


def gelu(
    u_TF: Tensor,
    out_TF: Tensor,
    *,
    bias_F: Tensor,
    standard: tuple[Tensor, Tensor] | None = None,
    scale_F: Tensor | None = None,
) -> None:
    """Write ``gelu(u + bias) * scale``, with the exact (erf) GELU. ``out`` may be ``u``.

    With ``standard`` = (rstd_T, lead_F), ``(u + lead) * rstd`` takes the place of ``u``: it makes
    the product of a raw stream that of a standardised one.
    """
    value = u_TF.float()
    if standard is not None:
        rstd_T, lead_F = standard
        value = (value + lead_F) * rstd_T[:, None]
    value = functional.gelu(value + bias_F)
    out_TF.copy_(value if scale_F is None else value * scale_F)


def geglu(u_T2F: Tensor, out_TF: Tensor) -> None:
    """Write ``gelu(gate) * value``; the gate is the first half of a row, the value the second."""
    gate, value = u_T2F.float().chunk(2, dim=1)
    out_TF.copy_(functional.gelu(gate) * value)


def turn(qkv_TE: Tensor, how: Turn, *, bias_E: Tensor) -> None:
    """Add the bias to the first columns and turn each head of them by its row's position, in place.

    A head's columns are halves of pairs: ``(low, high)`` becomes
    ``(low * cos - high * sin, high * cos + low * sin)``.
    """
    part = qkv_TE[:, : how.columns]
    part.copy_(_turned(part.float() + bias_E[: how.columns], how))


def project(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    bias_O: Tensor,
    weight_scale_O: Tensor | None = None,
    standard: tuple[Tensor, Tensor] | None = None,
    turn: Turn | None = None,
    scale_O: Tensor | None = None,
) -> None:
    """Write a product and what follows it: scales, bias, and a turn or else GELU.

    Parameters
    ----------
    a_TI, weight_OI
        bfloat16 or fp8. Their product is rounded to bfloat16 first, as it would be if it were
        written.
    bias_O
        float32.
    weight_scale_O
        float32; of weights in fp8.
    standard
        See ``gelu``.
    turn
        See ``turn``; without it GELU is taken.
    scale_O
        float32; what comes out of GELU is multiplied by it before it is written in fp8.
    """
    value = (a_TI.float() @ weight_OI.float().t()).to(torch.bfloat16).float()
    if weight_scale_O is not None:
        value = value * weight_scale_O
    if standard is not None:
        rstd_T, lead_O = standard
        value = (value + lead_O) * rstd_T[:, None]
    value = value + bias_O
    if turn is None:
        value = functional.gelu(value)
    else:
        turned = _turned(value[:, : turn.columns], turn)
        value = torch.cat((turned, value[:, turn.columns :]), dim=1)
    out_TO.copy_(value if scale_O is None else value * scale_O)


def attend(
    qkv_TE: Tensor,
    out_TD: Tensor,
    spans: Spans,
    *,
    heads: int,
    slopes: Tensor | None = None,
    scale_D: Tensor | None = None,
) -> None:
    """Attention within each record, of queries that were scaled.

    Parameters
    ----------
    qkv_TE
        Queries, keys and values side by side, ready. Queries have log2(e) / sqrt(K) in them: two
        to the power of a score is what softmax takes.
    out_TD
        Contexts; rows of padding are not written.
    spans
        The records.
    heads
        Number of heads.
    slopes
        float32 (heads,): scores fall by slope * distance (ALiBi).
    scale_D
        float32; contexts are multiplied by it before they are written.
    """
    width = out_TD.shape[1]
    head = width // heads
    for start, length, first in spans.tiles.tolist():
        if first:
            continue  # tiles of a record follow each other; the first stands for all
        qkv = qkv_TE[start : start + length].float()
        q, k, v = qkv.view(length, 3, heads, head).permute(1, 2, 0, 3)  # each (heads, L, K)
        score = q @ k.transpose(1, 2) * math.log(2)
        if slopes is not None:
            position = torch.arange(length, device=qkv.device)
            distance = (position[:, None] - position).abs()
            score = score - slopes[:, None, None] * distance
        share = torch.softmax(score, dim=-1)
        context = (share @ v).transpose(0, 1).reshape(length, width)
        out_TD[start : start + length] = (context if scale_D is None else context * scale_D).to(
            out_TD.dtype
        )


def pool(
    x_TD: Tensor,
    out_nD: Tensor,
    spans: Spans,
    *,
    eps: float = 0.0,
    shift_D: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Average over the bounds of each record, in float32.

    With ``shift_D`` and ``affine``, of ``norm(x + shift)`` with weight and bias; else of ``x``.
    """
    for record, (first, last) in enumerate(spans.bounds.tolist()):
        value = x_TD[first:last].float()
        if affine is not None and shift_D is not None:
            value = functional.layer_norm(value + shift_D, value.shape[1:], *affine, eps)
        out_nD[record] = value.mean(dim=0)


def _turned(x_TC: Tensor, how: Turn) -> Tensor:
    cos, sin = (table[how.positions.long()].float()[:, None] for table in how.tables)
    low, high = x_TC.view(len(x_TC), -1, 2, cos.shape[-1]).unbind(dim=2)
    return torch.stack((low * cos - high * sin, high * cos + low * sin), dim=2).flatten(1)
