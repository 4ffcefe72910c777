"""What the server tells of a store that changes, vanishes or cannot be read."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store.errors import StoreError
from store.open import create_store, open_store
from store.store import Store
from tests import rows
from tests.vnp.view.stores import (
    TOKEN,
    append,
    keep_scores,
    make_store,
    opened,
    served,
    until,
)
from vnp.report.calls import Tally, saved_scores
from vnp.view import live as live_module
from vnp.view.index import ContigIndex, known_by
from vnp.view.live import LiveStore
from vnp.view.picture import Picture, filled_of


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_an_appended_sample_and_new_scores_are_seen(tmp_path: Path, kind: str) -> None:
    store = make_store(tmp_path / f"run.{kind}")
    with opened(open_store(store.path)) as client:

        def asked(**given: str) -> Any:
            client.get("/api/overview")  # has it look
            return client.get(
                "/api/contigs", {**given, "sort": "score", "descending": "true"}
            ).json()

        until(lambda: asked()["total"] == 20, "the index")
        append(store, "third", 40, contig="later")
        found = until(lambda: (each := asked(text="later"))["total"] and each, "its contigs")
        assert found["total"] == 8
        assert {row["score"] for row in found["rows"]} == {None}, "nothing scored them"
        keep_scores(store)
        found = until(lambda: (each := asked(text="later"))["rows"][0]["score"] and each, "scores")
        assert found["rows"][0]["score"] == pytest.approx(0.9)
        track = client.get("/api/track", {"sample": "third", "contig": "later_7"}).json()
        assert track["consensus"]


def test_a_store_that_vanishes_is_told_and_does_not_end_the_server(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(store) as client:
        until(lambda: client.get("/api/contigs").json()["complete"], "the index")
        store.path.rename(store.path.with_name("moved.zarr"))
        until(
            lambda: client.get("/api/overview") and "cannot be looked at" in caplog.text, "a word"
        )
        assert "cannot be read any more" in client.get("/api/overview").json()["trouble"]
        assert client.get("/api/contigs").json()["total"] == 20, "the index still answers"
        answer = client.get("/api/track", {"sample": "first", "contig": "contig_1"})
        assert answer.status == 500
        assert str(store.path) not in answer.text


def remade(store: Store) -> Store:
    """Another store with fewer samples and without scores in the place of one."""
    for path in (store.path, store.path.with_name(f"{store.path.name}.vnp")):
        shutil.rmtree(path)
    made = create_store(store.path, models=rows.MODELS[:1], segment_length=500, block_rows=16)
    append(made, "other", 10)
    return made


def test_a_store_made_anew_while_it_is_open_is_shown_as_it_is(store: Store) -> None:
    with opened(store) as client:
        until(lambda: client.get("/api/overview").json()["classifier"], "the calls")
        until(lambda: client.get("/api/overview").json()["distributions"], "the distributions")
        remade(store)

        def overview() -> Any:
            found = client.get("/api/overview").json()
            return found if found["total"]["records"] == 10 else None

        assert until(overview, "the other store")["classifier"] is None
        until(lambda: client.get("/api/contigs").json()["total"] == 2, "its contigs")
        assert client.get("/api/overview").json()["store"]["models"] == ["small"]


def test_nothing_of_another_store_is_shown_of_one(store: Store, tmp_path: Path) -> None:
    picture = Picture(store, title=None)
    filled = filled_of(store)
    picture.look(store, filled)
    picture.read(store, filled)
    source = saved_scores(store)
    index = ContigIndex(threading.Event())
    assert [indexed.complete for indexed in index.extend(store, source)] == [True]
    picture.called(store, source, index.tally, index.scored)
    assert picture.overview()["classifier"]
    other = create_store(
        tmp_path / "other.zarr", models=rows.MODELS, segment_length=500, block_rows=16
    )
    append(other, "first", 10)
    picture.look(other, filled_of(other))
    found = picture.overview()
    assert found["total"]["records"] == 10
    assert found["classifier"] is None
    assert found["distributions"] is None
    picture.called(store, source, index.tally, index.scored)  # it was under way
    assert picture.overview()["classifier"] is None
    assert not index.goes_on_with(other, source)
    index.close()


def test_an_empty_store_with_scores_is_shown_empty(tmp_path: Path) -> None:
    empty = create_store(tmp_path / "e.zarr", models=rows.MODELS, segment_length=500, block_rows=16)
    keep_scores(empty)
    picture, source = Picture(empty, title=None), saved_scores(empty)
    picture.calling(scores=source is not None)
    picture.called(empty, source, Tally(), 0)
    found = picture.overview()
    assert (found["classifier"], found["scores"]) == (None, None)


def test_what_fails_unforeseen_ends_neither_thread(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_module, "_SLOWEST_SECONDS", 0.01)
    failing = ["looked", "caught up"]

    def once(what: str, real: Any) -> Any:
        def call(*given: Any) -> Any:
            if what in failing:
                failing.remove(what)
                raise IndexError(what)
            return real(*given)

        return call

    monkeypatch.setattr(LiveStore, "_looked", once("looked", LiveStore._looked))
    monkeypatch.setattr(LiveStore, "_catch_up", once("caught up", LiveStore._catch_up))
    with opened(store) as client:
        until(lambda: client.get("/api/overview") and not failing, "both")
        until(lambda: client.get("/api/overview").json()["classifier"], "the calls")
        append(store, "third", 5)
        until(lambda: client.get("/api/overview").json()["total"]["records"] == 105, "a look")
    assert caplog.text.count("Traceback") == 2


def drawing(given: list[Any], failing: list[Any]) -> Any:
    """What stands for the making of a map: keeps the scores, and fails while it should."""

    def draw(store: Store, table: Any, *, scores: str | None, **_: Any) -> Any:
        given.append((len(table), scores))
        if failing:
            raise StoreError(f"the map cannot be made in {store.path}")
        return {"of": store.n_rows, "score": scores}

    return draw


def test_the_map_is_made_anew_for_scores_that_come_later_and_for_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(live_module, "draw_map", drawing(given, []))
    store = create_store(tmp_path / "run.zarr", models=rows.MODELS, segment_length=500)
    append(store, "first", 20)
    for model in rows.MODELS:
        rows.publish(store, model.name, 0)
    with opened(store) as client:

        def shown(score: str | None, of: int) -> Any:
            client.get("/api/overview")  # has it look
            found = client.get("/api/map").json()
            return found["map"] == {"of": of, "score": score} and found["number"]

        until(lambda: shown(None, 20), "the first map")
        keep_scores(store, "later")
        assert until(lambda: shown("later", 20), "the scores") == 2
        for path in (store.path, store.path.with_name("run.zarr.vnp")):
            shutil.rmtree(path)
        other = create_store(store.path, models=rows.MODELS, segment_length=500)
        append(other, "other", 20)
        for model in rows.MODELS:
            rows.publish(other, model.name, 0)
        until(lambda: shown(None, 20), "the map of the other store")
        assert given == [(4, None), (4, "later"), (4, None)], "each once"


def test_a_map_that_cannot_be_made_is_told_and_not_tried_at_each_question(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[Any] = []
    failing = [True]
    monkeypatch.setattr(live_module, "draw_map", drawing(given, failing))
    with opened(store) as client:
        found = until(
            lambda: not (each := client.get("/api/map").json())["pending"] and each, "a word"
        )
        assert found["map"] is None
        assert found["trouble"].startswith("The map cannot be made")
        assert str(store.path) not in found["trouble"]
        assert str(store.path) in caplog.text, "the terminal says why"
        for _ in range(3):
            assert client.get("/api/map").json() == found
        failing.clear()
        append(store, "third", 5)  # the questions have been answered when this is indexed
        until(
            lambda: (
                client.get("/api/overview") and client.get("/api/contigs").json()["total"] == 21
            ),
            "the sample",
        )
        assert len(given) == 1
        assert found["failed"]
        failing.append(True)
        again = client.get("/api/map", {"again": "true"}).json()
        assert again["pending"] or again["failed"], "asked to, it is tried again"
        until(lambda: len(given) == 2 and client.get("/api/map").json()["failed"], "a second word")
        failing.clear()
        keep_scores(store, "other")
        until(lambda: client.get("/api/overview") and client.get("/api/map").json()["map"], "it")
        assert client.get("/api/map", {"again": "true"}).json()["map"], "it is not made anew"


def test_contigs_that_cannot_be_read_are_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "_SLOWEST_SECONDS", 0.01)

    def fail(*_: Any) -> Any:
        raise StoreError(f"{store.path} is damaged")

    with monkeypatch.context() as failing:
        failing.setattr(LiveStore, "_catch_up", fail)
        live = LiveStore(store, umap=False)
        with served(live) as client:
            client.get(f"/?token={TOKEN}")
            until(lambda: client.get("/api/overview").json()["trouble"], "a word")
            answer = client.get("/api/map").json()
            assert not answer["pending"]
            assert answer["trouble"] == client.get("/api/contigs").json()["trouble"]
            assert answer["trouble"].startswith("The contigs cannot be read")
            failing.undo()
            until(lambda: not client.get("/api/overview").json()["trouble"], "the end of it")
            assert client.get("/api/contigs").json()["complete"]


@pytest.mark.parametrize("known", [True, False])
def test_contigs_are_as_long_as_the_store_knows(tmp_path: Path, known: bool) -> None:
    store = create_store(
        tmp_path / "run.zarr", models=rows.MODELS, segment_length=500, contig_lengths=known
    )
    append(store, "first", 10, length=4000)
    with opened(store) as client:

        def indexed() -> Any:
            found = client.get("/api/contigs", {"min_length": "2500"}).json()
            return found["total"] and found

        found = until(indexed, "the index")
        assert [row["bases"] for row in found["rows"]] == [4000 if known else 2500] * 2
        assert client.get("/api/overview").json()["store"]["contig_lengths"] is known
    # Another store in its place may have none: contigs are read again.
    without = replace(store.schema, contig_lengths=False)
    assert known_by(store.schema).goes_on_in(without) is not known
