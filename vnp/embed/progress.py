"""How long it will take: a bar on a terminal or in a notebook, now and then a line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TextIO

PLAIN_INTERVAL = 30.0  # seconds between two plain lines
_TICK = 1.0  # seconds between two looks at the clock while nothing can be counted
WARNING_PREFIX = "warning: "  # of a warning's line on standard error; a worker's parent reads it


_shown = [True]  # whether progress is shown in this process


def show_progress(shown: bool) -> None:
    """Say whether progress is shown in this process; it is at first."""
    _shown[0] = shown


class Progress:
    """Progress, rate and time left of one piece of work, on standard error.

    On a terminal and in a notebook it is a bar; elsewhere one plain line every `PLAIN_INTERVAL`
    seconds and one at the end, so that a log of a batch job is short but never silent. Time left
    needs a total; what was ``already`` done counts as done, not towards the rate.
    """

    def __init__(
        self,
        what: str,
        *,
        total: int | None,
        unit: str,
        already: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._began = clock()
        self._already = self._done = already
        self._told = self._began
        self._bar: Any = None
        self._quiet = stream is None and not _shown[0]
        bar = None if self._quiet else _bar_for(self._stream)
        if bar is not None:
            self._bar = bar(
                total=total,
                initial=already,
                desc=what,
                unit=f" {unit}",
                file=self._stream,
                dynamic_ncols=True,
                smoothing=0.1,
            )

    def update(self, done: int, *, total: int | None = None) -> None:
        """Tell how many units are done; ``total`` when it has changed."""
        if total is not None:
            self._total = total
        self._done = done
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.n = done
            self._bar.refresh()
        elif self._clock() - self._told >= PLAIN_INTERVAL:
            self._told = self._clock()
            self._print(self.line())

    def _print(self, line: str) -> None:
        if self._quiet:
            return
        with contextlib.suppress(OSError, ValueError):  # nobody can read it: no reason to fail
            print(line, file=self._stream, flush=True)

    def line(self) -> str:
        """Progress, rate and time left in one line."""
        seconds = max(self._clock() - self._began, 1e-9)
        rate = (self._done - self._already) / seconds
        speed = f"{rate:,.0f} {self._unit}/s" if rate >= 10 else f"{rate:.2g} {self._unit}/s"
        if self._total is None:
            return f"{self._what}: {self._done:,} {self._unit}, {speed}"
        share = 100 * self._done / self._total if self._total else 100.0
        left = f", {duration((self._total - self._done) / rate)} left" if rate > 0 else ""
        of = f"{self._total:,} {self._unit} ({share:.1f} %)"
        return f"{self._what}: {self._done:,} of {of}, {speed}{left}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif error is None:
            from store.io.words import count  # not at once: it would slow ``vnp --help`` down

            seconds = self._clock() - self._began
            done = self._done - self._already
            self._print(
                f"{self._what}: {count(done, self._unit.removesuffix('s'))} in {duration(seconds)}"
            )


@contextlib.contextmanager
def waiting(
    what: str,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    tick: float = _TICK,
) -> Iterator[None]:
    """Say that the body takes its time, and how long it has, where nothing can be counted.

    Shown where and as often as `Progress` is, but also at the beginning.
    """
    quiet = stream is None and not _shown[0]
    out = stream if stream is not None else sys.stderr
    kind = None if quiet else _bar_for(out)
    bar = None
    if kind is not None:
        bar = kind(desc=what, bar_format="{desc}: {elapsed}", file=out, dynamic_ncols=True)
    began, over = clock(), threading.Event()

    def say(text: str) -> None:
        if not quiet and bar is None:
            with contextlib.suppress(OSError, ValueError):  # as `Progress` does
                print(f"{what}: {text}", file=out, flush=True)

    def watch() -> None:
        told = began
        while not over.wait(tick):
            if bar is not None:
                bar.refresh()
            elif clock() - told >= PLAIN_INTERVAL:
                told = clock()
                say(f"{duration(told - began)} so far")

    say("begun")
    watcher = threading.Thread(target=watch, name="waiting", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if bar is not None:
            bar.close()
    say(duration(clock() - began))


def _bar_for(stream: TextIO) -> Any:
    """Return the class of the bar that suits a stream; None: it takes lines only."""
    if stream is sys.stderr and in_notebook():
        from tqdm import notebook

        # Without ipywidgets the bar is text.
        if getattr(notebook, "IProgress", None) is not None:
            return notebook.tqdm
    elif not stream.isatty():
        return None
    from tqdm import tqdm

    return tqdm


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code; nothing of it is imported to find out."""
    if "ipykernel" not in sys.modules:
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def duration(seconds: float) -> str:
    """Write a time span for people: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``5 h 12 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
