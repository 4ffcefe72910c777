"""The engine on a GPU: right, and the same bits whoever the neighbours are."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch

from tests.vnp.inference.engine_setup import (
    cosines,
    encoder_of,
    placed,
    reference,
    tokens_of,
)
from tests.vnp.models.checkpoints import random_state, tiny
from vnp.inference.calibrate import calibrate
from vnp.inference.device import place
from vnp.models.tokens import Tokens

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: the engine is not tested on one", allow_module_level=True)
kernels = pytest.importorskip("vnp.inference.ops.triton", reason="Triton is not installed")

pytestmark = pytest.mark.gpu

CAPABILITY = torch.cuda.get_device_capability()
PRECISIONS = ["bfloat16", "float16", "int8"] + (["fp8"] if CAPABILITY >= (8, 9) else [])
BUDGET = 8192


def spec_of(architecture):
    if architecture == "esm2":
        return tiny("esm2", dim=1280, layers=6, heads=20)
    return tiny("mosaicbert", dim=768, layers=4, heads=12, vocab=4096)


def state_of(spec):
    return {
        name: tensor / 1.5 if tensor.dim() > 1 and "embeddings" not in name else tensor
        for name, tensor in random_state(spec).items()
    }


@cache
def calibration_of():
    """Scales for int8, from other records than those of the tests."""
    spec = spec_of("esm2")
    tokens = tokens_of(np.random.default_rng(11).integers(3, 400, 200), seed=11)
    return calibrate(
        spec, state_of(spec), tokens, placement=placed("cuda", "bfloat16"), ops=kernels,
        token_budget=BUDGET,
    )  # fmt: skip


def engine(architecture, precision, *, budget=BUDGET, warn=None, **options):
    architecture, _, apart = architecture.partition(" ")
    spec, fused = spec_of(architecture), None
    if CAPABILITY[0] == 9 and not apart and precision != "float16":
        fused = pytest.importorskip("vnp.inference.ops.hopper")
    encoder = encoder_of(
        spec, device="cuda", precision=precision, ops=kernels, fused=fused, state=state_of(spec),
        token_budget=budget, warn=warn, **options,
        calibration=calibration_of() if precision == "int8" else None,
    )  # fmt: skip
    assert bool(encoder._engine.fused) == (fused is not None)
    return encoder


CASES = [("esm2", p) for p in PRECISIONS] + [("mosaicbert", "bfloat16")]
if CAPABILITY[0] == 9:  # products that do what follows them, and products and passes
    CASES += [("esm2 apart", p) for p in PRECISIONS if p != "float16"]
    CASES += [("mosaicbert apart", "bfloat16")]
LEAST = {"bfloat16": 0.9995, "float16": 0.99999, "fp8": 0.99, "int8": 0.999}


@pytest.mark.parametrize(("architecture", "precision"), CASES)
def test_near_the_oracle_in_float32(architecture, precision):
    encoder = engine(architecture, precision)
    tokens = tokens_of([3, 5, 52, 52, 168, 100, 64, 65, 300, 420, 1100])
    found = cosines(
        encoder.embed(tokens), reference(encoder.spec, tokens, state=state_of(encoder.spec))
    )
    print(f"\n{architecture} {precision}: lowest cosine with float32 {found.min():.6f}")
    assert found.min() > LEAST[precision]


def neighbours(record, lengths, *, seed, at):
    """A block in which a given record stands at a given place."""
    others = tokens_of(lengths, seed=seed)
    pieces = np.split(others.ids, np.cumsum(others.lengths)[:-1])
    pieces[at] = record
    return Tokens(np.concatenate(pieces), np.array([len(piece) for piece in pieces]))


@pytest.mark.parametrize(("architecture", "precision"), CASES)
@pytest.mark.parametrize("length", [52, 168, 300])
def test_same_bits_whoever_the_neighbours_are(architecture, precision, length):
    encoder = engine(architecture, precision)
    record = tokens_of([length], seed=7).ids
    count = BUDGET // length
    generator = np.random.default_rng(3)
    rows = []
    for seed, at in ((1, 0), (2, count // 2), (3, count - 1)):
        rows.append(encoder.embed(neighbours(record, [length] * count, seed=seed, at=at))[at])
    # Of other lengths too: full batches of the budget, whatever they are made of.
    lengths = generator.integers(3, 301, 2 * BUDGET // 150)
    mixed = neighbours(record, lengths, seed=4, at=5)
    rows.append(encoder.embed(mixed)[5])
    same = [bool(np.array_equal(rows[0], row)) for row in rows]
    print(f"\n{architecture} {precision} {length}: same bits {same}")
    assert all(same[:3])
    assert cosines(rows[0][None], rows[3][None])[0] > 0.99999


@pytest.mark.parametrize(("architecture", "precision"), CASES)
def test_same_block_same_bits_whatever_ran_before(architecture, precision):
    tokens = tokens_of(np.random.default_rng(0).integers(3, 400, 200))
    encoder = engine(architecture, precision)
    first = encoder.embed(tokens)
    encoder.embed(tokens_of([700, 4, 4, 90], seed=9))
    assert np.array_equal(encoder.embed(tokens), first)
    assert np.array_equal(engine(architecture, precision).embed(tokens), first)  # another worker
    # Two submitted before either is asked for.
    runs = [encoder.submit(tokens), encoder.submit(tokens)]
    assert all(np.array_equal(run.result(), first) for run in runs)
    assert encoder.busy_seconds > 0


@pytest.mark.parametrize(("architecture", "precision"), CASES)
def test_batches_that_span_blocks_give_the_same_bits_as_blocks_one_by_one(architecture, precision):
    generator = np.random.default_rng(5)
    blocks = [
        tokens_of(generator.integers(3, 400, count), seed=count) for count in (70, 3, 41, 200, 1)
    ]
    encoder = engine(architecture, precision, spans=True)
    alone = [encoder.embed(tokens) for tokens in blocks]
    runs = [encoder.submit(tokens) for tokens in blocks]
    assert runs[-1].held
    assert all(np.array_equal(run.result(), rows) for run, rows in zip(runs, alone, strict=True))


@pytest.mark.parametrize(("architecture", "precision"), CASES)
def test_packed_equals_alone(architecture, precision):
    encoder = engine(architecture, precision)
    tokens = tokens_of([52, 168, 30, 250])
    together = encoder.embed(tokens)
    pieces = np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])
    alone = np.concatenate([encoder.embed(Tokens(ids, np.array([len(ids)]))) for ids in pieces])
    worst = np.abs(together - alone).max() / np.abs(alone).max()
    print(f"\n{architecture} {precision}: packed against alone, largest difference {worst:.1e}")
    # Batches of other sizes may multiply in another order.
    assert worst < (0.05 if precision == "fp8" else 0.01)


def test_out_of_memory_halves_the_budget_and_says_so():
    said = []
    encoder = engine("esm2", "bfloat16", budget=1 << 26, warn=said.append)
    tokens = tokens_of([168] * 50)
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        rows = encoder.embed(tokens)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert encoder.token_budget < 1 << 26
    assert said
    assert all("ran out of memory" in message for message in said)
    assert cosines(rows, engine("esm2", "bfloat16").embed(tokens)).min() > 0.99999


def test_placement_names_the_device():
    placement = place("cuda", precision="auto", threads=None, warn=print)
    assert dataclasses.asdict(placement)["device_name"] == torch.cuda.get_device_name()
