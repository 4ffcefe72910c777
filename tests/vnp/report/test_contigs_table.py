"""The table of contigs and their tracks in a browser: sorted, filtered, copied, opened."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from store.io.tables import safe_cell
from tests.vnp.report import studies
from tests.vnp.report.conftest import write
from tests.vnp.report.reading import COPIED, Open, column, found
from tests.vnp.report.studies import Made
from vnp.report.overview import rounded, thousandths

pytestmark = pytest.mark.slow


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
