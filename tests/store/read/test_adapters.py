"""The store as pandas, AnnData, dask and xarray, and searched, against plain reading."""

from __future__ import annotations

import builtins
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import UsageError
from store.io.optional import MissingPackageError
from store.io.ragged import Ragged, from_items
from store.open import create_store
from store.read.columns import take, take_column
from store.read.indexing import row_positions
from store.read.search import search, searching, unit_rows, widened
from store.store import Store
from tests.rows import MODELS, HeldClaim, append, expected, nucleotide, publish

ROWS = 57


@pytest.fixture(autouse=True)
def _outside_warnings() -> Iterator[None]:
    """Warnings that other packages give about themselves are theirs; ours stay errors."""
    with warnings.catch_warnings():
        for module in ("anndata", "zarr", "xarray", "dask", "faiss", "importlib"):
            warnings.filterwarnings("ignore", module=rf"{module}(\..*)?\Z")
        yield


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two samples; of ``small`` the blocks 1 and 3 are filled, of ``wide`` all."""
    store = create_store(
        tmp_path_factory.mktemp("adapters") / "run.zarr",
        models=MODELS,
        segment_length=500,
        block_rows=16,
    )
    append(store, "first", 40)
    append(store, "second", ROWS - 40)
    for block in range(store.n_blocks):
        publish(store, "wide", block)
    for block in (1, 3):
        publish(store, "small", block)
    return store


CHOICES = [
    slice(30, 50),
    slice(None, None, -5),
    [50, 3, 3, -1],
    np.arange(ROWS) % 4 == 1,
    [],
    slice(0, 0),
]


@pytest.mark.parametrize("rows", CHOICES)
def test_pandas_has_the_rows_asked_for(opened: Store, rows: Any) -> None:
    pytest.importorskip("pandas")
    at = row_positions(rows, ROWS)
    table = opened.to_pandas(rows, sequences=True)
    ids = np.array(opened.column("id").decode(), dtype=object)
    assert table.index.tolist() == ids[at].tolist()
    assert table["sample"].tolist() == ["first" if row < 40 else "second" for row in at]
    assert table["start"].tolist() == opened.column("start")[at].tolist()
    assert table["strand"].dtype == np.int8
    assert table["filled_small"].tolist() == opened.filled("small")[at].tolist()
    dna = [
        nucleotide("first" if row < 40 else "second", row if row < 40 else row - 40).decode()
        for row in at
    ]
    assert table["nucleotide"].tolist() == dna
    assert "protein" not in opened.to_pandas(rows)


@pytest.mark.parametrize("rows", [row for row in CHOICES if len(np.arange(ROWS)[row])])
def test_anndata_in_memory_has_the_rows_asked_for(opened: Store, rows: Any) -> None:
    pytest.importorskip("anndata")
    at = row_positions(rows, ROWS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Observation names are not unique")
        data = opened.to_anndata(rows)
    assert data.shape == (len(at), 0)
    np.testing.assert_array_equal(data.obsm["X_wide"], expected(opened, "wide")[at])
    np.testing.assert_array_equal(data.obsm["X_small"], opened.read("small")[at])
    assert data.obs["contig"].tolist() == opened.to_pandas(rows)["contig"].tolist()
    assert data.uns["vnp"]["small"] == '{"name": "small"}'


def test_anndata_of_chosen_models(opened: Store) -> None:
    pytest.importorskip("anndata")
    assert list(opened.to_anndata(slice(9), models=["wide"]).obsm) == ["X_wide"]
    with pytest.raises(UsageError, match="together with rows"):
        opened.to_anndata(models=["wide"])


def test_anndata_of_everything_is_lazy(opened: Store) -> None:
    pytest.importorskip("anndata")
    data = opened.to_anndata()
    assert data.shape == (ROWS, 0)
    assert type(data.obsm["X_wide"]).__module__.startswith("dask")
    part = data[16:32].to_memory()
    np.testing.assert_array_equal(part.obsm["X_small"], expected(opened, "small")[16:32])


def test_dask_reads_the_merged_view_by_blocks(opened: Store) -> None:
    pytest.importorskip("dask")
    array = opened.to_dask(["wide", "small"])
    assert array.chunks == ((16, 16, 16, 9), (28,))
    plain = np.concatenate([expected(opened, "wide"), opened.read("small")], axis=1)
    np.testing.assert_array_equal(array.compute(), plain)
    np.testing.assert_array_equal(array[5:40:7, 18:22].compute(), plain[5:40:7, 18:22])
    mean = opened.to_dask(["wide"], chunk_rows=32).astype("f4").mean(axis=0).compute()
    np.testing.assert_allclose(mean, plain[:, :20].astype("f4").mean(axis=0), rtol=1e-5)
    assert opened.to_dask(["wide"]).name == opened.to_dask(["wide"]).name
    assert opened.to_dask(["wide"]).name != opened.to_dask(["small"]).name
    with pytest.raises(UsageError, match="chunk_rows"):
        opened.to_dask(chunk_rows=0)


def test_xarray_has_everything_lazily(opened: Store) -> None:
    pytest.importorskip("xarray")
    pytest.importorskip("dask")
    data = opened.to_xarray()
    assert data.sizes == {"record": ROWS, "small_dim": 8, "wide_dim": 20, "feature": 28}
    assert data.X_merged.chunks == ((16, 16, 16, 9), (28,))
    picked = data.isel(record=[50, 3], feature=slice(7, 10)).compute()
    plain = np.concatenate([opened.read("small"), expected(opened, "wide")], axis=1)
    np.testing.assert_array_equal(picked.X_merged, plain[[50, 3], 7:10])
    assert picked.model.values.tolist() == ["small", "wide", "wide"]
    assert picked["index"].values.tolist() == [7, 0, 1]
    assert picked["sample"].values.tolist() == ["second", "first"]
    assert picked.id.values.tolist() == ["second_10_chunk_1F1", "first_3_chunk_1F1"]
    assert data.start.values.tolist() == opened.column("start").tolist()
    np.testing.assert_array_equal(data.filled_small, opened.filled("small"))


def test_kept_scores_are_in_every_obs(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    pytest.importorskip("dask")
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "first", 20)
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    store.save_scores("phage", digest="d", values=values, rows=[(0, 9)])
    for at in (0, 1):
        wanted = [*values[:9, at], *[np.nan] * 11]
        for obs in (store.obs, store.to_xarray()):
            np.testing.assert_array_equal(obs[f"phage_score{at + 1}"], wanted)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.binary(max_size=5), min_size=1, max_size=12), st.data())
def test_items_are_taken_in_any_order(items: list[bytes], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=20))
    taken = take(from_items(items), np.array(rows, dtype=np.int64))
    assert taken.tolist() == [items[row] for row in rows]


def test_a_column_of_no_rows_keeps_its_type(opened: Store) -> None:
    none = np.empty(0, np.int64)
    assert take_column(opened, "start", none).dtype == np.int64
    assert isinstance(take_column(opened, "id", none), Ragged)


def test_rows_of_samples(opened: Store) -> None:
    assert opened.rows_of("second").tolist() == list(range(40, 57))
    assert opened.rows_of(["second", "first"]).tolist()[:3] == [40, 41, 42]
    with pytest.raises(UsageError, match=r"no sample 'frst' .*first, second\); did you mean first"):
        opened.rows_of("frst")


# -- search ---------------------------------------------------------------------------------------


def plain_search(values: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarity by its definition, in float64."""
    values, queries = values.astype("f8"), queries.astype("f8")
    length = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(values, axis=1)
    scores = np.nan_to_num(queries @ values.T / np.where(length == 0, 1, length))
    scores[:, ~np.isfinite(values).all(axis=1)] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


