"""A store as a notebook shows it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from store.errors import DamageError
from store.open import create_store, open_store
from store.schema import Model
from store.store import Store
from tests.rows import MODELS, append, filled_store, publish


class Cells(HTMLParser):
    """Texts of the cells, and every tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_it_shows_samples_models_and_fill(tmp_path: Path) -> None:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "first", 40)
    publish(store, "small", 0)
    cells = Cells(store._repr_html_())
    assert {"first", "40", "first.fa", "small", "16 (40.0%)", "wide", "0 (0.0%)"} <= set(
        cells.texts
    )
    assert "40 rows of 1 sample, 500 bp segments, 16 rows a block" in cells.texts


def test_what_others_named_is_escaped_and_there_is_no_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "<script>alert(1)</script>&\udcff"
    store = filled_store(tmp_path / "a<b>&.zarr", rows=10)
    samples = store.schema.samples
    object.__setattr__(samples[0], "source", evil)
    cells = Cells(store._repr_html_())
    assert cells.tags == {
        *("div", "p", "b", "code", "br", "table", "thead", "tbody", "tr", "th", "td")
    }
    assert "<script>alert(1)</script>&\\udcff" in cells.texts
    assert any(text.endswith("a<b>&.zarr") for text in cells.texts)
    store._repr_html_().encode()


def test_many_samples_are_counted(tmp_path: Path) -> None:
    store = create_store(tmp_path / "run.h5", models=MODELS, segment_length=0)
    empty = Cells(store._repr_html_())
    assert "0 rows of 0 samples, whole sequences, 4,096 rows a block" in empty.texts
    for number in range(12):
        append(store, f"s{number}", 1)
    cells = Cells(open_store(store.path)._repr_html_())
    assert "s9" in cells.texts
    assert "s10" not in cells.texts
    assert "and 2 more samples" in cells.texts


def test_a_damaged_store_can_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_self: Store, _model: str) -> None:
        raise DamageError("filled: 3 < 4")

    store = create_store(tmp_path / "r.zarr", models=[Model("small", 8)], segment_length=500)
    monkeypatch.setattr(Store, "rows_filled", damaged)
    assert "cannot be read: filled: 3 < 4" in Cells(store._repr_html_()).texts


def test_obs_is_the_table_of_all_rows(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    store = filled_store(tmp_path / "run.zarr", rows=30)
    pandas.testing.assert_frame_equal(store.obs, store.to_pandas(slice(None)))
    assert len(store.obs) == 30
