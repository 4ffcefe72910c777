"""Attention over packed tokens, the one part of a transformer that knows where records end.

Everything else in a layer treats each token alone, so only attention needs the layout of a batch.
It is a strategy: given a layout, it returns the function that every layer then applies to its
packed queries, keys and values. The two here are plain and exact, for any device; a faster kernel
takes their place by having the same signature.

Shapes: T tokens of a batch, D hidden width, H heads, K = D / H width of a head, n records of a
group, L tokens of each, E = 3 * D queries, keys and values side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vnp.models.packing import Batch, Group

# Most elements of an ALiBi bias made at once: 256 MiB in float32.
_BIAS_ELEMENTS = 1 << 26


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the records of a batch lie among its packed tokens, on the device."""

    groups: tuple[Group, ...]  # neighbouring records of equal length, in order
    tokens: int  # T; the groups cover [0, T)
    positions: Tensor  # int64 (T,), position of each token in its record, from 0
    starts: Tensor  # int32 (n + 1,), first token of each record, then T ("cu_seqlens")
    longest: int  # tokens of the longest record


Attend = Callable[[Tensor], Tensor]  # packed qkv_TE -> context_TD
Attention = Callable[[Layout], Attend]  # made once per batch, applied in every layer


def layout_of(batch: Batch, *, device: torch.device) -> Layout:
    """Describe a batch on a device."""
    lengths = torch.from_numpy(batch.lengths)
    starts = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=starts[1:])
    tokens = int(starts[-1])
    positions = torch.arange(tokens) - torch.repeat_interleave(starts[:-1], lengths)
    return Layout(
        groups=batch.groups,
        tokens=tokens,
        positions=positions.to(device, non_blocking=True),
        starts=starts.to(device, torch.int32, non_blocking=True),
        longest=int(lengths.max()),
    )


class RotaryAttention:
    """Scaled dot-product attention with rotary positions (Su et al. 2021, arXiv:2104.09864).

    Queries and keys are turned in float32 by the angle position / 10000^(2i / K), the i-th number
    of a head paired with the (i + K / 2)-th, as ESM-2 has it.
    """

    name = "rotary sdpa, groups of equal length"

    def __init__(self, *, heads: int, head_dim: int) -> None:
        self.heads = heads
        self.head_dim = head_dim
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        self._frequencies = 1.0 / (10000.0**exponents)

    def __call__(self, layout: Layout) -> Attend:
        """Prepare the angles of a batch."""
        self._frequencies = self._frequencies.to(layout.positions.device)
        angles = layout.positions.float()[:, None] * self._frequencies  # (T, K / 2)
        angles = torch.cat((angles, angles), dim=-1)[:, None, None, :]  # (T, 1, 1, K)
        cos, sin = angles.cos(), angles.sin()

        def attend(qkv_TE: Tensor) -> Tensor:
            qkv = qkv_TE.view(layout.tokens, 3, self.heads, self.head_dim)
            qk = qkv[:, :2].float()
            low, high = qk.chunk(2, dim=-1)
            turned = (qk * cos + torch.cat((-high, low), dim=-1) * sin).to(qkv.dtype)
            return _by_group(layout, turned[:, 0], turned[:, 1], qkv[:, 2], _sdpa)

        return attend


class AlibiAttention:
    """Scaled dot-product attention with linear biases (Press et al. 2022, arXiv:2108.12409).

    The score of tokens i and j of head h is lowered by slope_h * |i - j|, in both directions.
    """

    name = "alibi sdpa, groups of equal length"

    def __init__(self, *, heads: int, head_dim: int) -> None:
        self.heads = heads
        self.head_dim = head_dim
        self._slopes = torch.tensor(alibi_slopes(heads), dtype=torch.float32)

    def __call__(self, layout: Layout) -> Attend:
        """Prepare the slopes for a batch; biases are made once per length, not once per layer."""
        self._slopes = self._slopes.to(layout.positions.device)
        biases: dict[int, Tensor] = {}

        def attend(qkv_TE: Tensor) -> Tensor:
            qkv = qkv_TE.view(layout.tokens, 3, self.heads, self.head_dim)

            def with_bias(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                length = q.shape[2]
                rows = max(1, min(length, _BIAS_ELEMENTS // (self.heads * length)))
                if rows < length:  # too large to keep: some queries at a time
                    return torch.cat(
                        [
                            _sdpa(q[:, :, at : at + rows], k, v, self._bias(at, rows, length, q))
                            for at in range(0, length, rows)
                        ],
                        dim=2,
                    )
                if length not in biases:
                    biases[length] = self._bias(0, length, length, q)
                return _sdpa(q, k, v, biases[length])

            return _by_group(layout, qkv[:, 0], qkv[:, 1], qkv[:, 2], with_bias)

        return attend

    def _bias(self, start: int, rows: int, length: int, like: Tensor) -> Tensor:
        """Bias of queries ``start`` to ``start + rows`` against all keys, (H, rows, L)."""
        key = torch.arange(length, device=like.device)
        distance = (key[start : start + rows, None] - key).abs()
        return (-self._slopes[:, None, None] * distance).to(like.dtype)


def alibi_slopes(heads: int) -> list[float]:
    """Slope of each head: a geometric sequence from 2^(-8/n), by the ALiBi paper's rule.

    For a number of heads that is no power of two: the sequence of the next lower power, then every
    other term, from the first, of the sequence of twice that power.
    """
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-8.0 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]


def _sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _by_group(
    layout: Layout,
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    attention: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Run attention on each group of equal lengths, a plain (n, H, L, K) batch with no mask."""
    width = math.prod(v_THK.shape[1:])
    contexts = []
    for group in layout.groups:
        stop = group.start + group.count * group.length
        q, k, v = (
            x[group.start : stop].view(group.count, group.length, *x.shape[1:]).transpose(1, 2)
            for x in (q_THK, k_THK, v_THK)
        )
        contexts.append(attention(q, k, v).transpose(1, 2).reshape(-1, width))
    return torch.cat(contexts) if len(contexts) > 1 else contexts[0]
