"""The page in a browser: what a reader clicks, types, draws, hears and saves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from store.io.tables import safe_cell
from tests.vnp.report import studies
from tests.vnp.report.conftest import Opened, write
from tests.vnp.report.studies import Made
from vnp.report.overview import rounded, thousandths

pytestmark = pytest.mark.slow

Open = Callable[..., Opened]
# Waits until what was asked for is drawn.
FRAME = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
# What was copied first, as soon as it is there; the page's policy allows no polling by Playwright.
COPIED = """new Promise((done) => {
  const look = () => (window.copied ? done(window.copied) : setTimeout(look, 10));
  look();
})"""
TALL = {"width": 1100, "height": 1400}  # the whole map is in it


def column(page: Any, number: int) -> list[str]:
    """Texts of a column of the table of contigs, from 1."""
    cells = page.locator(f".contigs tbody tr:not(.track) > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def found(page: Any, text: str) -> None:
    """Wait until the table says how many contigs there are."""
    page.locator("#contigs .status", has_text=re.compile(f"{text}$")).wait_for()


def test_the_first_screen_says_what_is_viral_and_by_which_classifier(
    opened: Open, study_page: Path
) -> None:
    page = opened(study_page).page
    contigs = [each for sample in studies.ordinary().values() for each in sample]
    viral = [each for each in contigs if each.score >= 0.5]
    tiles = page.locator("#viral .tiles > div").all_inner_texts()
    assert tiles[0].split("\n") == ["viral contigs", f"{len(viral)}", f"of {len(contigs)} called"]
    share = sum(each.segments for each in viral) / sum(each.segments for each in contigs)
    assert f"{100 * share:.1f}\u202f%" in tiles[2]
    facts = page.locator("#viral .facts-box").inner_text()
    assert "c.pth" in facts
    assert "abababababab" in facts
    assert "2026-11-30 12:00 UTC (file last changed)" in facts
    lines = page.locator(".samples tbody tr").all_inner_texts()
    assert [line.split("\t")[0].strip() for line in lines] == ["gut", "sea", "odd", "all samples"]
    assert "3 of 4" in lines[1]
    # The share has its denominator beside it, and the same scale as the scores: 0 to 100 %.
    assert [line.split("\t")[2] for line in lines] == [
        f"{viral} of {called}"
        for viral, called in (
            ("80.5\u202fkb", "146\u202fkb"),
            ("13.5\u202fkb", "23.0\u202fkb"),
            ("7.00\u202fkb", "7.00\u202fkb"),
            ("101\u202fkb", "176\u202fkb"),
        )
    ]
    bars = page.locator(".samples .meter-bar span").evaluate_all(
        "(bars) => bars.map((bar) => parseFloat(bar.style.width).toFixed(1))"
    )
    shares = [line.split("\t")[3].split("\u202f")[0] for line in lines]
    assert bars == [f"{float(share):.1f}" for share in shares]
    note = page.locator("#viral .note:not(.sideways)").inner_text()
    assert "are of the called ones" in note
    assert "all that were appended" in note
    assert page.get_by_role("alert").count() == 0


def test_contigs_are_sorted_by_click_and_key(opened: Open, study_page: Path) -> None:
    view = opened(study_page)
    page = view.page
    found(page, "71 contigs")
    assert page.locator("th[aria-sort]:not([aria-sort=none])").count() == 0  # the most viral first
    head = page.get_by_role("columnheader", name="Length")
    head.get_by_role("button").click()
    page.locator('th[aria-sort="descending"]', has_text="Length").wait_for()
    assert column(page, 3)[:5] == ["9.50\u202fkb", "7.00\u202fkb"] + ["4.50\u202fkb"] * 3
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    page.locator('th[aria-sort="ascending"]', has_text="Length").wait_for()
    assert column(page, 3)[0] == "500\u202fbp"
    assert view.said() == "71 contigs found. Sorted by length, lowest first."
    page.get_by_role("button", name="Next →").click()
    page.locator("#contigs .status", has_text=re.compile("^26.50 of")).wait_for()
    page.get_by_role("columnheader", name="Mean score2").get_by_role("button").click()
    page.locator("#contigs .status", has_text=re.compile("^1.25 of")).wait_for()
    scores = [float(text) for text in column(page, 7)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 0.99


def test_contigs_are_filtered_and_found(opened: Open, study_page: Path) -> None:
    page = opened(study_page).page
    page.get_by_label("Search ids").fill("GUT_01")
    found(page, "10 contigs")
    assert all("gut_01" in name for name in column(page, 1))
    page.get_by_label("Search ids").fill("")
    page.get_by_label("Sample", exact=True).select_option("sea")
    found(page, "4 contigs")
    page.get_by_label("Length at least").fill("4000")
    found(page, "3 contigs")
    page.get_by_label("Mean score2 at least").fill("0.6")
    found(page, "1 contig")
    assert column(page, 1) == ["sea_1"]
    page.get_by_label("Mean score2 at least").fill("0.95")
    page.get_by_text("No contig matches these filters.").wait_for()
    nothing = page.locator(".contigs .empty").inner_text()
    assert nothing.endswith("Contigs without a record (1 of 5) are not listed.")
    page.get_by_label("Mean score2 at least").fill("")
    page.get_by_label("viral only").check()
    found(page, "2 contigs")
    # A sample in the first table shows its contigs in the second.
    page.get_by_label("viral only").uncheck()
    page.get_by_label("Length at least").fill("")
    page.locator(".samples").get_by_role("button", name="odd").click()
    found(page, f"{len(studies.HOSTILE)} contigs")


def test_filters_that_change_together_are_all_asked(opened: Open, study_page: Path) -> None:
    view = opened(study_page)
    view.page.evaluate(
        """() => {
          const given = {search: "sea_", "min-length": "4000", "min-score": "0.6"};
          for (const [id, value] of Object.entries(given)) {
            const field = document.getElementById(id);
            field.value = value;
            field.dispatchEvent(new Event("input"));
          }
          document.querySelector("#contigs .copy").click();
        }"""
    )
    copied = view.page.evaluate(COPIED)
    assert [line.split("\t")[0] for line in copied.splitlines()] == ["contig", "sea_1"]
    found(view.page, "1 contig")
    assert column(view.page, 1) == ["sea_1"]


def test_one_rounding_for_all_scores(opened: Open, study_page: Path) -> None:
    scores = np.random.default_rng(0).random(2000)
    scores[:5] = 0.476516, 0.428502, 0.4999999, 0.0284995, 0.5
    shown = opened(study_page).page.evaluate(
        "(scores) => scores.map((score) => vnp.score(score))", rounded(scores)
    )
    assert shown[:5] == ["0.477", "0.429", "0.499", "0.029", "0.500"]
    assert shown == [f"{each / 1000:.3f}" for each in thousandths(scores) if each is not None]


def test_the_copied_table_runs_in_no_spreadsheet(opened: Open, study_page: Path) -> None:
    view = opened(study_page)
    view.page.get_by_label("Sample", exact=True).select_option("odd")
    found(view.page, f"{len(studies.HOSTILE)} contigs")
    view.page.locator("#contigs").get_by_role("button", name="Copy as TSV").click()
    view.page.locator("#said", has_text="Copied 7 contigs.").wait_for()
    lines = [line.split("\t") for line in view.copied().rstrip("\n").split("\n")]
    assert lines[0] == [
        "contig", "sample", "length", "segments", "records", "viral_segments", "mean_score2", "call"
    ]  # fmt: skip
    assert {line[0] for line in lines[1:]} == {safe_cell(name) for name in studies.HOSTILE}
    assert "'=HYPERLINK(1)" in {line[0] for line in lines}
    assert lines[1][1:] == ["odd", "1000", "2", "3", "2", "0.95", "virus"]


def test_a_row_opens_its_track(opened: Open, study_page: Path) -> None:
    page = opened(study_page).page
    page.get_by_label("Search ids").fill("sea_")
    found(page, "4 contigs")
    opener = page.get_by_role("button", name="sea_0")
    assert opener.get_attribute("aria-expanded") == "false"
    opener.focus()
    page.keyboard.press("Enter")
    track = page.locator(".sheet svg")
    track.wait_for()
    assert opener.get_attribute("aria-expanded") == "true"
    assert page.locator(f"#{opener.get_attribute('aria-controls')}").is_visible()
    assert track.get_attribute("aria-label") == "Consensus and reading frames along sea_0"
    told = track.get_attribute("aria-description")
    assert told.startswith("4 of 4 segments at 0.5 or more")
    assert "region 1 from 0 to 2000" in told
    assert "planted <b>prophage</b> from 500 to 1500" in told
    # Six lanes; six records in them; four segments; two regions.
    assert track.locator("g[aria-label=rect] rect").count() == 6 + 6 + 4 + 2
    text = track.inner_html()
    assert "2\u202fkb" in text  # its own scale
    page.get_by_role("button", name="sea_2").click()
    page.locator(".sheet svg[aria-label$=sea_2]").wait_for()
    assert page.locator(".sheet").count() == 1
    page.get_by_role("button", name="sea_2").click()
    page.locator(".sheet").wait_for(state="detached")


@pytest.mark.parametrize("known", [True, False])
def test_contigs_and_tracks_are_as_long_as_the_store_knows(
    opened: Open, tmp_path: Path, known: bool
) -> None:
    samples = {"s": [Made("virus", 4, 0.9, beyond=2300), Made("host", 2, 0.1)]}
    store = studies.study(tmp_path / "run.zarr", samples, lengths=known)
    path = write(tmp_path / "r.html", store, studies.scores_of(samples))
    page = opened(path, viewport={"width": 390, "height": 800}).page
    found(page, "2 contigs")
    assert column(page, 3) == (
        ["4.30\u202fkb", "1.00\u202fkb"] if known else ["2.00\u202fkb", "1.00\u202fkb"]
    )
    about = page.locator("#contigs").get_by_role("button", name="Length").get_attribute("title")
    last = "Up to the end of the last segment that has a reading frame"
    assert about == ("Bases of the contig" if known else last)
    share = page.locator("#viral .tiles > div").nth(2).inner_text()
    assert ("81.1\u202f%" if known else "66.7\u202f%") in share
    page.get_by_role("button", name="virus").click()
    track = page.locator(".sheet svg")
    track.wait_for()
    assert (">4\u202fkb<" in track.inner_html()) is known  # where its scale ends
    # A store that knows less says so where lengths are: above both tables, at the track, the map.
    page.emulate_media(media="print")
    for place in ("#viral > .note", "#contigs > .note", "#map figcaption"):
        notes = page.locator(place, has_text="This store does not keep the lengths of contigs")
        assert [note.is_visible() for note in notes.all()] == ([] if known else [True])
    assert ("the contig may be longer" in page.locator(".sheet figcaption").inner_text()) != known
    page.emulate_media(media="screen")
    page.locator("#contigs .copy").click()
    lines = [line.split("\t") for line in page.evaluate(COPIED).splitlines()]
    assert lines[0][2:4] == (["length", "segments"] if known else ["length", "last_segment_end"])
    assert lines[1][2:4] == (["4300", "4"] if known else ["", "2000"])


def test_the_histogram_has_the_line_of_one_half(opened: Open, study_page: Path) -> None:
    page = opened(study_page).page
    contigs = [each for sample in studies.ordinary().values() for each in sample]
    segments = sum(each.segments for each in contigs)
    viral = sum(each.segments for each in contigs if each.score >= 0.5)
    chart = page.locator("#scores svg").first
    assert chart.get_attribute("aria-label") == f"Histogram of {segments} segments by consensus"
    assert chart.get_attribute("aria-description") == f"{viral} at 0.5 or more: viral"
    assert f"viral: {viral} of {segments}" in chart.inner_html()
    assert chart.locator("[stroke-dasharray]").count() == 1


def lasso(page: Any, *, by_key: bool = False) -> None:
    """Draw around everything."""
    canvas = page.locator("canvas.points")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    left, top = box["x"] + 3, box["y"] + 3
    right, bottom = left + box["width"] - 6, top + box["height"] - 6
    if by_key:
        page.keyboard.down("Shift")
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    if by_key:
        page.keyboard.up("Shift")


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


def test_hostile_names_stay_text(opened: Open, study_page: Path) -> None:
    view = opened(study_page, viewport={"width": 390, "height": 800})
    page = view.page
    scripts = page.locator("script").count()
    page.get_by_label("Sample", exact=True).select_option("odd")
    found(page, "7 contigs")
    names = column(page, 1)
    assert any("abc⟨202E⟩gnp.exe⟨200F⟩" in name for name in names)
    assert any(name.startswith("L" * 20) and "…" in name for name in names)
    for number in range(len(names)):
        page.locator(".contigs button.open").nth(number).click()
        page.locator(".sheet svg").wait_for()
    lasso(page, by_key=True)
    page.locator("#map .chosen h3").wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == scripts
    assert page.locator("img").count() == 0
    # No name makes the page wider than the phone.
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert view.trouble == []
    assert len(view.asked) == 1


def test_the_browser_runs_and_fetches_nothing_else(opened: Open, study_page: Path) -> None:
    view = opened(study_page)
    assert view.trouble == []
    assert view.asked == [study_page.as_uri()]
    refused = view.page.evaluate(
        """async () => {
          const added = document.createElement("script");
          added.textContent = "window.hacked = 1";
          document.body.append(added);
          const button = document.createElement("button");
          button.setAttribute("onclick", "window.hacked = 1");
          document.body.append(button);
          button.click();
          return fetch("https://example.org/").then(() => "fetched", () => "refused");
        }"""
    )
    assert refused == "refused"
    assert view.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in view.trouble)


def test_it_follows_theme_width_and_paper(opened: Open, study_page: Path) -> None:
    papers = set()
    for theme in ("light", "dark"):
        view = opened(study_page, color_scheme=theme, viewport={"width": 390, "height": 800})
        page = view.page
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("document.querySelector('canvas.points').clientWidth") < 390
        hints = page.locator(".sideways:visible")
        hints.nth(1).wait_for()  # of samples and of contigs
        for name in ("samples", "contigs"):
            box = page.get_by_role("region", name=f"Table of {name}")
            hint = page.locator(f"#{box.get_attribute('aria-describedby')}")
            assert hint.inner_text() == "More columns: scroll this table sideways →"
            assert hint.bounding_box()["y"] < box.bounding_box()["y"]
            assert "local" in box.evaluate("(box) => getComputedStyle(box).backgroundAttachment")
    page.set_viewport_size({"width": 1280, "height": 800})
    for hint in page.locator("section > .sideways").all():
        hint.wait_for(state="hidden")
    page.set_viewport_size({"width": 390, "height": 800})
    assert papers == {"rgb(255, 255, 255)", "rgb(17, 20, 24)"}
    corner = "[...document.querySelector('canvas').getContext('2d').getImageData(1, 1, 1, 1).data]"
    assert page.evaluate(corner) == [17, 20, 24, 255]
    page.emulate_media(media="print")
    page.evaluate(FRAME)
    assert page.evaluate(corner) == [255, 255, 255, 255]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".filters").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#operator-body").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.locator("#operator-body").is_visible()


def test_it_is_used_without_a_mouse_or_eyes(opened: Open, study_page: Path) -> None:
    page = opened(study_page).page
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    assert headings == [
        "What is viral",
        "Contigs",
        "Map of records",
        "Scores and lengths",
        "How it was made",
    ]
    for name in ("Samples", "Contigs"):
        table = page.get_by_role("table", name=name, exact=True)
        assert table.get_by_role("columnheader").count() >= 8
        assert table.get_by_role("rowheader").count() >= 3
    for control in page.locator("input, select").all():
        assert page.locator(f"label[for={control.get_attribute('id')}]").count() == 1
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, svg, canvas, [role=region]")].filter(
          (each) => !each.textContent.trim() && !each.getAttribute("aria-label")).length"""
    )
    assert unnamed == 0
    # Tab reaches the search, a header, a row and the map, in this order.
    reached = []
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(({id, className, textContent}) => id || className || textContent)"
                "(document.activeElement)"
            )
        )
    order = [
        reached.index("search"),
        reached.index("Contig"),
        reached.index("open", reached.index("Contig")),
        reached.index("points"),
    ]
    assert order == sorted(order)


