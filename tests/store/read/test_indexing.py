"""Keys and plans against NumPy itself, on generated arrays and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.read.indexing import row_positions, selection
from store.read.plan import Bands, Uniform, below, pieces, positions

pytestmark = pytest.mark.slow


def slices() -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-30, 30)
    step = st.none() | st.integers(-9, 9).filter(bool)
    return st.builds(slice, bound, bound, step)


def axis_keys(size: int) -> st.SearchStrategy[Any]:
    """Everything that may index an axis of ``size``."""
    keys = slices() | st.lists(st.booleans(), min_size=size, max_size=size).map(
        lambda mask: np.array(mask, dtype=bool)
    )
    if size:
        index = st.integers(-size, size - 1)
        keys |= index | index.map(np.int32) | st.lists(index, max_size=20)
        keys |= st.lists(index, min_size=4, max_size=4).map(lambda x: np.array(x).reshape(2, 2))
        keys |= index.map(np.array)
    return keys


def keys(rows: int, columns: int) -> st.SearchStrategy[Any]:
    row, column = axis_keys(rows), axis_keys(columns)
    dots = st.just(Ellipsis)
    mask = st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns).map(
        lambda x: np.array(x, dtype=bool).reshape(rows, columns)
    )
    return (
        row
        | mask
        | dots
        | st.just(())
        | st.tuples(row)
        | st.tuples(row, column)
        | st.tuples(dots, column)
        | st.tuples(row, dots)
        | st.tuples(row, dots, column)
    )


def chooses_single_numbers(key: Any) -> bool:
    """Whether NumPy reads the key as single numbers by row and column, which a view refuses."""
    parts = key if isinstance(key, tuple) else (key,)
    arrays = [np.asarray(part) for part in parts if np.ndim(part) > 0]
    return len(arrays) == 2 or any(array.ndim == 2 and array.dtype == bool for array in arrays)


shapes = st.tuples(st.integers(0, 23), st.integers(1, 9))


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=600)
@given(data=st.data(), shape=shapes)
def test_a_key_means_what_it_means_to_numpy(data: st.DataObject, shape: tuple[int, int]) -> None:
    array = np.arange(shape[0] * shape[1]).reshape(shape)
    key = data.draw(keys(*shape))
    if chooses_single_numbers(key):
        with pytest.raises(IndexError):
            selection(key, shape)
        return
    try:
        expected = array[key]
    except IndexError:
        with pytest.raises(IndexError):
            selection(key, shape)
        return
    chosen = selection(key, shape)
    rows, columns = np.asarray(chosen.rows), np.asarray(chosen.columns)
    result = array[rows[:, None].astype(int), columns.astype(int)].reshape(chosen.shape)
    np.testing.assert_array_equal(result, expected)
    assert chosen.shape == np.shape(expected)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "newaxis"),
        ((0, None), "newaxis"),
        (True, "bare True"),
        (np.True_, "bare True"),
        (1.5, "float"),
        (np.array([1.0]), "float64"),
        ("a", "only integers"),
        ((0, 0, 0), "too many"),
        ((..., ...), "ellipsis"),
        (5, "index 5 .* axis 0 with size 5"),
        (-6, "out of bounds"),
        ([0, 7], "index 7"),
        ((0, [-9]), "index -9 .* axis 1"),
        (np.ones(4, bool), "mask"),
        (np.ones((5, 4), bool), "mask"),
        (np.ones((5, 3), bool), "mask"),
        ((np.ones((5, 3), bool), 0), "mask"),
        (([0, 1], [0, 1, 2]), "np.ix_"),
        (([0, 1], [0, 2]), "np.ix_"),
        ((np.ones(5, bool), [0]), "np.ix_"),
    ],
)
def test_a_key_that_numpy_or_we_refuse(key: Any, words: str) -> None:
    with pytest.raises(IndexError, match=words):
        selection(key, (5, 3))


def test_rows_crossed_with_columns_by_ix() -> None:
    array = np.arange(40).reshape(8, 5)
    for rows, columns in [
        ([4, 1, -1], [0, 3]),
        ([2], [1, 1]),
        ([], [0, 1]),
        (np.arange(8) > 5, [4]),
    ]:
        key = np.ix_(rows, columns)
        chosen = selection(key, array.shape)
        result = array[np.asarray(chosen.rows)[:, None], np.asarray(chosen.columns)]
        np.testing.assert_array_equal(result.reshape(chosen.shape), array[key])


def test_rows_are_chosen_by_slice_mask_or_numbers() -> None:
    assert row_positions(None, 3).tolist() == [0, 1, 2]
    assert row_positions(slice(None, None, -2), 5).tolist() == [4, 2, 0]
    assert row_positions(np.array([True, False, True]), 3).tolist() == [0, 2]
    assert row_positions([-1, 0], 3).tolist() == [2, 0]
    assert row_positions(2, 3).tolist() == [2]
    with pytest.raises(IndexError):
        row_positions([3], 3)


def axes(size: int) -> st.SearchStrategy[Any]:
    ranges = slices().map(lambda s: range(*s.indices(size)))
    if not size:
        return ranges
    numbers = st.lists(st.integers(0, size - 1), max_size=30)
    return ranges | numbers.map(lambda x: np.array(x, dtype=np.int64))


@settings(deadline=None, derandomize=True, max_examples=500)
@given(data=st.data(), size=st.integers(0, 40), part=st.integers(1, 9))
def test_a_plan_brings_each_position_to_its_place_once(
    data: st.DataObject, size: int, part: int
) -> None:
    axis = data.draw(axes(size))
    array = np.arange(100, 100 + size)
    out = np.full(len(axis), -1)
    parts = []
    for piece in pieces(axis, Uniform(part)):
        chunk = array[piece.part * part : (piece.part + 1) * part]
        assert (out[piece.target] == -1).all()
        out[piece.target] = chunk[piece.source]
        np.testing.assert_array_equal(chunk[positions(piece.source)], chunk[piece.source])
        parts.append(piece.part)
    np.testing.assert_array_equal(out, array[np.asarray(axis, dtype=int)])
    assert len(set(parts)) == len(parts)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(data=st.data(), widths=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_bands_of_unequal_width_are_planned_alike(data: st.DataObject, widths: list[int]) -> None:
    edges = tuple(np.cumsum([0, *widths]).tolist())
    axis = data.draw(axes(edges[-1]))
    array = np.arange(edges[-1])
    out = np.full(len(axis), -1)
    for piece in pieces(axis, Bands(edges)):
        start, stop = Bands(edges).bounds(piece.part)
        out[piece.target] = array[start:stop][piece.source]
    np.testing.assert_array_equal(out, array[np.asarray(axis, dtype=int)])


@settings(deadline=None, derandomize=True, max_examples=300)
@given(data=st.data(), limit=st.integers(0, 12))
def test_a_piece_is_divided_at_a_limit(data: st.DataObject, limit: int) -> None:
    for piece in pieces(data.draw(axes(30)), Uniform(10)):
        inside, rest = below(piece, limit)
        sources, targets = positions(piece.source), positions(piece.target)
        kept = positions(inside.source) if inside else np.empty(0, int)
        assert kept.tolist() == sources[sources < limit].tolist()
        if inside is not None:
            assert positions(inside.target).tolist() == targets[sources < limit].tolist()
        left = positions(rest) if rest is not None else np.empty(0, int)
        assert left.tolist() == targets[sources >= limit].tolist()
