"""The site builds without a warning (links and anchors among them), and needs no other host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from vnp.cli.main import COMMANDS

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    # Links to other hosts are links; only what a page loads by itself counts.
    loads = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
        r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert not [str(page) for page in pages if loads.search(page.read_text())]
    elsewhere = re.compile(r"url\([\"']?(https?:)?//")
    assert not [str(path) for path in site.rglob("*.css") if elsewhere.search(path.read_text())]


def test_the_command_line_is_all_there(site: Path) -> None:
    page = (site / "reference/command-line.html").read_text()
    assert not [name for name in COMMANDS if f'id="vnp-{name}"' not in page]
    for option in ("--gres", "--lease", "--max-blank"):
        assert option in page


def test_public_names_are_in_the_reference(site: Path) -> None:
    import store
    from vnp import api

    for module, page in ((api, "reference/vnp.html"), (store, "reference/store.html")):
        there = set(re.findall(r'id="[\w.]*?(\w+)"', (site / page).read_text()))
        assert not [n for n in module.__all__ if not {n, getattr(module, n).__name__} & there]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_the_search_works_on_pages_opened_from_disk(site: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    shown = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--virtual-time-budget=60000", "--dump-dom"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"{(site / 'start.html').as_uri()}?q=certified",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert re.search(r"\d+ matching documents", shown.stdout)