@pytest.mark.parametrize("engine", ["numpy", "faiss", "auto"])
@pytest.mark.parametrize(("count", "k"), [(1, 1), (3, 7), (30, 40)])
def test_search_finds_the_most_similar_rows(opened: Store, engine: str, count: int, k: int) -> None:
    if engine == "faiss":
        pytest.importorskip("faiss")
    rng = np.random.default_rng(count)
    queries = rng.normal(size=(count, 28)).astype("f4")
    values = np.asarray(opened.merged())
    hits = opened.search(queries, k, engine=engine)
    rows, scores = plain_search(values, queries, min(k, 25))
    assert hits.rows.shape == hits.scores.shape == (count, min(k, 25))
    np.testing.assert_allclose(hits.scores, scores, atol=2e-6)
    # Rows whose scores differ by less than rounding may change places.
    distinct = np.abs(np.diff(scores, axis=1, append=-2)) > 1e-5
    distinct[:, 1:] &= distinct[:, :-1]
    assert (hits.rows == rows)[distinct].all()
    assert opened.merged().filled[hits.rows].all()


def test_search_gives_equal_rows_by_number(tmp_path: Path) -> None:
    store = create_store(tmp_path / "a.zarr", models=MODELS[:1], segment_length=500, block_rows=16)
    append(store, "a", 40)
    values = np.tile(np.arange(1, 9, dtype=np.float16), (40, 1))
    values[[5, 20]] = 0
    store.pin_provenance("small", {})
    for block in range(3):
        start, stop = store.block_bounds(block)
        store.publish(HeldClaim("small", block), values[start:stop])
    hits = store.search(values[0], 20, engine="numpy")
    assert hits.rows[0].tolist() == [*range(5), *range(6, 20), 21]
    np.testing.assert_allclose(hits.scores, 1, rtol=1e-6)
    every = store.search(values[5], 99, engine="numpy")
    assert every.rows.shape == (1, 40)
    assert (every.scores == 0).all()


