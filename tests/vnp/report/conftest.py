"""The page of a made-up study in a browser without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store.store import Store
from tests.vnp.report import studies
from vnp.report.calls import ScoreSource
from vnp.report.collect import collect
from vnp.report.packed import parts
from vnp.report.page import page as written
from vnp.report.regions import GivenRegion, Regions, on_tracks


class Opened:
    """A page in the browser, and what it said to the console or asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.trouble: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.trouble.append(message.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.add_init_script(
            "navigator.clipboard.writeText = async (text) => { window.copied = text; }"
        )

    def copied(self) -> str:
        return str(self.page.evaluate("window.copied"))

    def said(self) -> str:
        return str(self.page.locator("#said").inner_text())


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file and wait until everything on it is drawn; keywords are those of a context."""
    contexts = []

    def open_it(path: Path, **options: Any) -> Opened:
        contexts.append(browser.new_context(offline=True, **options))
        found = Opened(contexts[-1].new_page())
        found.page.goto(path.as_uri())
        found.page.wait_for_selector("html[data-ready]")
        return found

    yield open_it
    for context in contexts:
        context.close()


def write(
    path: Path, store: Store, scores: ScoreSource | None = None, regions: Regions | None = None
) -> Path:
    """Write the page of a store."""
    data = collect(store, title="A study", scores=scores, umap=False)
    given, told = on_tracks(regions or {}, data.listed, end="the contig's end")
    assert not told
    path.write_text(written(data.title, warning=data.warning, parts=parts(data, given)))
    return path


@pytest.fixture(scope="session")
def study_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the ordinary study, with a planted region on a contig."""
    folder = tmp_path_factory.mktemp("study")
    samples = studies.ordinary()
    store = studies.study(folder / "run.zarr", samples)
    given = {"sea_0": [GivenRegion(500, 1500, "planted <b>prophage</b>", "known.bed, line 1")]}
    return write(folder / "report.html", store, studies.scores_of(samples), given)
