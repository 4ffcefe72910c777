"""Progress: plain lines where nobody looks, a bar on a terminal, and time spans for people."""

from __future__ import annotations

import argparse
import io
import logging
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tqdm

from vnp.cli.logs import configure
from vnp.embed.progress import PLAIN_INTERVAL, Progress, duration, in_notebook, waiting


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_now_and_then_with_rate_and_time_left() -> None:
    clock, out = Clock(), io.StringIO()
    with Progress(
        "embed", total=1000, unit="records", already=100, stream=out, clock=clock
    ) as progress:
        progress.update(100)
        clock.now += PLAIN_INTERVAL / 2
        progress.update(150)
        assert out.getvalue() == ""
        clock.now += PLAIN_INTERVAL / 2
        progress.update(400)
        line = "embed: 400 of 1,000 records (40.0 %), 10 records/s, 1 min 0 s left\n"
        assert out.getvalue() == line
    assert out.getvalue().splitlines()[-1] == "embed: 300 records in 30 s"  # of this run


def test_without_a_total_there_is_no_time_left() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("append x", total=None, unit="bases", stream=out, clock=clock)
    progress.update(0)
    clock.now += PLAIN_INTERVAL
    progress.update(3_000_000)
    assert out.getvalue() == "append x: 3,000,000 bases, 100,000 bases/s\n"


class Told(io.StringIO):
    """A stream that sets an event as soon as a text was written to it so many times."""

    def __init__(self, text: str, *, times: int = 1, terminal: bool = False) -> None:
        super().__init__()
        self.event = threading.Event()
        self._text, self._times, self._terminal = text, times, terminal

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count(self._text) >= self._times:
            self.event.set()
        return written

    def isatty(self) -> bool:
        return self._terminal


def test_what_cannot_be_counted_is_never_silent() -> None:
    clock, out = Clock(), Told("so far")
    with waiting("map", stream=out, clock=clock, tick=0.001):
        assert out.getvalue() == "map: begun\n"
        clock.now += PLAIN_INTERVAL
        assert out.event.wait(30)
    assert out.getvalue().splitlines() == ["map: begun", "map: 30 s so far", "map: 30 s"]
    with pytest.raises(ZeroDivisionError), waiting("map", stream=out):
        raise ZeroDivisionError
    assert out.getvalue().splitlines()[3:] == ["map: begun"]


def test_a_terminal_shows_the_time_that_goes_by() -> None:
    out = Told("\rmap: 00:", times=3, terminal=True)
    with waiting("map", stream=out, tick=0.001):
        assert out.event.wait(30), "it is drawn again"
    assert "so far" not in out.getvalue()
    assert out.getvalue().endswith("\n")


def test_what_the_first_update_tells_counts() -> None:
    out = io.StringIO()
    with Progress("append x", total=None, unit="bases", stream=out, clock=Clock()) as progress:
        progress.update(48_502)
    assert out.getvalue() == "append x: 48,502 bases in 0.0 s\n"


def test_an_error_is_not_followed_by_a_cheerful_line() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="bad"), Progress("x", total=1, unit="y", stream=out):
        raise ValueError("bad")
    assert out.getvalue() == ""


def test_on_a_terminal_there_is_a_bar_and_messages_do_not_break_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    configure(argparse.Namespace(verbose=False, quiet=False, log_file=None))
    with Progress("embed", total=10, unit="records", stream=out) as progress:
        progress.update(2)
        logging.getLogger("vnp.embed").info("worker: something happened")
        progress.update(10)
    text = out.getvalue()
    assert "10/10" in text
    assert "\rvnp: worker: something happened\n" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (12.3, "12 s"),
        (200, "3 min 20 s"),
        (3600 * 5 + 720, "5 h 12 min"),
        (3600 * 50, "2 d 2 h"),
    ],
)
def test_time_spans(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def kernel(monkeypatch: pytest.MonkeyPatch, *, shell: object) -> None:
    """Stand in for what a process of IPython has loaded."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)


def test_a_notebook_is_told_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert not in_notebook()
    kernel(monkeypatch, shell=None)
    assert not in_notebook(), "loaded by a program that is not a kernel"
    kernel(monkeypatch, shell=SimpleNamespace())
    assert not in_notebook(), "IPython on a terminal"
    kernel(monkeypatch, shell=SimpleNamespace(kernel=object()))
    assert in_notebook()


@pytest.mark.parametrize("widgets", [True, False])
def test_in_a_notebook_there_is_a_bar(monkeypatch: pytest.MonkeyPatch, widgets: bool) -> None:
    made: list[str] = []

    class Widget(tqdm.tqdm):
        def __init__(self, **options: Any) -> None:
            made.append("widget")
            super().__init__(**options)

    kernel(monkeypatch, shell=SimpleNamespace(kernel=object()))
    notebook = ModuleType("tqdm.notebook")
    notebook.tqdm = Widget  # type: ignore[attr-defined]
    notebook.IProgress = object if widgets else None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm.notebook", notebook)
    monkeypatch.setattr(tqdm, "notebook", notebook, raising=False)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    with Progress("embed", total=10, unit="records") as progress:
        progress.update(10)
    assert made == ["widget"] * widgets
    assert "10/10" in out.getvalue()
    with Progress("embed", total=10, unit="records", stream=io.StringIO()) as progress:
        progress.update(10)
    assert len(made) == widgets, "a stream that was asked for gets lines"