def test_search_takes_the_whole_range_of_float16() -> None:
    extremes = np.array([[65504, -65504], [6e-8, 0], [0, 0]], dtype=np.float16)
    lengths = np.linalg.norm(unit_rows(extremes.astype("f4")), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0], rtol=1e-6)


def test_float16_is_widened_exactly() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    wide = widened(finite.reshape(2, -1)).ravel()
    assert wide.dtype == np.float32
    assert (wide.view(np.uint32) == finite.astype(np.float32).view(np.uint32)).all()


def test_a_search_tells_what_it_has_compared(opened: Store) -> None:
    view = opened.merged()
    query = np.arange(28)
    whole = search(view, query, 7)
    for scattered in (False, True):
        parts = list(searching(view, query, 7, scattered=scattered))
        assert (parts[0].done, parts[0].hits.rows.shape) == (0, (1, 0))
        assert [part.of for part in parts] == [25] * len(parts)
        assert parts[-1].done == 25
        assert (np.diff([part.done for part in parts]) > 0).all()
        assert parts[-1].hits.rows.tolist() == whole.rows.tolist()
    steps = searching(view, query, 7)
    next(steps)
    next(steps)
    steps.close()


@pytest.mark.parametrize(
    ("query", "k", "engine", "words"),
    [
        (np.ones(5), 1, "auto", "28 numbers"),
        (np.ones((2, 2, 28)), 1, "auto", "28 numbers"),
        (np.full(28, np.nan), 1, "auto", "NaN"),
        (np.ones(28), 0, "auto", "k is 0"),
        (np.ones(28), 1, "gpu", "engine"),
    ],
)
def test_a_search_that_cannot_be(
    opened: Store, query: np.ndarray, k: int, engine: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        search(opened.merged(), query, k, engine=engine)


def test_a_missing_package_is_told_with_its_command(
    opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {
        "pandas": ("read", lambda: opened.to_pandas()),
        "anndata": ("read", lambda: opened.to_anndata()),
        "xarray": ("read", lambda: opened.to_xarray()),
        "dask": ("read", lambda: opened.to_dask()),
        "faiss": ("faiss", lambda: opened.search(np.ones(28), engine="faiss")),
    }
    for name, (extra, call) in calls.items():
        with monkeypatch.context() as patch:
            for module in [m for m in sys.modules if m.partition(".")[0] == name]:
                patch.delitem(sys.modules, module)
            patch.setattr(builtins, "__import__", builtins.__import__)
            patch.setattr(sys, "meta_path", [_Without(name), *sys.meta_path])
            with pytest.raises(MissingPackageError, match=f"{name}.*, .* 'vnp.{extra}.'$"):
                call()
    assert opened.search(np.ones(28), 2, engine="numpy").rows.shape == (1, 2)


class _Without:
    """An import system in which one package is not installed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self._name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_nothing_heavy_is_imported_with_the_store() -> None:
    import subprocess

    code = "import sys, store; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    ).stdout.split()
    heavy = {"torch", "vnp", "anndata", "dask", "faiss", "h5py", "pandas", "pyarrow", "xarray"}
    assert heavy.isdisjoint(loaded)
