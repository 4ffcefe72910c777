"""How the tests of the page read and wait."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.vnp.report.conftest import Opened

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
