"""The fused operations of the engine in plain torch: on the CPU, in float32, on older devices.

It says what the kernels of the other modules must compute, and they are tested against it. Tensors
that are float32 are not copied on their way, and results go where the caller wants them: on a CPU
the first touch of fresh memory costs as much as the arithmetic.

Shapes: T rows (tokens and padding), D hidden width, F inner width, E = 3 * D, n records.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vnp.inference.batch_layout import BatchLayout, Rotary, pooled_span
from vnp.inference.ops import torch_int8 as int8
from vnp.inference.ops.torch_int8 import multiply, scaled_product, write

__all__ = [
    "GATED", "QUERY_FACTOR", "Activation", "attend", "gated_order", "geglu", "gelu", "int8",
    "multiply", "norm", "pool", "project", "qk_norm", "qk_rstd", "rotary", "rstd", "swiglu",
]  # fmt: skip

name, version = "plain torch", torch.__version__

QUERY_FACTOR = 1.0  # softmax takes e to the power of a score

GATED = 128  # gates that lie together, for ``project``
Activation = Literal["gelu", "geglu", "swiglu"]

_BIAS_ELEMENTS = 1 << 26  # most of ALiBi's biases made at once: 256 MiB in float32


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
        x_TD.copy_(value + delta_TD.float())
        value = x_TD.float()
    if shift_D is not None:
        value = torch.add(value, shift_D, out=out_TD if out_TD.dtype == torch.float32 else None)
    weight, bias = affine or (None, None)
    value = functional.layer_norm(value, value.shape[1:], weight, bias, eps)
    out_TD.copy_(value if scale == 1.0 else value * scale)


def rstd(x_TD: Tensor, out_T: Tensor, *, eps: float, shift_D: Tensor) -> None:
    """Write what a layer norm of ``x + shift`` multiplies each row by, float32: 1 / deviation."""
    out_T.copy_(torch.rsqrt((x_TD.float() + shift_D).var(dim=1, correction=0) + eps))


def gelu(
    u_TF: Tensor,
    out_TF: Tensor,
    *,
    bias_F: Tensor | None,
    standard: tuple[Tensor, Tensor | None] | None = None,
    scale_F: Tensor | None = None,
) -> None:
    """Write ``gelu(u + bias) * scale``, with the exact (erf) GELU. ``out`` may be ``u``.

    Where ``out`` is int8, in ``scale`` steps to 1 above the least value of GELU.

    With ``standard`` = (rstd_T, lead_F), ``(u + lead) * rstd`` takes the place of ``u``: it makes
    the product of a raw stream that of a standardised one. A lead of zeros may be left out. Here
    alone the bias may be in ``u``.
    """
    if bias_F is None and u_TF.dtype == out_TF.dtype == torch.float32:
        assert standard is None
        assert scale_F is None
        torch.ops.aten.gelu.out(u_TF, out=out_TF)
        return
    value = u_TF.float()
    if standard is not None:
        value = _standardised(value, standard)
    value = functional.gelu(value if bias_F is None else value + bias_F)
    write(value, out_TF, scale_F)


def geglu(u_T2F: Tensor, out_TF: Tensor) -> None:
    """Write ``gelu(gate) * value``; the gate is the first half of a row, the value the second."""
    gate, value = u_T2F.float().chunk(2, dim=1)
    if out_TF.dtype == torch.float32:
        torch.ops.aten.gelu.out(gate, out=out_TF)
        out_TF.mul_(value)
        return
    out_TF.copy_(functional.gelu(gate) * value)


def swiglu(
    u_T2F: Tensor,
    out_TF: Tensor,
    *,
    bias_2F: Tensor,
    rstd_T: Tensor | None = None,
) -> None:
    """Write ``silu(gate) * value`` of ``u + bias``; the gate is the first half of a row.

    With ``rstd_T``, ``u * rstd`` takes the place of ``u``.
    """
    value = u_T2F.float()
    if rstd_T is not None:
        value = value * rstd_T[:, None]
    gate, other = (value + bias_2F).chunk(2, dim=1)
    out_TF.copy_(functional.silu(gate) * other)


def qk_norm(qkv_TE: Tensor, how: Rotary, *, weight_2D: Tensor, eps: float) -> None:
    """Norm queries and keys, each over all heads, multiply by the weight and rotate, in place.

    Their means are zero already.
    """
    part = qkv_TE[:, : how.columns]
    value = part.float().view(len(part), 2, -1)
    value = functional.rms_norm(value, value.shape[2:], eps=eps).flatten(1) * weight_2D
    part.copy_(_rotated(value, how))


def qk_rstd(squares_ST: Tensor, out_2T: Tensor, *, eps: float, dim: int) -> None:
    """Write what the norms of queries and of keys multiply a row by: 1 / deviation, float32.

    ``squares`` are those that ``project`` wrote, of queries in the upper half.
    """
    sums_2T = squares_ST.view(2, -1, squares_ST.shape[1]).sum(dim=1)
    torch.rsqrt(sums_2T / dim + eps, out=out_2T)


def rotary(qkv_TE: Tensor, how: Rotary, *, bias_E: Tensor | None) -> None:
    """Add the bias to the first columns and rotate each head by its row's position, in place.

    A head's columns are halves of pairs: ``(low, high)`` becomes
    ``(low * cos - high * sin, high * cos + low * sin)`` (Su et al. 2021, arXiv:2104.09864). Here
    alone the bias may be in ``qkv``, and pairs may be neighbours.
    """
    part = qkv_TE[:, : how.columns]
    if how.neighbours:
        assert bias_E is None
        if "factors" not in how.kept:
            cos, sin = (table[how.positions.long()] for table in how.tables)
            how.kept["factors"] = torch.complex(cos, sin)[:, None]
        pairs = part.view(len(part), -1, how.tables[0].shape[1], 2)
        torch.view_as_complex(pairs).mul_(how.kept["factors"])
        return
    value = part.float()
    if bias_E is not None:
        value = value + bias_E[: how.columns]
    part.copy_(_rotated(value, how))


def project(
    a_TI: Tensor,
    weight_OI: Tensor,
    out_TO: Tensor,
    *,
    bias_O: Tensor | None = None,
    weight_scale_O: Tensor | None = None,
    row_scale_T: Tensor | None = None,
    standard: tuple[Tensor, Tensor | None] | None = None,
    rotary: Rotary | None = None,
    scale_O: Tensor | None = None,
    activation: Activation = "gelu",
    norm: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Write a product and what follows it: scales, bias, and rotary positions or an activation.

    Parameters
    ----------
    a_TI, weight_OI
        bfloat16, fp8 or int8. Their product is rounded to bfloat16 first, as it would be if it
        were written.
    bias_O
        float32; None with ``geglu``, which has neither scales nor ``standard``.
    weight_scale_O
        float32; of quantised weights.
    row_scale_T
        float32; of rows that were quantised one by one.
    standard
        See ``gelu``.
    rotary
        See ``rotary``; without it an activation is taken.
    scale_O
        float32; what comes out of GELU is multiplied by it before it is written in fp8 or int8
        (see ``gelu``).
    activation
        ``geglu`` is ``gelu(gate) * value`` and ``swiglu`` is ``silu(gate) * value``, half as wide:
        outputs come as ``GATED`` gates, as many values, and so on (``gated_order``).
    norm
        With ``rotary``: weights (O,) that queries and keys are multiplied by after their norms, and
        where the sums of squares go, (S, T), both float32. What is left of the norms is to multiply
        by what ``qk_rstd`` makes of these sums. Rows of S are heads of queries, then of keys, each
        in two parts: the first quarter and third of its columns, and the others.
    """
    value = scaled_product(a_TI, weight_OI, weight_scale_O, row_scale_T)
    if standard is not None:
        value = _standardised(value, standard)
    if bias_O is not None:
        value = value + bias_O
    if activation != "gelu":
        gate, other = value.view(len(value), -1, 2, GATED).unbind(dim=2)
        open_ = functional.gelu(gate) if activation == "geglu" else functional.silu(gate)
        out_TO.copy_((open_ * other).flatten(1))
        return
    if norm is not None and rotary is not None:
        weight_O, squares_ST = norm
        half = rotary.tables[0].shape[1]
        quarters = value[:, : rotary.columns].view(len(value), -1, 2, 2, half // 2)
        squares_ST.copy_(quarters.square().sum(dim=(2, 4)).flatten(1).t())
        value = value * weight_O
    if rotary is None:
        value = functional.gelu(value)
    else:
        rotated = _rotated(value[:, : rotary.columns], rotary)
        value = torch.cat((rotated, value[:, rotary.columns :]), dim=1)
    write(value, out_TO, scale_O)


def gated_order(ffn: int) -> Tensor:
    """Order in which ``project`` takes the outputs of gates, then values: int64 (2F,)."""
    return torch.arange(2 * ffn).view(2, -1, GATED).transpose(0, 1).flatten()


def attend(
    qkv_TE: Tensor,
    out_TD: Tensor,
    layout: BatchLayout,
    *,
    heads: int,
    slopes: Tensor | None = None,
    scale_D: Tensor | None = None,
    rstd_2T: Tensor | None = None,
) -> None:
    """Attention within each record, of queries that were scaled.

    Parameters
    ----------
    qkv_TE
        Queries, keys and values side by side, ready. Queries have ``QUERY_FACTOR`` / sqrt(K) in
        them.
    out_TD
        Contexts; rows of padding are not written.
    layout
        The records.
    heads
        Number of heads.
    slopes
        float32 (heads,): scores fall by slope * distance (ALiBi).
    scale_D
        float32; contexts are multiplied by it before they are written.
    rstd_2T
        float32; what queries and keys are still to be multiplied by.
    """
    width = out_TD.shape[1]
    if rstd_2T is not None:
        qkv_TE = qkv_TE.float()
        for part, rstd_T in enumerate(rstd_2T):
            qkv_TE[:, part * width : (part + 1) * width].mul_(rstd_T[:, None])
    qkv = qkv_TE.view(len(qkv_TE), 3, heads, width // heads)
    for group in layout.groups:
        stop = group.start + group.count * group.length
        q, k, v = (
            qkv[group.start : stop, part].view(group.count, group.length, heads, -1).transpose(1, 2)
            for part in range(3)
        )  # each (n, H, L, K)
        step = group.length
        if slopes is not None:
            step = max(1, min(step, _BIAS_ELEMENTS // (heads * group.length)))
        # With biases too large to keep, some queries at a time.
        contexts = [
            functional.scaled_dot_product_attention(
                q[:, :, at : at + step], k, v, scale=1.0,
                attn_mask=None if slopes is None else _biases(
                    slopes, layout, at, min(step, group.length - at), group.length, q.dtype
                ),
            )
            for at in range(0, group.length, step)
        ]  # fmt: skip
        context = contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)
        out = out_TD[group.start : stop].view(group.count, group.length, heads, -1)
        context = context.transpose(1, 2)
        out.copy_(context if scale_D is None else context * scale_D.view(heads, -1))


def pool(
    x_TD: Tensor,
    out_nD: Tensor,
    layout: BatchLayout,
    *,
    eps: float = 0.0,
    shift_D: Tensor | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Average over the bounds of each record, in float32.

    With ``shift_D`` and ``affine``, of ``norm(x + shift)`` with weight and bias; else of ``x``.
    """
    value = x_TD.float()
    if affine is not None and shift_D is not None:
        value = functional.layer_norm(value + shift_D, value.shape[1:], *affine, eps)
    record = 0
    for group in layout.groups:
        first, last = pooled_span(layout.pooling, group.length)
        stop = group.start + group.count * group.length
        of_group = value[group.start : stop].view(group.count, group.length, -1)
        out_nD[record : record + group.count] = of_group[:, first:last].mean(dim=1)
        record += group.count


def _standardised(value_TO: Tensor, standard: tuple[Tensor, Tensor | None]) -> Tensor:
    rstd_T, lead_O = standard
    return (value_TO if lead_O is None else value_TO + lead_O) * rstd_T[:, None]


def _rotated(x_TC: Tensor, how: Rotary) -> Tensor:
    cos, sin = (table[how.positions.long()].float()[:, None] for table in how.tables)
    low, high = x_TC.view(len(x_TC), -1, 2, cos.shape[-1]).unbind(dim=2)
    out = torch.empty((len(x_TC), low.shape[1], 2, cos.shape[-1]), device=x_TC.device)
    torch.mul(low, cos, out=out[:, :, 0]).addcmul_(high, sin, value=-1)
    torch.mul(high, cos, out=out[:, :, 1]).addcmul_(low, sin)
    return out.flatten(1)


def _biases(
    slopes: Tensor, layout: BatchLayout, start: int, rows: int, length: int, dtype: torch.dtype
) -> Tensor:
    """ALiBi's biases of queries from ``start`` on against all keys, (H, rows, L).

    Those of a shorter record are a corner of those of the longest, which are made once a batch.
    """
    longest = layout.longest
    if len(slopes) * longest**2 > _BIAS_ELEMENTS:
        return _bias(slopes, start, rows, length).to(dtype)
    if "biases" not in layout.kept:
        layout.kept["biases"] = _bias(slopes, 0, longest, longest).to(dtype)
    biases: Tensor = layout.kept["biases"]
    return biases[:, start : start + rows, :length]


def _bias(slopes: Tensor, start: int, rows: int, length: int) -> Tensor:
    key = torch.arange(length, device=slopes.device)
    return -slopes[:, None, None] * (key[start : start + rows, None] - key).abs()
