"""The map in a browser: coloured anew, tried again, and what is similar while it is looked for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import pytest

from store.errors import StoreError
from store.open import create_store
from store.read.columns import take_scores
from store.store import Store
from tests import rows
from tests.vnp.report.conftest import Opened
from tests.vnp.view.stores import TOKEN, append, keep_scores, served, until
from vnp.view import live as live_module
from vnp.view import search as search_module
from vnp.view.live import LiveStore
from vnp.view.page import live_page

pytestmark = pytest.mark.slow

PICTURE = "document.querySelector('canvas.points')?.toDataURL()"  # none while it is replaced


@pytest.fixture
def store(tmp_path: Any) -> Store:
    """A store of 60 certified records of two samples in blocks of ten, without scores."""
    made = create_store(
        tmp_path / "run.zarr", models=rows.MODELS, segment_length=500, block_rows=10
    )
    append(made, "first", 40)
    append(made, "second", 20, contig="other")
    for model in rows.MODELS:
        for block in range(made.n_blocks):
            rows.publish(made, model.name, block)
    return made


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Maps on a circle instead of by PCA, which takes a process with torch; fails if it is said."""
    said: list[str] = []

    def draw(store: Store, table: Any, *, scores: str | None, **_: Any) -> Any:
        if said:
            raise StoreError(said[0])
        numbers = np.arange(store.n_rows)
        turn = 2 * np.pi * numbers / len(numbers)
        contig = np.searchsorted(table.first, numbers, side="right") - 1
        score = None if scores is None else take_scores(store, scores, numbers)[:, 1]
        return {
            "method": "Circle", "axes": ["x", "y"], "note": "", "of": len(numbers),
            "x": np.cos(turn).tolist(), "y": np.sin(turn).tolist(),
            "id": [f"record {number}" for number in numbers], "row": numbers.tolist(),
            "length": table.bases[contig].tolist(),
            "score": None if score is None else score.tolist(),
            "contig": contig.tolist(), "sample": table.sample[contig].tolist(),
            "frame": [0] * len(numbers),
            "names": {
                "contig": table.ids.texts(np.arange(len(table))), "sample": list(table.samples),
                "frame": ["F1"],
            },
        }  # fmt: skip

    monkeypatch.setattr(live_module, "draw_map", draw)
    monkeypatch.setattr(live_module, "missing_packages", list)
    return said


@contextlib.contextmanager
def shown(store: Store, browser: Any) -> Iterator[Opened]:
    """The page of a store, served by this process."""
    context = browser.new_context(viewport={"width": 1100, "height": 1400})
    context.set_default_timeout(60_000)
    try:
        with served(LiveStore(store, umap=False), page=live_page("A study")) as server:
            view = Opened(context.new_page())
            view.page.goto(f"http://127.0.0.1:{server.port}/?token={TOKEN}")
            view.page.wait_for_selector("html[data-ready]")
            yield view
            view.page.goto("about:blank")  # before the server ends, which the page would tell
    finally:
        context.close()


@pytest.mark.usefixtures("failing")
def test_the_map_is_coloured_by_scores_that_come(store: Store, browser: Any) -> None:
    with shown(store, browser) as view:
        page = view.page
        page.locator("canvas.points").scroll_into_view_if_needed()
        page.locator("#map .map-legend", has_text="second").wait_for()
        ways = page.locator("#colour option")
        assert ways.all_inner_texts() == ["sample", "contig length", "reading frame"]
        by_sample = page.evaluate(PICTURE)
        page.select_option("#colour", "frame")
        assert page.evaluate(PICTURE) != by_sample
        keep_scores(store)
        page.locator("#map .map-legend", has_text="1 virus").wait_for()
        assert "score2" in ways.all_inner_texts()
        assert page.locator("#colour").input_value() == "score", "it is what it shows"
        by_score = page.evaluate(PICTURE)
        assert by_score not in (None, by_sample)
        page.select_option("#colour", "sample")
        assert page.evaluate(PICTURE) not in (None, by_score)
        assert view.trouble == []


