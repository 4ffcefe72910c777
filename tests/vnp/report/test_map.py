"""The map and the pictures in a browser: drawn around, pointed at, coloured, saved."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from store.io.tables import safe_cell
from tests.vnp.report import studies
from tests.vnp.report.reading import FRAME, TALL, Open, found, lasso

pytestmark = pytest.mark.slow


def test_a_fence_on_the_map_gives_ids(opened: Open, study_page: Path) -> None:
    view = opened(study_page, viewport=TALL)
    page = view.page
    samples = studies.ordinary()
    ids = [name for contigs in samples.values() for name in studies.batch(contigs).id.decode()]
    page.get_by_role("button", name="Lasso").click()
    lasso(page)
    page.locator("#map .chosen h3").wait_for()
    assert page.locator("#map .chosen h3").inner_text() == f"{len(ids)} records of 71 contigs"
    # The count stands where one looks: on the map, as it is seen; it is said aloud too.
    count = page.get_by_role("status").filter(has_text="selected")
    assert count.inner_text() == f"{len(ids)} records selected; ids below the map."
    assert count.get_attribute("aria-live") == "polite"
    told, drawn = count.bounding_box(), page.locator("canvas.points").bounding_box()
    assert drawn["x"] < told["x"] < told["x"] + told["width"] < drawn["x"] + drawn["width"]
    assert drawn["y"] < told["y"] < told["y"] + told["height"] < drawn["y"] + drawn["height"]
    page.set_viewport_size({"width": 1100, "height": 400})  # the map is larger than that
    canvas = page.locator("canvas.points")
    canvas.evaluate("(each) => each.scrollIntoView({behavior: 'instant'})")
    page.evaluate(FRAME)
    assert canvas.bounding_box()["y"] + canvas.bounding_box()["height"] > 400
    assert count.bounding_box()["y"] + count.bounding_box()["height"] <= 400
    page.set_viewport_size(TALL)
    page.get_by_role("button", name="Copy ids").click()
    assert view.copied().splitlines() == ids  # as they are, for other programs
    page.locator("#map").get_by_role("button", name="Copy as TSV").click()
    cells = [line.split("\t") for line in view.copied().rstrip("\n").split("\n")]
    assert cells[0] == ["id", "sample", "contig", "contig_length", "frame", "score2"]
    assert [cell[0] for cell in cells[1:]] == [safe_cell(each) for each in ids]
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#map .chosen h3").count() == 0
    nothing = page.locator("#map .picked")
    assert nothing.inner_text() == "Nothing is selected."
    assert nothing.bounding_box()["width"] == 1  # said, not shown
    page.get_by_role("button", name="Move").click()
    lasso(page, by_key=True)
    page.locator("#map .chosen h3").wait_for()


def test_the_map_tells_points_and_is_coloured(opened: Open, study_page: Path) -> None:
    view = opened(study_page, viewport=TALL)
    page = view.page
    assert "PCA of" in page.locator("#map h3").first.inner_text()
    caption = page.locator("#map figcaption").inner_text()
    assert re.search(r"Two principal components keep \d+\.\d % of the variance", caption)
    canvas = page.locator("canvas.points")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator(".tip")
    tip.wait_for()
    assert re.search(
        r"_chunk_\d+[FR]\d\nsample \w+\ncontig .*, frame [FR]\d\nscore2 0\.\d{3}", tip.inner_text()
    )
    left, top = (
        float(tip.evaluate(f"(tip) => parseFloat(tip.style.{side})")) for side in ("left", "top")
    )
    canvas.hover(position={"x": 2, "y": 2})
    tip.wait_for(state="hidden")
    canvas.hover(position={"x": left - 12, "y": top - 14})  # where the point is
    tip.wait_for()
    pictures = set()
    for way, legend in (
        ("sample", "gut"),
        ("score2", "0 others"),
        ("contig length", "9.50\u202fkb"),
        ("reading frame", "R3"),
    ):
        page.get_by_label("Colour by").select_option(way)
        page.locator(".map-legend", has_text=legend).wait_for()
        page.evaluate(FRAME)
        pictures.add(page.evaluate("document.querySelector('canvas.points').toDataURL()"))
    assert len(pictures) == 4
    page.keyboard.press("Enter")
    page.locator("#map .chosen h3", has_text="1 record of 1 contig").wait_for()


def test_every_picture_is_saved_as_svg_and_png(opened: Open, study_page: Path) -> None:
    page = opened(study_page).page
    page.get_by_label("Search ids").fill("sea_0")
    found(page, "1 contig")
    page.get_by_role("button", name="sea_0").click()
    page.locator(".sheet svg").wait_for()
    page.locator("summary").click()
    pictures = page.locator("figure.picture")
    names = []
    for number in range(pictures.count()):
        for kind in ("SVG", "PNG"):
            with page.expect_download() as download:
                pictures.nth(number).get_by_role("button", name=kind).click()
            content = Path(download.value.path()).read_bytes()
            names.append(download.value.suggested_filename)
            if kind == "PNG":
                assert content.startswith(b"\x89PNG")
                assert len(content) > 2000
            else:
                assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
                assert b"var(" not in content
    assert names[::2] == [
        "track.svg", "map.svg", "scores.svg", "proteins.svg", "frames.svg", "fill.svg", "work.svg"
    ]  # fmt: skip
