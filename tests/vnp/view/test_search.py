"""Records similar to one: told as they are found, one search at a time, and given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest

from store.errors import StoreError
from store.store import Store
from tests.vnp.view.stores import (
    TOKEN,
    Browser,
    append,
    listening,
    opened,
    parts_of,
    served,
    until,
)
from vnp.view import live as live_module
from vnp.view import search as module
from vnp.view.live import LiveStore
from vnp.view.search import Cancelled, Precedence, neighbours


def test_neighbours_are_those_of_the_search_of_the_store(client: Browser, shared: Store) -> None:
    found = parts_of(client.get("/api/neighbours", {"row": 42}))[-1]["records"]
    hits = shared.search(shared.merged()[42], 21)
    expected = [row for row in hits.rows[0].tolist() if row != 42][:20]
    assert [each["row"] for each in found] == expected
    assert found[0]["id"] == shared.column("id").decode()[expected[0]]
    assert found[0]["sample"] == ("first" if expected[0] < 70 else "second")


def test_records_without_an_embedding_have_no_neighbours(store: Store) -> None:
    append(store, "third", 40)
    with opened(store) as client:
        for row in (store.n_rows - 1, store.n_rows, 2**53):
            assert client.get("/api/neighbours", {"row": row}).status == 404
        assert client.get("/api/neighbours").status == 400


def test_what_is_found_is_told_as_it_goes(shared: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOLD_SECONDS", 0)
    monkeypatch.setattr(module, "_SHARE", 0)
    steps = neighbours(shared, 42, scores="kept", stopped=lambda: False, precedence=Precedence())
    assert steps is not None
    parts = list(steps)
    assert parts[0] == {"done": 0, "of": 100, "seconds_left": None}
    done = [part["done"] for part in parts]
    assert done == sorted(set(done))
    assert len(parts) == 1 + shared.n_blocks
    assert (done[-1], parts[-1]["seconds_left"]) == (100, 0)
    assert all(part["seconds_left"] > 0 for part in parts[1:-1])
    for part in parts[1:]:
        similar = [each["similarity"] for each in part["records"]]
        assert similar == sorted(similar, reverse=True)
        assert len(similar) >= min(part["done"] - 1, module.MOST)
    assert {each["score"] for each in parts[-1]["records"]} <= {0.9, 0.2}


def test_waiting_for_its_turn_is_no_part_of_the_time_left(
    shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TOLD_SECONDS", 0)
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(module, "time", clock)
    steps = neighbours(shared, 42, scores=None, stopped=lambda: False, precedence=Precedence())
    assert steps is not None
    next(steps)
    clock.now = 3600.0
    assert next(steps)["seconds_left"] == 0


def test_a_search_that_nobody_waits_for_is_given_up(shared: Store) -> None:
    asked = iter([False, True])
    steps = neighbours(shared, 1, scores=None, stopped=lambda: next(asked), precedence=Precedence())
    assert steps is not None
    assert next(steps)["done"] == 0
    with pytest.raises(Cancelled):
        next(steps)


class Gated:
    """Stands for a search: tells two parts, then waits to be stopped or let through."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.ended = threading.Event()
        self.through = threading.Event()

    def __call__(
        self, _: Store, row: int, *, stopped: Callable[[], bool], **__: Any
    ) -> Generator[Any]:
        yield {"done": 0, "of": 2, "seconds_left": None}
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield {"done": 1, "of": 2, "seconds_left": 9, "records": [row]}
            while not self.through.wait(0.01):
                if stopped():
                    raise Cancelled
            yield {"done": 2, "of": 2, "seconds_left": 0, "records": [row, row]}
        finally:
            self.running -= 1
            self.ended.set()


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Gated:
    search = Gated()
    monkeypatch.setattr(live_module, "neighbours", search)
    return search


def test_a_search_waits_for_its_turn_and_holds_up_nothing_else(
    client: Browser, gated: Gated
) -> None:
    with listening(client, "/api/neighbours?row=2") as waiting:
        with listening(client, "/api/neighbours?row=1") as first:
            first.until(lambda parts: "done" in parts)
            waiting.until(lambda parts: "done" in parts)
            # Whichever came first is under way; it is shown, and all else is answered.
            until(lambda: gated.running == 1, "a search")
            for name in ("overview", "contigs", "map"):
                assert client.get(f"/api/{name}").status == 200
            with listening(client, "/api/neighbours?row=3") as third:
                third.until(lambda parts: parts["done"] == 0)
            assert gated.running == 1
        gated.through.set()
        waiting.until(lambda parts: parts["done"] == 2)
        assert waiting.parts["records"] == [2, 2]
    assert gated.most == 1, "one at a time"


def test_a_browser_that_leaves_ends_its_search(
    client: Browser, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(client, "/api/neighbours?row=1") as page:
        page.until(lambda parts: parts["done"] == 1)
        assert page.parts["records"] == [1], "what is found is there before the end"
    assert gated.ended.wait(60)
    monkeypatch.undo()
    parts = parts_of(client.get("/api/neighbours", {"row": 1}))
    assert parts[-1]["done"] == 100, "the next one has its turn"


def test_the_end_of_the_server_ends_a_search(store: Store, gated: Gated) -> None:
    live = LiveStore(store, umap=False)
    with served(live) as client:
        client.get(f"/?token={TOKEN}")
        with listening(client, "/api/neighbours?row=1") as page:
            page.until(lambda parts: parts["done"] == 1)
            live.close()
            assert gated.ended.wait(60), "while its reader still listens"


@pytest.mark.parametrize("kind", [StoreError, TimeoutError], ids=["damage", "storage too slow"])
def test_an_error_in_the_middle_of_a_search_is_told(
    client: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    kind: type[Exception],
) -> None:  # fmt: skip
    def damaged(*_: Any, **__: Any) -> Generator[Any]:
        yield {"done": 0, "of": 2, "seconds_left": None}
        raise kind("obsm/X_small/c.1.0 is damaged")

    monkeypatch.setattr(live_module, "neighbours", damaged)
    parts = parts_of(client.get("/api/neighbours", {"row": 1}))
    assert parts[-1]["error"].startswith("the store cannot be read there")
    assert "obsm/X_small" in caplog.text, "the terminal says where"


def test_a_search_gives_way_to_answers(shared: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 60)
    precedence = Precedence()
    found: list[Any] = []

    def look() -> None:
        found.extend(
            neighbours(shared, 42, scores=None, stopped=lambda: False, precedence=precedence) or ()
        )

    with precedence.answering(), precedence.answering():
        with precedence.answering():
            pass
        searching = threading.Thread(target=look)
        searching.start()
        until(lambda: found, "the first part")
        assert [part["done"] for part in found] == [0], "no block is read meanwhile"
    searching.join(60)
    assert found[-1]["done"] == 100
