"""What holds for all tests, and the one browser of a process."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def pytest_configure() -> None:
    """Have signals end commands under test also where the suite runs in the background.

    A shell starts what it puts there with SIGINT ignored, nohup what it starts with SIGHUP ignored,
    and whoever is started from there inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright, which can be started once in a process."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with api.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu"]
        found = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()
