"""ESM-2 in int8 and its calibration, in plain torch."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from store.errors import DamageError
from tests.vnp.inference.engine_setup import (
    PLAIN_FUSED,
    cosines,
    encoder_of,
    placed,
    reference,
    tokens_of,
)
from tests.vnp.models.checkpoints import random_state, tiny
from vnp.inference import calibrate as calibrate_module
from vnp.inference.calibrate import calibrate
from vnp.inference.calibration import Calibration, LayerScales
from vnp.inference.int8 import scales_of
from vnp.inference.ops import torch as plain
from vnp.models.packing import fill
from vnp.models.tokens import Tokens

SPEC = tiny("esm2", dim=64, heads=4)
LENGTHS = [3, 9, 9, 52, 168, 100, 64, 65, 128, 420, 3]


def planted(state, *, channels=2, factor=30.0):
    """The same function, with channels that are much larger than the others."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    for name, tensor in state.items():
        if ".layer." not in name:
            continue
        if "LayerNorm" in name:
            tensor[:channels] *= factor
        elif (
            any(part in name for part in ("query.weight", "key.weight", "value.weight"))
            or "intermediate.dense.weight" in name
        ):
            tensor[:, :channels] /= factor
    return state


def calibrated(state, tokens, **options):
    return calibrate(
        SPEC, state, tokens, placement=placed("cpu", "bfloat16"), ops=plain, token_budget=500,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("fused", [None, PLAIN_FUSED], ids=["apart", "fused"])
@pytest.mark.parametrize("outliers", [False, True], ids=["random", "planted"])
def test_int8_is_near(fused, outliers):
    state = random_state(SPEC)
    if outliers:
        state = planted(state)
    calibration = calibrated(state, tokens_of(LENGTHS, seed=1))
    tokens = tokens_of(LENGTHS)
    encoder = encoder_of(SPEC, precision="int8", fused=fused, state=state, calibration=calibration)
    assert cosines(encoder.embed(tokens), reference(SPEC, tokens, state=state)).min() > 0.998


@pytest.mark.parametrize("fused", [None, PLAIN_FUSED], ids=["apart", "fused"])
@pytest.mark.parametrize("kept", ["qkv", "out", "up", "down", "up down", "qkv out up down"])
def test_products_may_stay_in_bfloat16(fused, kept):
    state, tokens = random_state(SPEC), tokens_of(LENGTHS)
    calibration = calibrated(state, tokens)
    layers = list(calibration.layers)
    layers[0] = dataclasses.replace(layers[0], kept=frozenset(kept.split()))
    encoder = encoder_of(
        SPEC, precision="int8", fused=fused, state=state, calibration=Calibration(tuple(layers))
    )
    near = cosines(encoder.embed(tokens), reference(SPEC, tokens, state=state)).min()
    assert near > (0.9995 if kept == "qkv out up down" and len(layers) == 1 else 0.998)


def test_rows_do_not_depend_on_their_neighbours():
    state, tokens = random_state(SPEC), tokens_of(LENGTHS)
    encoder = encoder_of(
        SPEC, precision="int8", fused=PLAIN_FUSED, state=state,
        calibration=calibrated(state, tokens),
    )  # fmt: skip
    whole = encoder.embed(tokens)
    starts = np.concatenate([[0], np.cumsum(tokens.lengths)])
    for record in (0, 4, 9):
        ids = tokens.ids[starts[record] : starts[record + 1]]
        alone = encoder.embed(Tokens(ids, tokens.lengths[record : record + 1]))
        assert cosines(alone, whole[record : record + 1]).min() > 0.99999


def test_a_product_that_eight_bits_spoil_is_kept(monkeypatch):
    state, tokens = random_state(SPEC), tokens_of(LENGTHS)
    assert calibrated(state, tokens).kept == []
    monkeypatch.setattr(calibrate_module, "MOST_OFF", 1e-6)
    kept = calibrated(state, tokens).kept
    assert kept == [
        f"{layer}.{name}" for layer in range(SPEC.layers) for name in ("down", "out", "qkv", "up")
    ]


def test_padding_is_not_looked_at():
    state = random_state(SPEC)
    tokens = tokens_of(LENGTHS, seed=2)
    batches = fill(tokens.lengths, token_budget=500, most_records=11)
    assert any(batch.tokens % 32 for batch in batches)
    state["embeddings.word_embeddings.weight"][1] = 1e4  # <pad>
    few = calibrated(state, tokens)
    state["embeddings.word_embeddings.weight"][1] = 0.0
    assert few.digest() == calibrated(state, tokens).digest()


def test_exponents_are_powers_of_two():
    exponents = np.arange(-128, 128).astype(np.int8)
    values = scales_of(exponents, torch.device("cpu")).numpy()
    assert values[128] == 1.0
    assert np.array_equal(values[::4], np.exp2(np.arange(-32.0, 32.0)).astype(np.float32))
    assert np.allclose(values, np.exp2(exponents / 4), rtol=1e-6)


def random_calibration(layers=3, dim=8, ffn=32):
    generator = np.random.default_rng(0)

    def exponents(size):
        return generator.integers(-8, 8, size).astype(np.int8)

    return Calibration(
        tuple(
            LayerScales(
                exponents(dim), exponents(dim), exponents(dim), exponents(ffn),
                kept=frozenset({"up"} if number == 1 else ()),
            )
            for number in range(layers)
        )
    )  # fmt: skip


def test_written_and_read():
    calibration = random_calibration()
    text = json.dumps(calibration.as_dict())
    again = Calibration.from_dict(json.loads(text), layers=range(3, 4), dim=8, ffn=32)
    assert again.digest() == calibration.digest()
    assert again.kept == ["1.up"]
    for ours, theirs in zip(again.layers, calibration.layers, strict=True):
        for name in ("qkv", "out", "up", "down"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize(
    "change",
    [
        {"exponents": "%%%"},
        {"exponents": "AAAA"},
        {"exponents": 7},
        {"bfloat16": ["9.up"]},
        {"bfloat16": None},
        None,
    ],
)
def test_what_is_not_a_calibration_is_refused(change):
    content = random_calibration().as_dict()
    content = {} if change is None else content | change
    with pytest.raises(DamageError, match="calibration for int8"):
        Calibration.from_dict(content, layers=range(3, 4), dim=8, ffn=32)


def test_fewer_layers_than_were_measured_are_taken():
    content = random_calibration().as_dict()
    assert len(Calibration.from_dict(content, layers=range(2, 4), dim=8, ffn=32).layers) == 3


@pytest.mark.parametrize("shape", [{"layers": range(4, 5)}, {"dim": 7}, {"ffn": 31}])
def test_a_calibration_of_another_shape_is_refused(shape):
    content = random_calibration().as_dict()
    with pytest.raises(DamageError, match="another model"):
        Calibration.from_dict(content, **({"layers": range(3, 4), "dim": 8, "ffn": 32} | shape))


def test_packed_data_that_grows_without_end_is_not_unpacked(monkeypatch):
    from vnp.inference import calibration as module

    asked = []

    class Unpack:
        def decompress(self, data, most):
            asked.append(most)
            return bytes(most)

    monkeypatch.setattr(module, "zlib", SimpleNamespace(decompressobj=Unpack, error=ValueError))
    with pytest.raises(DamageError):
        Calibration.from_dict(
            {"exponents": "AAAA", "bfloat16": []}, layers=range(3, 4), dim=8, ffn=32
        )
    assert asked == [3 * (3 * 8 + 32) + 1]