def test_degenerate_stores_read_well(opened: Open, tmp_path: Path) -> None:
    # One sample, all segments 500 bp, no calls, nothing embedded.
    plain = {"only": [Made(f"c{n}", 1, 0.0) for n in range(5)]}
    bare = studies.study(tmp_path / "bare.zarr", plain, filled=False)
    page = opened(write(tmp_path / "bare.html", bare)).page
    assert page.locator("#viral h2").inner_text() == "Samples"
    assert "Nothing is called yet" in page.locator("#viral").inner_text()
    assert page.locator("#sample").count() == 0
    assert page.locator("#min-score").count() == 0
    said = page.locator(".said").first.inner_text().split("\n")
    assert [line for line in said if line] == ["Segment length", "500 bp", "every segment"]
    assert (
        page.locator("#map")
        .inner_text()
        .endswith("No map yet: too few records have their embeddings.")
    )
    assert "Incomplete: 10 embeddings" in page.locator("header").inner_text()
    page.get_by_role("button", name="c3").click()
    page.locator(".sheet svg").wait_for()
    page.locator("summary").click()
    assert "Nothing has been embedded yet." in page.locator("#operator").inner_text()
    # Nothing at all, also with a classifier.
    empty = studies.study(tmp_path / "empty.zarr", {})
    texts = set()
    for scores in (None, studies.scores_of({})):
        view = opened(write(tmp_path / "empty.html", empty, scores))
        assert "Empty: no records yet" in view.page.locator("header").inner_text()
        assert view.page.locator("#contigs, #map").count() == 0
        assert view.trouble == []
        texts.add(view.page.locator("main").inner_text())
    assert len(texts) == 1
    # Scored, but no record has a score; names that are long.
    unscored = {"s" * 70: [Made("c" * 190, 3, float("nan"))]}
    store = studies.study(tmp_path / "unscored.zarr", unscored)
    view = opened(write(tmp_path / "unscored.html", store, studies.scores_of(unscored)))
    assert column(view.page, 8) == ["not called"]
    assert column(view.page, 6) == ["\u2013"]
    assert "No segment has a score yet." in view.page.locator("#scores").inner_text()
    view.page.locator("#contigs .copy").click()
    assert view.page.evaluate(COPIED).splitlines()[1].split("\t")[2:] == [
        "1500",
        "3",
        "4",
        "",
        "",
        "",
    ]
    view.page.locator(".contigs button.open").click()
    view.page.locator(".sheet svg").wait_for()
    for width in (1280, 390):
        view.page.set_viewport_size({"width": width, "height": 800})
        view.page.evaluate(FRAME)
        boxes = view.page.locator("section > .scroll").evaluate_all(
            "(all) => all.map((box) => box.scrollWidth <= box.clientWidth + 1)"
        )
        assert boxes == [width == 1280] * 2
        column_end = view.page.locator("#contigs").bounding_box()
        for part in (".sheet svg", ".sheet .save"):
            box = view.page.locator(part).bounding_box()
            assert box["x"] + box["width"] <= column_end["x"] + column_end["width"] + 1
    paper = "getComputedStyle(document.querySelector('.sheet')).backgroundColor"
    assert view.page.evaluate(paper) == "rgb(255, 255, 255)"  # no shade behind the last tick
    titles = [each.get_attribute("title") for each in view.page.locator("tbody th .name").all()]
    assert titles == ["s" * 70, "c" * 190]
    assert view.trouble == []
