"""Ids are found and compared as plain Python does, whatever their length."""

from __future__ import annotations

import numpy as np
import pytest

from store.io.ragged import from_items
from vnp.view import ids as module
from vnp.view.ids import WORD, Ids
from vnp.view.order import First


def made(count: int, *, longest: int, seed: int) -> tuple[list[str], Ids]:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, longest + 1, count)
    texts = ["".join(random.choice(list("aAb_"), length)) for length in lengths]
    ragged = from_items(text.encode() for text in texts)
    return texts, Ids(ragged.data, ragged.offsets[1:])


@pytest.mark.parametrize("piece", [512, 96 << 10])
@pytest.mark.parametrize("longest", [1, 7, 9, 60, 300])
def test_texts_are_found_in_ids_of_any_length(
    longest: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", piece)
    texts, ids = made(120, longest=longest, seed=longest)
    assert ids.longest == max(map(len, texts))
    wanted = ["a", "B", "_", "ab", "a_b", "AbA_", "z", *(text for text in texts[:20] if text)]
    for text in wanted:
        for low, high in ((0, 120), (3, 90), (119, 120)):
            expected = [text.lower() in each.lower() for each in texts[low:high]]
            assert ids.holding(text, low, high).tolist() == expected
            equal = [at for at in range(low, high) if texts[at] == text]
            assert ids.equal(text, low, high).tolist() == equal


def test_a_match_at_the_very_end_of_a_long_id_is_found() -> None:
    for length in range(1, 140):
        ragged = from_items([b"-" * length, b"-" * (length - 1) + b"x", b"x-"])
        ids = Ids(ragged.data, ragged.offsets[1:])
        assert ids.holding("x", 0, 3).tolist() == [False, True, True]
        assert ids.holding("-x", 0, 3).tolist() == [False, length > 1, False]


@pytest.mark.parametrize("longest", [1, 3, 9, 40])
def test_words_sort_as_ids_do(longest: int) -> None:
    texts, ids = made(60, longest=longest, seed=longest)
    everything = np.arange(60)
    words = [ids.word(number, everything).tolist() for number in range(-(-longest // WORD))]
    for number, values in enumerate(words):
        padded = [text.encode()[number * WORD :][:WORD].ljust(WORD, b"\0") for text in texts]
        assert values == [int.from_bytes(each, "big") for each in padded]


def test_the_first_of_many_are_those_of_a_stable_sort() -> None:
    random = np.random.default_rng(5)
    columns = [random.integers(0, 3, 500) for _ in range(3)]
    keys = [lambda found, column=column: column[found] for column in columns]
    expected = sorted(range(500), key=lambda at: tuple(column[at] for column in columns))
    for most in (0, 1, 5, 40, 250, 499, 500, 900):
        first = First(keys, most)
        for start in range(0, 500, 13):
            first.add(np.arange(start, min(start + 13, 500)))
        for start in (0, 1, most // 2, most):
            assert first.page(start).tolist() == expected[start:most]
