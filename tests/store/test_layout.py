"""Names of chunks: all at once they mean what they mean one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from store.layout import chunk_of, chunks_named

NUMBERS = st.integers(0, 10**19).map(str)
NAMES = st.one_of(
    NUMBERS.map("c.{}".format),
    st.sampled_from(["zarr.json", "c", "c.", "c.01", "c.1.0", "c.-1", "c.1\n", "c. 1", "c.1.part"]),
    st.text(alphabet="c.0123\n ", max_size=6),
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(names=st.lists(NAMES, max_size=8))
def test_names_read_at_once_mean_the_same_chunks(names: list[str]) -> None:
    one_by_one = [index[0] for name in names if (index := chunk_of(name)) and len(index) == 1]
    assert chunks_named(names).tolist() == one_by_one
