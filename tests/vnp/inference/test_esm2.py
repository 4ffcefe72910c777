"""ESM-2 on the CPU against transformers' EsmModel on the same weights, loaded by our own loader."""

import functools

import numpy as np
import pytest
import torch

from tests.vnp.inference import oracle_esm2
from tests.vnp.inference.engine_setup import HiddenStateEncoder
from tests.vnp.models.checkpoints import random_state, tiny
from vnp.inference.load import naming_of
from vnp.models import files, weights

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

# dim, layers, heads: head widths 16, 20 (the 35M's 24 is not a power of two either) and 64.
SIZES = [(64, 2, 4), (40, 3, 2), (160, 6, 8), (128, 2, 2)]
LENGTHS = [3, 4, 4, 9, 9, 9, 52, 168, 168, 40, 3, 600]
COSINE, LARGEST = 0.999999, 2e-5


@functools.cache
def published(size):
    """EsmModel with weights that make attention sharp, and our description of it."""
    dim, layers, heads = size
    spec = tiny("esm2", dim=dim, layers=layers, heads=heads)
    config = transformers.EsmConfig(
        vocab_size=33,
        mask_token_id=32,
        pad_token_id=1,
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
    )
    model = transformers.EsmForMaskedLM(config).eval()
    missing, unexpected = model.load_state_dict(random_state(spec, prefix=True), strict=False)
    assert not unexpected
    assert all("head" in name or "inv_freq" in name for name in missing)
    return spec, model


def load(folder, spec):
    found = files.locate(spec, weights_dir=folder)
    tensors = weights.read(found.tensors, naming_of(spec), source="test")
    return HiddenStateEncoder(spec, tensors)


def save(folder, spec, model, *, kind, shards):
    """Write the model as the hub would have it."""
    folder = folder / spec.name
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if kind == "safetensors":
        model.save_pretrained(folder, max_shard_size=size // shards + 1)
        return
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def records_of(lengths, *, seed=1):
    generator = np.random.default_rng(seed)
    return [np.r_[0, generator.integers(4, 29, length - 2), 2] for length in lengths]


def packed(encoder, records, *, token_budget=700):
    """Hidden states of each record by our implementation."""
    return encoder.states(records, token_budget=token_budget)


@torch.inference_mode()
def padded(model, records):
    """Hidden states of each record by transformers, in one padded batch with a mask."""
    longest = max(map(len, records))
    ids = torch.ones((len(records), longest), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, record in enumerate(records):
        ids[row, : len(record)] = torch.from_numpy(record)
        mask[row, : len(record)] = 1
    states = model.esm(input_ids=ids, attention_mask=mask).last_hidden_state
    return [states[row, : len(record)] for row, record in enumerate(records)]


def compare(ours, theirs):
    """Lowest cosine of a token and largest difference of a number."""
    cosine = min(
        float(torch.cosine_similarity(a, b, dim=-1).min())
        for a, b in zip(ours, theirs, strict=True)
    )
    largest = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    return cosine, largest


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equal_to_transformers(tmp_path, size):
    spec, model = published(size)
    save(tmp_path, spec, model, kind="safetensors", shards=1)
    records = records_of(LENGTHS)
    cosine, largest = compare(packed(load(tmp_path, spec), records), padded(model, records))
    assert cosine > COSINE, f"lowest cosine {cosine}, largest difference {largest}"
    assert largest < LARGEST, f"lowest cosine {cosine}, largest difference {largest}"


def test_oracle_equals_transformers():
    spec, model = published(SIZES[0])
    records = records_of(LENGTHS)
    tensors = weights.select(random_state(spec, prefix=True), naming_of(spec), source="test")
    ours = [oracle_esm2.encode(spec, tensors, record) for record in records]
    cosine, largest = compare(ours, padded(model, records))
    assert cosine > COSINE, f"lowest cosine {cosine}, largest difference {largest}"
    assert largest < LARGEST, f"lowest cosine {cosine}, largest difference {largest}"


@pytest.mark.parametrize(("kind", "shards"), [("safetensors", 3), ("bin", 1)])
def test_every_form_of_checkpoint_gives_the_same_bits(tmp_path, kind, shards):
    spec, model = published(SIZES[0])
    save(tmp_path / "whole", spec, model, kind="safetensors", shards=1)
    save(tmp_path / "other", spec, model, kind=kind, shards=shards)
    assert len(files.locate(spec, weights_dir=tmp_path / "other").tensors) >= shards
    records = records_of(LENGTHS)
    first, second = (packed(load(tmp_path / which, spec), records) for which in ("whole", "other"))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_single_equals_batched(tmp_path):
    spec, model = published(SIZES[2])
    save(tmp_path, spec, model, kind="safetensors", shards=1)
    module = load(tmp_path, spec)
    records = records_of(LENGTHS)
    alone = [packed(module, [record])[0] for record in records]
    together = packed(module, records, token_budget=10_000)
    cosine, largest = compare(alone, together)
    assert cosine > COSINE, f"lowest cosine {cosine}, largest difference {largest}"
    assert largest < LARGEST, f"lowest cosine {cosine}, largest difference {largest}"


def test_positions_matter(tmp_path):
    """The comparison above would not see a lost rotary if attention were flat: it is not."""
    spec, model = published(SIZES[0])
    save(tmp_path, spec, model, kind="safetensors", shards=1)
    module = load(tmp_path, spec)
    record = records_of([50])[0]
    backwards = np.r_[record[0], record[1:-1][::-1], record[-1]]
    forth, back = packed(module, [record])[0], packed(module, [backwards])[0]
    assert float((forth[1:-1] - back[1:-1].flip(0)).abs().max()) > 0.1
