"""ESM-C on the CPU against transformers' EsmcModel on the same weights."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from store.io.ragged import from_items
from tests.vnp.inference.engine_setup import PLAIN_FUSED, encoder_of, tokens_of
from tests.vnp.models.checkpoints import random_state
from vnp.inference.load import load_encoder
from vnp.models import registry
from vnp.models.errors import WeightsError
from vnp.models.spec import ModelSpec

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

SIZES = [(64, 2, 4, 96), (128, 5, 2, 320)]  # dim, layers, heads, inner width
LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO"


@functools.cache
def published(size: tuple[int, int, int, int]):
    dim, layers, heads, ffn = size
    torch.manual_seed(0)
    config = transformers.EsmcConfig(
        vocab_size=64,
        hidden_size=dim,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )
    model = transformers.EsmcForMaskedLM(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.dim() == 1:
                tensor.copy_(0.2 * noise + float(name.endswith("weight")))
            elif "embed" in name:
                tensor.copy_(noise)
            else:
                tensor.copy_(1.5 * noise / tensor.shape[1] ** 0.5)
    return model


@pytest.fixture(params=SIZES, ids=str)
def size(request: pytest.FixtureRequest) -> tuple[int, int, int, int]:
    return request.param


@pytest.fixture
def spec(
    size: tuple[int, int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModelSpec:
    dim, layers, heads, ffn = size
    tiny = replace(
        registry.MODELS["esmc_300m"], name="tiny_esmc", dim=dim, layers=layers, heads=heads, ffn=ffn
    )
    monkeypatch.setitem(registry.MODELS, "tiny_esmc", tiny)
    published(size).save_pretrained(tmp_path / "tiny_esmc")
    return tiny


def proteins(*lengths: int) -> list[bytes]:
    generator = np.random.default_rng(2)
    return ["".join(generator.choice(list(LETTERS), length)).encode() for length in lengths]


PROTEINS = proteins(1, 3, 3, 9, 52, 166, 166, 40, 600)


@torch.inference_mode()
def states_of(model, protein: bytes, layer: int | None = None) -> torch.Tensor:
    """Hidden states of a protein by transformers, special tokens included."""
    tokenizer = transformers.EsmcTokenizer()
    ids = tokenizer(protein.decode(), return_tensors="pt")["input_ids"]
    found = model.esmc(input_ids=ids, output_hidden_states=True)
    if layer is None:
        return found.last_hidden_state[0]
    return found.hidden_states[layer][0]


def embedded(name: str, tmp_path: Path, **options) -> np.ndarray:
    options = {"precision": "float32", "threads": 1} | options
    encoder = load_encoder(name, device="cpu", weights_dir=tmp_path, **options)
    column = from_items(PROTEINS)
    return encoder.embed(encoder.tokenise(column, column))


def assert_close(found: np.ndarray, expected: np.ndarray, *, cosine: float) -> None:
    assert found.shape == expected.shape
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    lowest = float(((found * expected).sum(axis=1) / lengths).min())
    assert lowest > cosine, lowest


def test_equal_to_transformers(spec: ModelSpec, size, tmp_path: Path) -> None:
    expected = [states_of(published(size), each)[1:-1].mean(0).numpy() for each in PROTEINS]
    found = embedded("tiny_esmc", tmp_path)
    assert_close(found, np.stack(expected), cosine=0.999999)
    np.testing.assert_allclose(found, np.stack(expected), atol=2e-5)


def test_bfloat16_is_near(spec: ModelSpec, tmp_path: Path) -> None:
    exact = embedded("tiny_esmc", tmp_path)
    assert_close(embedded("tiny_esmc", tmp_path, precision="bfloat16"), exact, cosine=0.999)


def test_products_that_finish_their_own_work() -> None:
    spec = replace(
        registry.MODELS["esmc_300m"], name="some_esmc", dim=128, layers=4, heads=2, ffn=256
    )
    state, tokens = random_state(spec), tokens_of([3, 52, 52, 168, 64])
    exact = encoder_of(spec, state=state).embed(tokens)
    for fused in (None, PLAIN_FUSED):
        found = encoder_of(spec, precision="bfloat16", fused=fused, state=state).embed(tokens)
        assert_close(found, exact, cosine=0.9998)


def test_another_layer_and_several_poolings(spec: ModelSpec, size, tmp_path: Path) -> None:
    states = [states_of(published(size), each, layer=1) for each in PROTEINS]
    expected = np.stack(
        [
            torch.cat(
                [
                    s[1:-1].mean(0),
                    s[1:-1].amax(0),
                    s[1:-1].std(0, correction=0),
                    s[0],
                ]
            ).numpy()
            for s in states
        ]
    )
    found = embedded("tiny_esmc@layer=1,pooling=mean+max+std+cls", tmp_path)
    assert_close(found, expected, cosine=0.999999)


def test_files_of_another_kind_are_refused(spec: ModelSpec, tmp_path: Path) -> None:
    config = tmp_path / "tiny_esmc" / "config.json"
    config.write_text(config.read_text().replace('"silu"', '"gelu"'))
    with pytest.raises(WeightsError, match="hidden_act is 'gelu', not 'silu'"):
        embedded("tiny_esmc", tmp_path)
