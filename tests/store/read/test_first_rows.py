"""The first rows of each block, against a mask of all rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from store.read.first_rows import FirstRows
from tests.store.claims.claiming import BOUNDED


@st.composite
def some(draw):
    size = draw(st.integers(1, 5))
    counts = draw(st.lists(st.integers(0, size), max_size=8))
    rows = size * len(counts)
    start = draw(st.integers(0, rows))
    return size, counts, start, draw(st.integers(start, rows))


@BOUNDED
@given(some())
def test_it_says_what_a_mask_says(case):
    size, counts, start, stop = case
    mask = np.zeros(size * len(counts), bool)
    for block, count in enumerate(counts):
        mask[block * size : block * size + count] = True
    first = FirstRows(np.array(counts, np.int64), block_rows=size)
    rows = np.flatnonzero(mask)
    assert len(first) == len(rows)
    np.testing.assert_array_equal(first.span(0, len(first)), rows)
    np.testing.assert_array_equal(first.rows(np.arange(len(rows))[::-1]), rows[::-1])
    np.testing.assert_array_equal(first.mask(start, stop), mask[start:stop])
    np.testing.assert_array_equal(first.holds(np.arange(len(mask))), mask)
    assert first.before(start) == mask[:start].sum()
    assert first.between(start, stop) == mask[start:stop].sum()
    edges = np.flatnonzero(np.diff(mask[start:stop], prepend=False, append=False)) + start
    assert first.runs(start, stop) == list(zip(edges[::2], edges[1::2], strict=True))
