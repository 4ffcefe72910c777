"""The page in a browser: its first screen, and what holds for all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vnp.report import studies
from tests.vnp.report.conftest import write
from tests.vnp.report.reading import COPIED, FRAME, Open, column, found, lasso
from tests.vnp.report.studies import Made

pytestmark = pytest.mark.slow


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
