"""Folders of hub models whose files are not as they must be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vnp.models.errors import WeightsError, WeightsNotFoundError
from vnp.models.hub import spec_of

pytest.importorskip("transformers")

BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 25,
}
WORDS = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACDEFGHIKLMNPQRSTVWY"])
DAMAGED = {
    "a list": [],
    "a text": "x",
    "a text as width": {**BERT, "hidden_size": "x"},
    "no width": {**BERT, "hidden_size": None},
    "negative": {**BERT, "hidden_size": -16},
    "no layer": {**BERT, "num_hidden_layers": 0},
    "a list of types": {**BERT, "model_type": ["bert"]},
    "no type": {},
    "no hidden_size": {"model_type": "perceiver"},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_configuration_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(DAMAGED[name]))
    (folder / "vocab.txt").write_text(WORDS)
    with pytest.raises((WeightsError, WeightsNotFoundError), match=str(folder)) as error:
        spec_of("org/model", weights_dir=tmp_path)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [("vocab.txt", b"\xff\xfe\x00"), ("tokenizer.json", b"{}"), ("tokenizer_config.json", b"[]")],
)
def test_a_damaged_tokenizer_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: bytes
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "vocab.txt").write_text(WORDS)
    (folder / file).write_bytes(content)
    with pytest.raises(WeightsNotFoundError, match=f"{folder} does not hold all files"):
        spec_of("org/model", weights_dir=tmp_path)
