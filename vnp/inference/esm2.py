"""ESM-2 (Lin et al. 2023, Science, ade2574) on packed tokens, in few passes a layer.

A pre-norm transformer encoder with rotary positions, exact GELU and a norm after the last layer.

The layer is rewritten, not approximated:

- What ``projections`` says of norms, biases, rotary positions and GELU.
- The bias of ``out`` and ``down`` is the same for every token, and so is what the bias of the
  values adds to a context, as shares sum to one. They are left out of the residual stream; each
  norm adds the sum of those so far (``shift``). Then a product itself adds to the stream, in
  bfloat16 with one rounding.
- Queries come out of their projection times ``ops.QUERY_FACTOR`` / sqrt(K).

Shapes: T rows of a batch, D hidden width, F inner width, E = 3 * D, n records, K = D / heads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vnp.inference import int8
from vnp.inference.batch_layout import BatchLayout, Rotary
from vnp.inference.calibration import Calibration
from vnp.inference.linear import FP8, Product, bound_scale, times
from vnp.inference.pooling import pool_groups
from vnp.inference.projections import Arithmetic, Folded, Layer, Projection, Stream, Watch
from vnp.models.pooling import MEANS
from vnp.models.spec import ModelSpec
from vnp.models.weights import Naming

PADDING_ID = 1  # <pad>
EPS = 1e-5  # added to the variance in every layer norm

# ESM-2 was trained with 15 % of the tokens chosen, 80 % of these masked and masked ones zeroed.
# At inference nothing is masked, so embeddings are scaled by what was left on average:
# (1 - 0.15 * 0.8) / (1 - 0). With <mask> tokens in a sequence they would be zeroed and the
# divisor be 1 less their share; our tokens have none, as no letter is written <mask>.
TOKEN_DROPOUT_SCALE = 1.0 - 0.15 * 0.8


class Workspace:
    """Buffers for as many rows as a batch may have, reused by every layer and batch."""

    def __init__(
        self, rows: int, spec: ModelSpec, arithmetic: Arithmetic, *, wide: bool,
        device: torch.device,
    ) -> None:  # fmt: skip
        def make(width: int, dtype: torch.dtype = arithmetic.dtype) -> Tensor:
            return torch.zeros((rows, width), dtype=dtype, device=device)

        fp8, int8 = arithmetic.fp8, arithmetic.int8 is not None
        self.rows = rows
        self.x_TD = make(spec.dim, arithmetic.stream)
        self.qkv_TE = make(3 * spec.dim, torch.float32 if arithmetic.whole else arithmetic.dtype)
        self.a_TD = make(spec.dim, FP8 if fp8 else arithmetic.dtype)  # input of a product
        inner = torch.int8 if int8 else FP8 if fp8 else arithmetic.dtype
        self.h_TF = make(spec.ffn, inner)
        # Before GELU, and after it where ``down`` takes no less.
        apart = inner != arithmetic.dtype and (wide or arithmetic.fused is None)
        self.u_TF = make(spec.ffn) if apart else self.h_TF
        self.delta_TD = None if arithmetic.adds else make(spec.dim)
        self.rstd_T = torch.zeros(rows, dtype=torch.float32, device=device)


class Esm2Engine:
    """Token ids to one row per record."""

    padding_id = PADDING_ID

    def __init__(
        self,
        spec: ModelSpec,
        tensors: Mapping[str, Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        fp8: bool,
        ops: ModuleType,
        fused: ModuleType | None = None,
        calibration: Calibration | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Fold and place the weights.

        Parameters
        ----------
        spec
            The model, which has the shapes.
        tensors
            The checkpoint under canonical names; see ``naming``.
        device, dtype
            Where, and in what the residual stream is kept.
        fp8
            Matrix products in fp8.
        ops
            ``triton``, ``torch`` or ``cpu`` of ``vnp.inference.ops``.
        fused
            ``vnp.inference.ops.hopper`` where it runs: products that do what follows them.
        calibration
            Matrix products in int8, with these scales.
        watch
            What is made of each product, in order, of a model that is calibrated.

        Raises
        ------
        ValueError
            If those products are not for such shapes.
        """
        self._spec = spec
        self._device, self._dtype, self._ops = device, dtype, ops
        head = spec.dim // spec.heads
        narrow = FP8 if fp8 else dtype if calibration is None else torch.int8
        if fused is not None and not fused.fits(spec.dim, spec.ffn, head=head, dtype=narrow):
            raise ValueError("the kernels for Hopper do not take these shapes")
        self.fused = fused is not None
        self._arithmetic = Arithmetic(
            ops=ops, fused=fused, dtype=dtype, fp8=fp8, eps=EPS,
            int8=None if calibration is None else ops.int8,
            standardised=fp8 or calibration is not None or watch is not None, watch=watch,
        )  # fmt: skip
        self._calibration = calibration

        def get(name: str) -> Tensor:
            return tensors[name].to(device, torch.float32)

        self._table = (get("embeddings.word_embeddings.weight") * TOKEN_DROPOUT_SCALE).to(
            self._arithmetic.stream
        )
        shift_D = torch.zeros(spec.dim, dtype=torch.float32, device=device)
        self._layers = []
        for number in range(spec.layer or spec.layers):
            layer, shift_D = self._fold(number, get, shift_D)
            self._layers.append(layer)
        self._shift_D = shift_D
        at = "encoder.emb_layer_norm_after"
        self._affine = (get(f"{at}.weight"), get(f"{at}.bias"))
        exponents = torch.arange(0, head, 2, dtype=torch.float32)
        self._frequencies = 1.0 / (10000.0 ** (exponents / head))
        self._rotary = self._angles(1)

    def _fold(self, number: int, get: Any, shift_D: Tensor) -> tuple[Layer, Tensor]:
        """A layer, for a stream that lacks ``shift_D``; and what the stream after it lacks."""
        at, dim = f"encoder.layer.{number}", self._spec.dim
        head = dim // self._spec.heads

        def linear(name: str) -> tuple[Tensor, Tensor]:
            return get(f"{at}.{name}.weight"), get(f"{at}.{name}.bias")

        parts = [linear(f"attention.self.{part}") for part in ("query", "key", "value")]
        qkv_ED, qkv_bias = _with_norm(
            torch.cat([weight for weight, _ in parts]),
            torch.cat([bias for _, bias in parts]),
            *linear("attention.LayerNorm"),
        )
        qkv_ED[:dim] *= self._ops.QUERY_FACTOR / math.sqrt(head)
        qkv_bias[:dim] *= self._ops.QUERY_FACTOR / math.sqrt(head)
        if self._arithmetic.whole:
            # Plain torch rotates pairs fastest as complex numbers; scores do not depend on order.
            paired = torch.arange(2 * dim, device=self._device).view(-1, 2, head // 2)
            paired = paired.transpose(1, 2).flatten()
            qkv_ED[: 2 * dim], qkv_bias[: 2 * dim] = qkv_ED[paired], qkv_bias[paired]
        values_bias = qkv_bias[2 * dim :].clone()
        qkv_bias[2 * dim :] = 0
        out_DD, out_bias = linear("attention.output.dense")
        up_FD, up_bias = _with_norm(*linear("intermediate.dense"), *linear("LayerNorm"))
        down_DF, down_bias = linear("output.dense")
        mlp_shift_D = shift_D + out_bias + times(out_DD, values_bias)
        after_D = mlp_shift_D + down_bias
        biases: tuple[Tensor | None, Tensor | None] = (None, None)
        if self._arithmetic.packed and not self._arithmetic.standardised:
            # Products add biases to the stream for nothing.
            biases = (out_bias + times(out_DD, values_bias), down_bias)
            mlp_shift_D = after_D = shift_D
        folded = Folded(
            qkv_ED=qkv_ED, qkv_bias_E=qkv_bias, shift_D=shift_D, out_DD=out_DD,
            out_bias_D=biases[0], mlp_shift_D=mlp_shift_D, up_FD=up_FD, up_bias_F=up_bias,
            down_DF=down_DF, down_bias_D=biases[1],
        )  # fmt: skip
        if self._calibration is None:
            return self._layer(folded), after_D
        layer, constant_D = int8.layer_of(
            self._arithmetic, folded, self._calibration.layers[number]
        )
        return layer, after_D + constant_D

    def _layer(self, folded: Folded) -> Layer:
        arithmetic, fp8, dim = self._arithmetic, self._arithmetic.fp8, self._spec.dim
        context_scale = bound_scale(folded.qkv_ED[2 * dim :]) if fp8 else None
        inner_scale = bound_scale(folded.up_FD, folded.up_bias_F) if fp8 else None
        return Layer(
            qkv=Projection(
                arithmetic, folded.qkv_ED, folded.qkv_bias_E, shift_D=folded.shift_D, gelu=False
            ),
            context_scale=context_scale,
            out=arithmetic.product(folded.out_DD, context_scale, bias_O=folded.out_bias_D),
            up=Projection(
                arithmetic, folded.up_FD, folded.up_bias_F, shift_D=folded.mlp_shift_D, gelu=True,
                scale_O=inner_scale,
            ),
            down=arithmetic.product(folded.down_DF, inner_scale, bias_O=folded.down_bias_D),
        )  # fmt: skip

    def workspace(self, rows: int) -> Workspace:
        """Make the buffers for batches of up to ``rows`` rows."""
        wide = any(layer.wide or layer.apart for layer in self._layers)
        return Workspace(rows, self._spec, self._arithmetic, wide=wide, device=self._device)

    def __call__(self, layout: BatchLayout, work: Workspace, out_nD: Tensor) -> None:
        """Encode a batch and write the row of each record, float32 (n, D x poolings)."""
        if self._spec.pooling in MEANS and self._spec.layer is None:
            x_TD = self._stream(layout, work)
            self._ops.pool(
                x_TD, out_nD, layout, eps=EPS, shift_D=self._shift_D, affine=self._affine
            )
        else:
            pool_groups(self.states(layout, work), out_nD, layout)

    def states(self, layout: BatchLayout, work: Workspace) -> Tensor:
        """Encode a batch; return the hidden states of the chosen layer, float32 (T, D).

        Those of the last layer are normed, as in the published model; those of another are not.
        """
        value = self._stream(layout, work).float() + self._shift_D
        if self._spec.layer is not None:
            return value
        return torch.nn.functional.layer_norm(value, value.shape[1:], *self._affine, EPS)

    def _stream(self, layout: BatchLayout, work: Workspace) -> Tensor:
        """Run the layers; return the residual stream, which lacks ``shift``."""
        spec, rows = self._spec, layout.rows
        if layout.longest > len(self._rotary[0]):
            self._rotary = self._angles(layout.longest)
        x_TD, a_TD, qkv_TE = work.x_TD[:rows], work.a_TD[:rows], work.qkv_TE[:rows]
        u_TF, h_TF = work.u_TF[:rows], work.h_TF[:rows]
        delta_TD = None if work.delta_TD is None else work.delta_TD[:rows]
        stream = Stream(x_TD, a_TD, work.rstd_T[:rows])
        rotary = Rotary(
            self._rotary, layout.positions, 2 * spec.dim, neighbours=self._arithmetic.whole
        )
        attend = self._arithmetic.attend
        pending: Tensor | None = None  # what the next norm is to add to the stream
        torch.index_select(self._table, 0, layout.ids, out=x_TD)
        for layer in self._layers:
            layer.qkv(stream, qkv_TE, pending_TD=pending, rotary=rotary)
            attend(qkv_TE, a_TD, layout, heads=spec.heads, scale_D=layer.context_scale)
            pending = _to_stream(layer.out, a_TD, x_TD, delta_TD)
            inner_TF = u_TF if layer.wide else h_TF
            layer.up(stream, inner_TF, before_TO=u_TF, pending_TD=pending)
            pending = _to_stream(layer.down, inner_TF, x_TD, delta_TD)
        if pending is not None:
            x_TD.add_(pending)
        return x_TD

    def _angles(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotary angles, (positions, K / 2), 1024 positions at a time."""
        count = -(-positions // 1024) * 1024
        angles = torch.arange(count, dtype=torch.float32)[:, None] * self._frequencies
        # Every program reads them. In float16 they are off by an eighth of what bfloat16 rounds.
        short = self._dtype == torch.bfloat16 and not self._arithmetic.whole
        dtype = torch.float16 if short else torch.float32
        return angles.cos().to(self._device, dtype), angles.sin().to(self._device, dtype)


def naming(spec: ModelSpec) -> Naming:
    """Name the tensors of the published checkpoints that the encoder uses."""
    dim, ffn = spec.dim, spec.ffn
    shapes: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (spec.vocab, dim)}
    for number in range(spec.layers):
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


def _to_stream(product: Product, a: Tensor, x_TD: Tensor, delta_TD: Tensor | None) -> Tensor | None:
    """Add a product to the residual stream, or hand it back for the next norm to add."""
    if delta_TD is None:
        product.add(a, x_TD)
    else:
        product(a, delta_TD)
    return delta_TD


def _with_norm(
    weight_OD: Tensor, bias_O: Tensor, norm_weight_D: Tensor, norm_bias_D: Tensor
) -> tuple[Tensor, Tensor]:
    """Put the weight and bias of a norm into the projection after it."""
    return weight_OD * norm_weight_D, bias_O + times(weight_OD, norm_bias_D)
