"""Compiled byte-pair encoding against the library `tokenizers`."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from store.io.ragged import from_items
from vnp.models import bpe, demo
from vnp.models.tokens import BpeTokenizer

CONTENT = json.loads(demo.tokenizer_file().read_text())


def expected(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def found(merges: bpe.Merges, texts: list[str]) -> list[list[int]]:
    column = from_items([text.encode() for text in texts])
    ids, counts = merges(column.data, column.offsets)
    ends = np.concatenate([[0], np.cumsum(counts)])
    return [ids[start:stop].tolist() for start, stop in pairwise(ends)]


def of_merges(pairs: list[tuple[str, str]], **model: object) -> dict:
    """A tokenizer.json with these merges of A, C, G and T."""
    vocabulary = {name: number for number, name in enumerate(["[UNK]", "[CLS]", "[SEP]", *"ACGT"])}
    for first, second in pairs:
        vocabulary.setdefault(first + second, len(vocabulary))
    merges = [f"{first} {second}" for first, second in pairs]
    return CONTENT | {
        "model": CONTENT["model"] | {"vocab": vocabulary, "merges": merges} | model,
        "added_tokens": [],
    }


@st.composite
def vocabularies(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Merges in any order that makes each token of tokens made before it, once."""
    texts, pairs = list("ACGT"), []
    for _ in range(draw(st.integers(0, 25))):
        pair = draw(st.sampled_from(texts)), draw(st.sampled_from(texts))
        if "".join(pair) not in texts and len("".join(pair)) <= 12:
            texts.append("".join(pair))
            pairs.append(pair)
    return pairs


TEXTS = st.lists(
    st.one_of(
        st.text("ACGT", min_size=1, max_size=60),
        st.text("A", min_size=1, max_size=40),
        st.text("AT", min_size=1, max_size=40),
        st.text("ACGTNRYKMacgtn_0", min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(vocabularies(), TEXTS, st.booleans())
def test_any_merges_encode_as_the_library_does(pairs, texts, fused) -> None:
    content = of_merges(pairs, fuse_unk=fused)
    tokenizer = Tokenizer.from_str(json.dumps(content))
    merges = bpe.merges_of(content)
    assert merges is not None
    own = [[1, token, 2] for token in merges.ids.tolist()]
    if expected(tokenizer, bpe.texts_of(merges)) == own:
        assert found(merges, texts) == expected(tokenizer, texts)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(TEXTS)
def test_the_demo_vocabulary(texts: list[str]) -> None:
    tokenizer = Tokenizer.from_str(json.dumps(CONTENT))
    assert found(bpe.merges_of(CONTENT), texts) == expected(tokenizer, texts)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=5))
def test_whatever_a_column_holds(texts: list[bytes]) -> None:
    tokenizer = BpeTokenizer(demo.tokenizer_file(), vocab=512)
    tokens = tokenizer(from_items(texts))
    decoded = [text.decode("ascii", errors="replace") for text in texts]
    rows = expected(Tokenizer.from_str(json.dumps(CONTENT)), decoded)
    assert tokens.lengths.tolist() == [len(row) for row in rows]
    assert tokens.ids.tolist() == [token for row in rows for token in row]


def test_a_long_genome_and_real_reads_of_it() -> None:
    generator = np.random.default_rng(0)
    genome = "".join(generator.choice(list("ACGT"), 20_000))
    starts = generator.integers(0, 19_000, 300).tolist()
    texts = [genome, *(genome[start : start + 500] for start in starts)]
    tokenizer = Tokenizer.from_str(json.dumps(CONTENT))
    assert found(bpe.merges_of(CONTENT), texts) == expected(tokenizer, texts)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "ByteLevel"}},
        {"pre_tokenizer": None},
        {"post_processor": None},
        {"model": CONTENT["model"] | {"dropout": 0.1}},
        {"model": CONTENT["model"] | {"continuing_subword_prefix": "##"}},
        {"model": CONTENT["model"] | {"type": "WordPiece"}},
        {"model": CONTENT["model"] | {"unk_token": None}},
        {"added_tokens": [{"id": 5, "content": "N"}]},
        of_merges([("A", "A"), ("AA", "A"), ("A", "AA")]),
    ],
    ids=lambda change: "+".join(change),
)
def test_what_else_a_tokenizer_does_is_left_to_the_library(change: dict) -> None:
    assert bpe.merges_of(CONTENT | change) is None


def test_a_token_that_its_own_text_does_not_give(tmp_path, caplog) -> None:
    # AT is merged before CA, so that CAT = CA + T never arises.
    content = of_merges([("A", "T"), ("C", "A"), ("CA", "T")])
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = BpeTokenizer(tmp_path / "tokenizer.json", vocab=16)
    assert tokenizer._merges is None
    library = Tokenizer.from_str(json.dumps(content))
    texts = ["CAT", "CATCAT", "GCATG"]
    rows = expected(library, texts)
    tokens = tokenizer(from_items([text.encode() for text in texts]))
    assert tokens.ids.tolist() == [token for row in rows for token in row]