def test_a_map_that_failed_is_told_and_tried_again(
    store: Store, browser: Any, failing: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    failing.append("secret/path: no memory")
    with shown(store, browser) as view:
        page = view.page
        trouble = page.locator("#map", has_text="The map cannot be made")
        trouble.wait_for()
        assert "secret" not in page.content()
        page.get_by_role("button", name="Try again").click()
        until(lambda: caplog.text.count("secret/path") == 2, "a second try")
        trouble.wait_for()
        failing.clear()
        page.get_by_role("button", name="Try again").click()
        page.locator("#map h3", has_text="Circle of 60 certified records").wait_for()
        assert page.get_by_role("button", name="Try again").count() == 0
        assert view.trouble == []


@pytest.mark.usefixtures("failing")
def test_an_error_is_an_alert_until_an_answer_comes(
    store: Store, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise StoreError("secret/path is damaged")

    with shown(store, browser) as view:
        page = view.page
        alert = page.get_by_role("alert")
        assert alert.count() == 0, "it is hidden"
        with monkeypatch.context() as failing:
            failing.setattr(LiveStore, "contigs", fail)
            page.locator("#search").fill("contig_1")
            alert.filter(has_text="the store cannot be read there").wait_for()
            assert "secret" not in page.content()
        page.locator("#search").fill("contig_2")
        page.locator("#contigs .status", has_text="1 contig").wait_for()
        alert.wait_for(state="hidden")
        view.page.route("**/api/contigs*", lambda route: route.abort())
        page.locator("#search").fill("contig_3")
        alert.filter(has_text="The server does not answer").wait_for()


class Held:
    """Lets a search of embeddings go on block by block."""

    def __init__(self, real: Callable[..., Generator[Any]]) -> None:
        self._real = real
        self.blocks = threading.Semaphore(0)
        self.given_up = threading.Event()

    def __call__(self, *given: Any, **how: Any) -> Generator[Any]:
        steps = self._real(*given, **how)
        try:
            for step in steps:
                yield step
                while not self.blocks.acquire(timeout=0.01):
                    yield step  # nothing new: whether to stop is asked meanwhile
        finally:
            self.given_up.set()


@pytest.mark.usefixtures("failing")
def test_what_is_similar_is_shown_as_it_is_found_and_can_be_left(
    store: Store, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(search_module.searching)
    monkeypatch.setattr(search_module, "searching", held)
    monkeypatch.setattr(search_module, "_TOLD_SECONDS", 0)
    with shown(store, browser) as view:
        page = view.page
        said = page.locator("#map .searched")
        listed = page.locator("#map table tbody th")

        def choose() -> None:
            page.locator("canvas.points").focus()
            page.keyboard.press("ArrowRight")
            page.keyboard.press("Enter")

        choose()
        said.filter(has_text="Waiting to begin").wait_for()
        picked = page.locator("#map .picked").inner_text()
        assert picked == "1 record selected; the most similar ones below the map."
        held.blocks.release()
        said.filter(has_text="Compared with 10 of 60 certified records, about").wait_for()
        assert 9 <= listed.count() <= 10
        assert 0.1 < page.locator("#map progress").evaluate("(bar) => bar.value") < 0.2
        # Everything else answers meanwhile.
        page.locator("#search").fill("other_1")
        page.locator("#contigs .status", has_text="1 contig").wait_for()
        page.get_by_role("button", name="Stop").click()
        said.filter(has_text="Stopped: compared with 10 of 60").wait_for()
        assert 9 <= listed.count() <= 10, "what was found stays"
        assert held.given_up.wait(60), "the server stops too"

        held.given_up.clear()
        choose()
        said.filter(has_text="Waiting to begin").wait_for()
        page.get_by_role("button", name="Clear").click()
        assert held.given_up.wait(60)
        assert said.count() == 0

        choose()
        held.blocks.release(100)
        said.filter(has_text="Compared with 60 of 60 certified records.").wait_for()
        page.locator("#map progress").wait_for(state="detached")
        assert listed.count() == 20
        # On a phone a long id ends in its own column, and a line says that there are more.
        page.set_viewport_size({"width": 390, "height": 800})
        listed.first.evaluate("(head) => { head.firstChild.textContent = 'id_'.repeat(20); }")
        box = page.get_by_role("region", name="Table of similar records")
        page.locator(f"#{box.get_attribute('aria-describedby')}").wait_for()
        assert listed.first.evaluate(
            "(head) => head.scrollWidth > head.clientWidth && head.clientWidth <= 0.46 * 390"
            " && getComputedStyle(head).textOverflow === 'ellipsis'"
            " && getComputedStyle(head).overflowX === 'hidden'"
        )
        assert view.trouble == []
