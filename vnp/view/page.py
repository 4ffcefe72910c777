"""The page as this server gives it: the report's, with a source that asks the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from vnp.report.page import page, policy_of


@dataclass(frozen=True, slots=True)
class Page:
    """What a browser loads before it asks for data."""

    files: Mapping[str, tuple[bytes, str]]  # by path: content and type
    policy: str  # Content Security Policy


def live_page(title: str, *, warning: str = "") -> Page:
    """Make the page of a store of a title."""
    start = (files("vnp.view") / "live.js").read_text(encoding="utf-8")
    connect = "'self'"
    text = page(title, warning=warning, start=start, connect=connect)
    policy = f"{policy_of(start, connect=connect)}; frame-ancestors 'none'"
    return Page({"/": (text.encode(), "text/html")}, policy)
