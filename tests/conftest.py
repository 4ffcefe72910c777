"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Have Ctrl-C end commands under test also where the suite runs in the background.

    A shell starts what it puts there with SIGINT ignored, and whoever is started from there
    inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
