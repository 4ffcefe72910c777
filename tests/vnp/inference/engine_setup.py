"""Batches, encoders and what oracles say of them, for the tests of the engine."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import torch

from tests.vnp.inference import oracle_esm2, oracle_mosaicbert
from tests.vnp.models.checkpoints import random_state
from vnp.inference.batch_layout import plan_layout, pooled_span
from vnp.inference.device import Placement
from vnp.inference.load import engine_of
from vnp.inference.loop import LoopEncoder
from vnp.inference.ops import torch as plain
from vnp.inference.pipeline import EngineEncoder
from vnp.models.packing import Batch, Group
from vnp.models.tokens import ResidueTokenizer, Tokens

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def tokens_of(lengths, *, seed=0, low=4, high=24):
    """Random records."""
    lengths = np.asarray(lengths, dtype=np.int64)
    ids = np.random.default_rng(seed).integers(low, high, int(lengths.sum())).astype(np.int32)
    return Tokens(ids, lengths)


def layout_of(lengths, rows, *, device="cpu", pooling="mean_residues_1024"):
    """A batch on a device, padded to rows."""
    lengths = np.sort(np.asarray(lengths, dtype=np.int64))
    batch = Batch(np.arange(len(lengths)), lengths)
    planned = plan_layout(batch, tokens_of(lengths).ids, rows=rows, pooling=pooling)
    buffer = np.zeros(planned.size, np.int32)
    planned.write(buffer, padding=1)
    return planned.on(torch.from_numpy(buffer).to(device))


# What `vnp.inference.ops.hopper` offers, in plain torch and for any shape.
PLAIN_FUSED = SimpleNamespace(
    fits=lambda dim, ffn, *, head, dtype, activation="gelu": True,
    adds=True,
    QUERY_FACTOR=plain.QUERY_FACTOR,
    project=plain.project,
    multiply=plain.multiply,
    attend=plain.attend,
)


def placed(device, precision):
    """A placement that nobody chose."""
    return Placement(torch.device(device), "test device", precision, 1, 1024, "by a test")


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
    kind=EngineEncoder,
    calibration=None,
    **options,
):
    """An encoder with random weights; as on a GPU unless ``kind`` says otherwise."""
    placement = placed(device, precision)
    engine = engine_of(
        spec, state or random_state(spec), placement=placement, ops=ops, fused=fused,
        calibration=calibration,
    )  # fmt: skip
    return kind(
        spec,
        engine,
        ResidueTokenizer(),
        placement=placement,
        token_budget=token_budget,
        identity={"precision": precision},
        environment={},
        warn=warn or (lambda message: None),
        **options,
    )


def cosines(a, b):
    """Cosine of each pair of rows."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def reference(spec, tokens, *, state=None, precision="float32"):
    """Means of each record by the oracle."""
    oracle = oracle_esm2 if spec.architecture == "esm2" else oracle_mosaicbert
    state = state or random_state(spec)
    rows = np.empty((len(tokens), spec.dim), np.float32)
    for row, ids in enumerate(np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])):
        states = oracle.encode(spec, state, ids, dtype=DTYPES[precision]).float()
        first, last = pooled_span(spec.pooling, len(ids))
        rows[row] = states[first:last].mean(dim=0).numpy()
    return rows


class HiddenStates:
    """The operations in plain torch, but for the pool, which keeps every token."""

    def __init__(self):
        self.found = None

    def __getattr__(self, name):
        return getattr(plain, name)

    def pool(self, x_TD, _out, layout, **options):
        alone = dataclasses.replace(
            layout, groups=(Group(0, len(x_TD), 1),), pooling="mean_all_tokens"
        )
        self.found = torch.empty(x_TD.shape)
        plain.pool(x_TD, self.found, alone, **options)


class HiddenStateEncoder(LoopEncoder):
    """Keeps the hidden states of the records of a call."""

    def __init__(self, spec, tensors):
        self.ops = HiddenStates()
        placement = placed("cpu", "float32")
        engine = engine_of(spec, tensors, placement=placement, ops=self.ops)
        super().__init__(
            spec, engine, None, placement=placement, token_budget=1, identity={}, environment={},
            warn=print,
        )  # fmt: skip

    def _rows(self, batch, tokens):
        rows = super()._rows(batch, tokens)
        parts = self.ops.found.split(batch.lengths.tolist())
        self.hidden |= dict(zip(batch.records.tolist(), parts, strict=True))
        return rows

    def states(self, records, *, token_budget):
        """Hidden states (L, D) of each record, by batches of so many tokens."""
        self.hidden, self.token_budget = {}, token_budget
        ids = np.concatenate(records).astype(np.int32)
        self.embed(Tokens(ids, np.array(list(map(len, records)))))
        return [self.hidden[record] for record in range(len(records))]
