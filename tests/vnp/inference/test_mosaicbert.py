"""MosaicBERT against the plain reference in tests/vnp/inference/reference_mosaicbert.py."""

import numpy as np
import pytest
import torch

from tests.vnp.inference import oracle_mosaicbert, reference_mosaicbert
from tests.vnp.inference.engine_setup import HiddenStateEncoder
from tests.vnp.models.checkpoints import random_state, tiny, write_checkpoint
from vnp.inference.load import naming_of
from vnp.inference.mosaicbert import alibi_slopes
from vnp.inference.ops import torch as plain
from vnp.models import files, weights

pytestmark = pytest.mark.slow

LENGTHS = [3, 7, 7, 20, 20, 20, 104, 61, 3]
COSINE, LARGEST = 0.999999, 2e-5


def load(spec, state):
    return HiddenStateEncoder(spec, state)


def records_of(lengths, *, seed=1):
    generator = np.random.default_rng(seed)
    return [np.r_[1, generator.integers(5, 512, length - 2), 2] for length in lengths]


def packed(encoder, records, *, token_budget=150):
    return encoder.states(records, token_budget=token_budget)


def compare(ours, theirs):
    cosine = min(
        float(torch.cosine_similarity(a.double(), b.double(), dim=-1).min())
        for a, b in zip(ours, theirs, strict=True)
    )
    return cosine, max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 12])
def test_equal_to_the_reference(heads):
    spec = tiny("mosaicbert", dim=48, layers=3, heads=heads)
    state = random_state(spec, seed=heads)
    records = records_of(LENGTHS)
    expected = reference_mosaicbert.encode(
        state, [record.tolist() for record in records], layers=3, heads=heads
    )
    cosine, largest = compare(packed(load(spec, state), records), expected)
    assert cosine > COSINE, f"lowest cosine {cosine}, largest difference {largest}"
    assert largest < LARGEST, f"lowest cosine {cosine}, largest difference {largest}"
    oracle = [oracle_mosaicbert.encode(spec, state, record) for record in records]
    assert compare(oracle, expected)[1] < LARGEST


def test_reference_padding_is_inert():
    spec = tiny("mosaicbert", dim=48, heads=3)
    state = random_state(spec)
    records = [record.tolist() for record in records_of([5, 40])]
    alone = reference_mosaicbert.encode(state, records[:1], layers=2, heads=3)[0]
    padded = reference_mosaicbert.encode(state, records, layers=2, heads=3)[0]
    assert float((alone - padded).abs().max()) < 1e-12


def test_single_equals_batched():
    spec = tiny("mosaicbert", dim=48, heads=3)
    module = load(spec, random_state(spec))
    records = records_of(LENGTHS)
    alone = [packed(module, [record])[0] for record in records]
    cosine, largest = compare(alone, packed(module, records, token_budget=10_000))
    assert cosine > COSINE, f"lowest cosine {cosine}, largest difference {largest}"
    assert largest < LARGEST, f"lowest cosine {cosine}, largest difference {largest}"


def test_long_records_make_their_bias_in_parts(monkeypatch):
    spec = tiny("mosaicbert", dim=48, heads=3)
    module = load(spec, random_state(spec))
    records = records_of([97, 97, 31])
    whole = packed(module, records)
    monkeypatch.setattr(plain, "_BIAS_ELEMENTS", 3 * 97 * 10)
    _, largest = compare(whole, packed(module, records))
    assert largest < LARGEST


def test_loaded_from_files(tmp_path):
    spec = tiny("mosaicbert", dim=48, heads=3)
    state = random_state(spec, prefix=True) | {"cls.predictions.bias": torch.ones(512)}
    write_checkpoint(tmp_path / spec.name, spec, state, kind="bin", shards=2)
    found = files.locate(spec, weights_dir=tmp_path)
    tensors = weights.read(found.tensors, naming_of(spec), source="test")
    records = records_of(LENGTHS)
    expected = packed(load(spec, random_state(spec)), records)
    got = packed(load(spec, tensors), records)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_slopes_of_the_paper():
    assert alibi_slopes(8) == [2.0**-k for k in range(1, 9)]
    # Twelve heads: those of eight, then every other one of sixteen.
    assert alibi_slopes(12) == [2.0**-k for k in range(1, 9)] + [
        2.0**-k for k in (0.5, 1.5, 2.5, 3.5)
    ]
    for heads in range(1, 41):
        assert alibi_slopes(heads) == pytest.approx(reference_mosaicbert.slopes(heads))
