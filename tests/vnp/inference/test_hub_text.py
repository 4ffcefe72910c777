"""Tokenizers of the hub get the text they were trained on, or are refused: never rows all alike."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store.errors import DataError, UsageError
from store.io.ragged import from_items
from vnp.inference.load import load_encoder
from vnp.models import registry
from vnp.models.errors import WeightsError

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
RESIDUES = list("LAGVESIKRDTPNQFYMHWCXUBZO")
MERS = ["".join(word) for word in product("ATCG", repeat=3)]


def bert(folder: Path, words: list[str], *, lower: bool = False) -> Path:
    """A random BERT as people publish it: a vocabulary and a configuration of its tokenizer."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n")
    settings = {"do_lower_case": lower, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL) + len(words), hidden_size=48, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=64, max_position_embeddings=700,
    )  # fmt: skip
    transformers.BertModel(config).eval().save_pretrained(folder)
    return folder


def items(letters: str, *lengths: int) -> list[bytes]:
    generator = np.random.default_rng(6)
    return ["".join(generator.choice(list(letters), each)).encode() for each in lengths]


def embedded(source: str, weights: Path, column: list[bytes], **options: Any) -> np.ndarray:
    encoder = load_encoder(source, device="cpu", threads=1, weights_dir=weights, **options)
    records = from_items(column)
    return encoder.embed(encoder.tokenise(records, records))


@torch.inference_mode()
def by_transformers(folder: Path, text: str) -> np.ndarray:
    """Mean of the hidden states of a text, without the two tokens around it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    found: np.ndarray = model(torch.tensor([ids])).last_hidden_state[0, 1:-1].mean(0).numpy()
    return found


def overlapping(sequence: str) -> str:
    return " ".join(sequence[at : at + 3] for at in range(len(sequence) - 2))


@pytest.mark.parametrize(
    ("words", "letters", "write", "form"),
    [
        (list("ACGTN"), "ACGT", " ".join, "letters apart"),
        (MERS, "ACGT", overlapping, "overlapping 3-mers"),
        (RESIDUES, "ACDEFGHIKLMNPQRSTVWY", " ".join, "letters apart"),
    ],
)
def test_text_is_written_as_the_vocabulary_wants_it(
    tmp_path: Path, words: list[str], letters: str, write: Any, form: str
) -> None:
    folder = bert(tmp_path / "bert", words)
    spec = registry.model("hf:someone/bert", weights_dir=tmp_path)
    assert spec.input == ("nucleotide" if letters == "ACGT" else "protein"), "told by itself"
    column = items(letters, 300, 21, 500, 500)
    found = embedded("hf:someone/bert", tmp_path, column)
    expected = np.stack([by_transformers(folder, write(each.decode())) for each in column])
    np.testing.assert_allclose(found, expected, atol=3e-5, rtol=3e-5)
    assert len(np.unique(found.round(5), axis=0)) == len(column)
    encoder = load_encoder("hf:someone/bert", device="cpu", threads=1, weights_dir=tmp_path)
    assert encoder.provenance().environment["text"] == form


@pytest.mark.parametrize(
    ("words", "lower", "kind", "said"),
    [
        (RESIDUES, True, "protein", '"do_lower_case": false'),
        (sorted(MERS), False, "nucleotide", "its rows would be alike"),  # codons, perhaps
        ([], False, "nucleotide", "its rows would be alike"),  # half of its files
        (list("ACGT") + [f"##{base}" for base in "ACGT"], False, "nucleotide", "short sequences"),
    ],
)
def test_a_tokenizer_that_knows_nothing_is_refused(
    tmp_path: Path, words: list[str], lower: bool, kind: str, said: str
) -> None:
    bert(tmp_path / "bert", words, lower=lower)
    source = f"hf:someone/bert@input={kind}"
    with pytest.raises(WeightsError, match="its tokenizer knows") as caught:
        registry.model(source, weights_dir=tmp_path)  # when a store is made
    assert said in str(caught.value)
    with pytest.raises(WeightsError, match="its tokenizer knows"):
        embedded(source, tmp_path, items("ACGT", 50))


def test_a_model_with_a_name_is_tried_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    bert(tmp_path / "nt_500m_1000g", [])
    spec = replace(registry.MODELS["nt_500m_1000g"], dim=48, layers=2)
    monkeypatch.setitem(registry.MODELS, "nt_500m_1000g", spec)
    with pytest.raises(WeightsError, match="rows would be alike"):
        embedded("nt_500m_1000g", tmp_path, items("ACGT", 50))


def test_unknown_tokens_of_a_block_are_said_and_recorded(tmp_path: Path) -> None:
    bert(tmp_path / "bert", MERS)
    said: list[str] = []
    encoder = load_encoder(
        "hf:someone/bert", device="cpu", threads=1, weights_dir=tmp_path, warn=said.append
    )
    fine = from_items(items("ACGT", 100, 60))
    encoder.embed(encoder.tokenise(fine, fine))
    assert not said
    assert "unknown_tokens" not in encoder.provenance().environment
    ambiguous = from_items([*items("ACGT", 100), b"N" * 100])
    assert np.isfinite(encoder.embed(encoder.tokenise(ambiguous, ambiguous))).all()
    [line] = said
    assert "does not know 50% of the tokens of a block" in line
    assert encoder.provenance().environment["unknown_tokens"].startswith("up to")
    short = from_items([*items("ACGT", 100), b"AC"])
    with pytest.raises(DataError, match=r"record 2 of 2, of 2 letters: .* knows 0% of its tokens"):
        encoder.tokenise(short, short)


@pytest.mark.parametrize("words", [list("ACGTN"), list("ACGT"), MERS, sorted(MERS)])
def test_vocabularies_of_bases_alone_tell_what_they_are_for(
    words: list[str], tmp_path: Path
) -> None:
    from vnp.models.hub import _input_of

    bert(tmp_path / "bert", words)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "bert")
    assert _input_of(tokenizer, name="x") == "nucleotide"
    bert(tmp_path / "none", [])
    with pytest.raises(UsageError, match="input=protein or input=nucleotide"):
        _input_of(transformers.AutoTokenizer.from_pretrained(tmp_path / "none"), name="x")
