"""Views against plain NumPy on the same matrix, half filled, growing, damaged and pickled."""

from __future__ import annotations

import functools
import multiprocessing
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import store.read.view
from store.errors import DamageError, UsageError
from store.open import create_store
from store.read.view import MissingRowsError, View
from store.schema import Model
from store.store import Store
from tests.rows import MODELS, append, expected, filled_store, publish
from tests.store.read.test_indexing import chooses_single_numbers, keys

pytestmark = pytest.mark.slow

ROWS, R = 61, 16


@pytest.fixture(scope="module", params=[".zarr", ".h5"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Of ``small`` the blocks 0 and 2 are filled, of ``wide`` 0, 1 and 3, of ``late`` all."""
    store = create_store(
        tmp_path_factory.mktemp("views") / f"run{request.param}",
        models=(*MODELS, Model("late", 3)),
        segment_length=500,
        block_rows=R,
    )
    append(store, "first", 40)
    append(store, "second", ROWS - 40)
    for model, blocks in {"small": (0, 2), "wide": (0, 1, 3), "late": (0, 1, 2, 3)}.items():
        for block in blocks:
            publish(store, model, block)
    return store


def matrix(store: Store, models: tuple[str, ...]) -> np.ndarray:
    """The merged matrix, by the plain way of reading."""
    return np.concatenate([store.read(model) for model in models], axis=1)


plain_matrix = functools.cache(matrix)


ORDERS = [("small",), ("wide", "small"), ("small", "wide", "late"), ("late", "small", "wide")]


@settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), models=st.sampled_from(ORDERS), verify=st.booleans(), many=st.booleans())
def test_a_view_is_indexed_like_the_matrix(
    opened: Store, data: st.DataObject, models: tuple[str, ...], verify: bool, many: bool
) -> None:
    view = opened.merged(models, verify=verify)
    plain = plain_matrix(opened, models)
    assert view.shape == plain.shape
    key = data.draw(keys(*view.shape))
    if chooses_single_numbers(key):
        with pytest.raises(IndexError):
            view[key]
        return
    wanted = plain[key]
    with pytest.MonkeyPatch.context() as patch:
        if many:
            patch.setattr(store.read.view, "_THREADED_BYTES", 0)
        result = view[key]
    np.testing.assert_array_equal(result, wanted)
    # A single number is a scalar, also where NumPy gives a 0-d array, as for [0, ..., 0].
    assert isinstance(result, np.ndarray if np.ndim(wanted) else np.float16)
    assert (result.dtype, np.shape(result)) == (np.float16, np.shape(wanted))


def test_what_a_view_says_of_itself(opened: Store) -> None:
    view = opened.merged(["wide", "small"])
    assert (view.ndim, view.dtype, len(view), view.size) == (2, np.float16, 61, 61 * 28)
    assert view.nbytes == view.size * 2
    assert view.bands == {"wide": slice(0, 20), "small": slice(20, 28)}
    assert view.columns[19:22] == [("wide", 19), ("small", 0), ("small", 1)]
    assert "wide 0:20, small 20:28" in repr(view)
    assert opened["small"].shape == (61, 8)
    assert [model.name for model in opened.merged().models] == ["small", "wide", "late"]
    assert opened.merged("wide").shape == (61, 20)


def test_a_view_becomes_an_array(opened: Store) -> None:
    view, plain = opened.merged(), matrix(opened, ("small", "wide", "late"))
    np.testing.assert_array_equal(np.asarray(view), plain)
    assert np.asarray(view, dtype="f4").dtype == np.float32
    np.testing.assert_array_equal(np.array(view, dtype="f8"), plain.astype("f8"))
    with pytest.raises(ValueError, match="copy"):
        np.array(view, copy=False)
    np.testing.assert_array_equal(np.stack(list(view)), plain)
    np.testing.assert_array_equal(np.nanmean(view, axis=0), np.nanmean(plain, axis=0))


def test_filled_rows_are_those_of_every_model(opened: Store) -> None:
    both = opened.filled("small") & opened.filled("wide")
    np.testing.assert_array_equal(opened.merged(["small", "wide"]).filled, both)
    np.testing.assert_array_equal(opened["late"].filled, np.ones(61, bool))
    view = opened.merged(["small", "wide"])
    assert np.isfinite(view[view.filled]).all()


@pytest.mark.parametrize(
    ("key", "count", "first"),
    [
        (slice(10, 20), 4, 16),
        (20, 1, 20),
        ([3, 47, 50, 4, 49], 2, 50),
        ((slice(60, 45, -2), 0), 7, 60),
        (np.ix_([1, 30, 2], [3, 7]), 1, 30),
    ],
)
def test_rows_that_are_not_certified_raise_when_asked_to(
    opened: Store, key: Any, count: int, first: int
) -> None:
    view = opened.merged(["small"], missing="raise")
    words = rf": {count} rows? of .* for small, the first is row {first};"
    with pytest.raises(MissingRowsError, match=words):
        view[key]


def test_only_the_columns_asked_for_must_be_there(opened: Store) -> None:
    view = opened.merged(["small", "late"], missing="raise")
    np.testing.assert_array_equal(view[:, view.bands["late"]], expected(opened, "late"))
    np.testing.assert_array_equal(view[:16], matrix(opened, ("small", "late"))[:16])
    np.testing.assert_array_equal(
        view[np.ix_([17, 18], [9, 8])], expected(opened, "late")[np.ix_([17, 18], [1, 0])]
    )


def test_an_empty_store_and_wrong_names(tmp_path: Path) -> None:
    empty = create_store(tmp_path / "a.zarr", models=MODELS, segment_length=500)
    view = empty.merged()
    assert view.shape == (0, 28)
    assert view[:].shape == (0, 28)
    assert view.filled.shape == (0,)
    assert list(view.batches()) == []
    for models, words in [
        ((), "at least one"),
        (("small", "small"), "twice"),
        (("x",), "no model"),
    ]:
        with pytest.raises(UsageError, match=words):
            empty.merged(models)
    with pytest.raises(UsageError, match="missing"):
        empty.merged(missing="zero")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model's name"):
        empty[0]  # type: ignore[index]


def test_a_view_keeps_its_rows_while_the_store_grows(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=20)
    view, plain = store.merged(), matrix(store, ("small", "wide"))
    append(store, "third", 30)
    for block in range(store.n_blocks):
        publish(store, "small", block)
    assert store.n_rows == 50
    np.testing.assert_array_equal(view[:], plain)
    with pytest.raises(IndexError):
        view[20]
    newer = store.merged()
    assert newer.shape == (50, 28)
    np.testing.assert_array_equal(newer[:], matrix(store, ("small", "wide")))


@pytest.mark.parametrize(
    ("content", "words"), [(None, "missing"), (b"", "length is 0"), (b"x" * 255, "length is 255")]
)
def test_a_chunk_that_is_gone_or_short_is_named(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    store = filled_store(tmp_path / "run.zarr")
    chunk = store.path / "obsm/X_small/c.1.0"
    chunk.unlink()
    if content is not None:
        chunk.write_bytes(content)
    view = store.merged()
    sound = np.concatenate([expected(store, model) for model in ("small", "wide")], axis=1)
    np.testing.assert_array_equal(view[:16], sound[:16])
    with pytest.raises(DamageError, match=rf"c\.1\.0, small block 1: .*{words}"):
        view[20]


def test_flipped_bits_are_seen_when_asked(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr")
    chunk = store.path / "obsm/X_small/c.1.0"
    raw = bytearray(chunk.read_bytes())
    raw[5] ^= 1
    chunk.write_bytes(raw)
    assert np.isfinite(store["small"][20]).all()
    view = store.merged(["small"], verify=True)
    np.testing.assert_array_equal(view[:16], expected(store, "small")[:16])
    with pytest.raises(DamageError, match="checksum"):
        view[20]


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")  # another test may have loaded it
def test_a_view_travels_to_other_processes(opened: Store) -> None:
    view = opened.merged(["wide", "small"])
    np.testing.assert_array_equal(ForkingPickler.loads(ForkingPickler.dumps(view))[::7], view[::7])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = pool.map(_read, [(view, row) for row in range(4)])
    np.testing.assert_array_equal(np.stack(parts), view[:4])


def _read(job: tuple[View, int]) -> np.ndarray:
    return job[0][job[1]]


def test_batches_keep_to_blocks(opened: Store) -> None:
    view = opened.merged()
    starts = [start for start, _ in view.batches(10, 40)]
    assert starts == [10, 16, 32]
    joined = np.concatenate([values for _, values in view.batches(10, 40)])
    np.testing.assert_array_equal(joined, view[10:40])
