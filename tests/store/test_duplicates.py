"""Duplicates are found exactly, in any number of passes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.duplicates import NO_DUPLICATE, find_duplicates, sequence_digests
from store.io.ragged import from_items


def slow_duplicates(digests: list[tuple[int, int]], first_new: int) -> list[int]:
    """What must come out: look every digest up among all the earlier ones."""
    return [
        next((i for i in range(row) if digests[i] == digests[row]), NO_DUPLICATE)
        for row in range(first_new, len(digests))
    ]


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    digests=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=60),
    split=st.integers(0, 60),
    chunk=st.integers(1, 20),
    at_once=st.integers(1, 25),
)
def test_duplicates_are_the_first_rows_with_the_same_digest(
    digests: list[tuple[int, int]], split: int, chunk: int, at_once: int
) -> None:
    split = min(split, len(digests))
    table = np.array(digests, dtype=np.uint64).reshape(-1, 2)
    chunks = [np.arange(start, min(start + chunk, split)) for start in range(0, split, chunk)]

    def old(keys: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        assert keys.tolist() == sorted(set(keys.tolist()))
        return [(rows, table[rows]) for rows in chunks]

    found = find_duplicates(table[split:], first_row=split, old=old, sorted_at_once=at_once)
    assert found.tolist() == slow_duplicates(digests, split)


def test_digests_tell_sequences_apart() -> None:
    nucleotide = from_items([b"ACGT", b"ACGT", b"ACGTM", b"ACG", b"ACGT"])
    protein = from_items([b"MK", b"MK", b"K", b"TMK", b"MKV"])
    digests = sequence_digests(nucleotide, protein)
    assert digests.shape == (5, 2)
    assert digests[0].tolist() == digests[1].tolist()
    assert len({tuple(digest) for digest in digests.tolist()}) == 4


@pytest.mark.parametrize("n", [0, 1])
def test_tiny_appends(n: int) -> None:
    table = np.zeros((n, 2), dtype=np.uint64)
    assert find_duplicates(table, first_row=0, old=lambda _: []).tolist() == [NO_DUPLICATE] * n
