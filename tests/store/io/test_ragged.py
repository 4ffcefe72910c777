"""Chunks of strings: the fast way to find items against the plain one, whatever the bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import DamageError
from store.io import ragged
from store.io.ragged import decode_vlen, encode_vlen, from_items

TEXT = st.one_of(
    st.sampled_from([b"k141_7", b"ACGT", "é".encode(), b"", b"x" * 255, b"x" * 256, b"x" * 300]),
    st.binary(max_size=5),
)
EDIT = st.tuples(st.integers(0, 10_000), st.sampled_from([0, 1, 2, 127, 128, 255]))


def answer(raw: bytes) -> list[bytes] | str:
    try:
        return decode_vlen(raw).tolist()
    except DamageError as error:
        return str(error)


@given(st.lists(TEXT, max_size=8), st.integers(0, 3), st.lists(EDIT, max_size=2), st.integers(0, 3))
def test_both_ways_agree(items, padding, edits, cut):
    raw = bytearray(encode_vlen([from_items(items)], count=len(items) + padding))
    for at, byte in edits:
        raw[at % len(raw)] = byte
    raw = raw[: len(raw) - cut]
    found = answer(bytes(raw))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged, "_heads_of_text", lambda *_: None)
        assert found == answer(bytes(raw))
    if not edits and not cut:
        assert found == [*items, *[b""] * padding]


@pytest.mark.parametrize("padding", [0, 3])
def test_text_is_found_without_a_loop(padding, monkeypatch):
    items = [b"contig_%d" % number for number in range(100)] + [b"A" * 256, b"C" * 65_535]
    raw = bytes(encode_vlen([from_items(items)], count=len(items) + padding))
    monkeypatch.setattr(ragged, "_heads", None)
    assert decode_vlen(raw).tolist() == [*items, *[b""] * padding]


def test_text_by_character_and_by_byte():
    column = from_items([b"abc", "naïve".encode(), b"", "\N{SNOWMAN}".encode()])
    assert column.decode() == ["abc", "naïve", "", "\N{SNOWMAN}"]
    assert column.slice(0, 1).decode() == ["abc"]
    halves = ragged.Ragged(np.frombuffer("é".encode(), np.uint8), np.array([0, 1, 2]))
    with pytest.raises(UnicodeDecodeError):
        halves.decode()
