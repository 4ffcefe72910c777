"""Batches, tensors and encoders for the tests of the engine."""

from types import SimpleNamespace

import numpy as np
import torch

from tests.vnp.models.checkpoints import random_state
from vnp.inference.batch_layout import plan_spans
from vnp.inference.build import engine_of
from vnp.inference.device import Placement
from vnp.inference.ops import torch as plain
from vnp.inference.pipeline import EngineEncoder
from vnp.models.packing import Batch
from vnp.models.tokens import ResidueTokenizer, Tokens

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def tokens_of(lengths, *, seed=0, low=4, high=24):
    """Random records."""
    lengths = np.asarray(lengths, dtype=np.int64)
    ids = np.random.default_rng(seed).integers(low, high, int(lengths.sum())).astype(np.int32)
    return Tokens(ids, lengths)


def spans_of(lengths, rows, *, device="cpu", pooling="mean_residues_1024"):
    """A batch on a device, padded to rows."""
    lengths = np.sort(np.asarray(lengths, dtype=np.int64))
    batch = Batch(np.arange(len(lengths)), lengths)
    planned = plan_spans(batch, tokens_of(lengths).ids, rows=rows, pooling=pooling)
    buffer = np.zeros(planned.size, np.int32)
    planned.write(buffer, padding=1)
    return planned.on(torch.from_numpy(buffer).to(device))


# What `vnp.inference.ops.hopper` offers, in plain torch and for any shape.
PLAIN_FUSED = SimpleNamespace(fits=lambda dim, ffn, *, head, dtype: True, project=plain.project)


def encoder_of(
    spec,
    *,
    device="cpu",
    precision="float32",
    ops=plain,
    fused=None,
    state=None,
    token_budget=1024,
    warn=None,
):
    """The engine's encoder with random weights."""
    placement = Placement(
        device=torch.device(device),
        device_name="test device",
        precision=precision,
        threads=1,
        token_budget=token_budget,
        chosen="by a test",
    )
    engine = engine_of(spec, state or random_state(spec), placement=placement, ops=ops, fused=fused)
    return EngineEncoder(
        spec,
        engine,
        ResidueTokenizer(),
        placement=placement,
        token_budget=token_budget,
        identity={"precision": precision},
        environment={},
        warn=warn or (lambda message: None),
    )


def cosines(a, b):
    """Cosine of each pair of rows."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
