"""Why a worker ended, as ``vnp embed`` tells it."""

from __future__ import annotations

import pytest

from vnp.embed.supervisor import _LastWords


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], ""),
        (["", " "], ""),
        (["vnp: hello", "vnp worker: error: no weights", ""], ": no weights"),
        (["vnp worker: error: no weights", "vnp: something at exit"], ": no weights"),
        (["Traceback (most recent call last):", "RuntimeError: odd"], ": RuntimeError: odd"),
        (["vnp worker: error: \x1b[2Ja\tb"], ":  [2Ja b"),
        (["vnp worker: error: " + "x" * 600], ": " + "x" * 500 + "..."),
    ],
)
def test_reason(lines: list[str], reason: str) -> None:
    words = _LastWords()
    for line in lines:
        words.hear(line.rstrip())
    assert words.reason() == reason
