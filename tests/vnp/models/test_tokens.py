import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import DataError
from store.io.ragged import from_items
from vnp.models import demo
from vnp.models.errors import WeightsError
from vnp.models.tokens import ESM_ALPHABET, BpeTokenizer, ResidueTokenizer, Tokens

DNA = [b"ACGT" * 30, b"A", b"GATTACA", b"ACGNNNTT", b"CCC" * 200]


@pytest.fixture(scope="module")
def bpe():
    return BpeTokenizer(demo.tokenizer_file(), vocab=512)


def rows(tokens):
    """Ids of each record."""
    return [list(part) for part in np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=8))
def test_residues_equal_a_dictionary(proteins):
    ids = {symbol: index for index, symbol in enumerate(ESM_ALPHABET)}
    expected = [
        [ids["<cls>"], *(ids.get(chr(byte), ids["<unk>"]) for byte in protein), ids["<eos>"]]
        for protein in proteins
    ]
    tokens = ResidueTokenizer()(from_items(proteins))
    assert list(tokens.ids) == [token for row in expected for token in row]
    assert list(tokens.lengths) == list(map(len, expected))


def test_residues_equal_the_published_tokenizer(tmp_path):
    from transformers import EsmTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(ESM_ALPHABET))
    published = EsmTokenizer(str(tmp_path / "vocab.txt"))
    proteins = ["MKTAYIAKQRQISFVKSHFSRQ", "ACDEFGHIKLMNPQRSTVWYXBZUO", "A"]
    tokens = ResidueTokenizer()(from_items([protein.encode() for protein in proteins]))
    assert rows(tokens) == [published(protein)["input_ids"] for protein in proteins]


def test_empty_sequences_are_refused_by_number(bpe):
    column = from_items([b"ACG", b"", b"T"])
    with pytest.raises(DataError, match="record 2 of 3 has an empty protein"):
        ResidueTokenizer()(column)
    with pytest.raises(DataError, match="record 2 of 3 has an empty nucleotide"):
        bpe(column)


def test_no_records(bpe):
    for tokenise in (ResidueTokenizer(), bpe):
        tokens = tokenise(from_items([]))
        assert len(tokens) == 0
        assert len(tokens.ids) == 0


def test_bpe_has_special_tokens_and_covers_the_sequence(bpe):
    vocabulary = {
        index: piece
        for piece, index in json.loads(demo.tokenizer_file().read_text())["model"]["vocab"].items()
    }
    for sequence, row in zip(DNA, rows(bpe(from_items(DNA))), strict=True):
        assert (row[0], row[-1]) == (1, 2)
        spelt = "".join("N" if token == 0 else vocabulary[token] for token in row[1:-1])
        assert spelt == sequence.decode()


def test_truncation_and_padding_in_the_file_are_switched_off(tmp_path, bpe):
    content = json.loads(demo.tokenizer_file().read_text())
    content["truncation"] = {
        "direction": "Right",
        "max_length": 8,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    content["padding"] = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 3,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content, indent=2))
    trained = BpeTokenizer(path, vocab=512)
    assert rows(trained(from_items(DNA))) == rows(bpe(from_items(DNA)))
    assert trained.identity == bpe.identity
    content["model"]["merges"] = content["model"]["merges"][:-1]
    path.write_text(json.dumps(content))
    assert BpeTokenizer(path, vocab=512).identity != bpe.identity


@pytest.mark.parametrize("text", ["", "{}", "[1]"])
def test_file_that_is_no_tokenizer(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(WeightsError, match="is not a tokenizer"):
        BpeTokenizer(tmp_path / "tokenizer.json", vocab=512)


def test_tokenizer_of_another_model(tmp_path):
    with pytest.raises(WeightsError, match=r"token ids up to 511.*embeddings for 100"):
        BpeTokenizer(demo.tokenizer_file(), vocab=100)
    content = json.loads(demo.tokenizer_file().read_text())
    content["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="does not put"):
        BpeTokenizer(tmp_path / "tokenizer.json", vocab=512)


def test_threads_give_what_one_call_gives(bpe):
    columns = [from_items(DNA[: 1 + i % len(DNA)] * 3) for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        for tokenise in (bpe, ResidueTokenizer()):
            threaded = list(pool.map(tokenise, columns))
            for column, tokens in zip(columns, threaded, strict=True):
                assert rows(tokens) == rows(tokenise(column))


def test_gather_picks_records():
    tokens = Tokens(np.arange(9, dtype=np.int32), np.array([2, 3, 1, 3]))
    assert list(tokens.collect(np.array([3, 0, 3]))) == [6, 7, 8, 0, 1, 6, 7, 8]
    assert list(tokens.collect(np.array([], dtype=np.int64))) == []
