"""``vnp status``: how far a store is filled, and which workers fill it."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.output import Outcome, fitting, printable, printing

if TYPE_CHECKING:
    from vnp.embed.status import StoreStatus

_INTERVAL = 2.0  # seconds between two looks of --watch
_BAR = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    parser.add_argument("--watch", action="store_true", help="show it again every two seconds")


def run(given: argparse.Namespace) -> int:
    """Show the status once, or again and again."""
    from store.open import open_store
    from vnp.embed.status import read_status

    store = open_store(given.store)
    first: tuple[float, int] | None = None
    while True:
        store.refresh()
        now, once = time.monotonic(), not given.watch
        status = read_status(store, precisions=once, origins=once)
        done, rate = status.rows_done + status.rows_in_hand, None
        if first is None:
            first = (now, done)
        elif now > first[0]:
            rate = (done - first[1]) / (now - first[0])
        lines: Iterable[str] = _lines(status, rate)
        if given.watch and not given.json and sys.stdout.isatty():
            size = shutil.get_terminal_size()
            lines = fitting(lines, columns=size.columns, rows=size.lines)
            with printing():
                print("\x1b[2J\x1b[H", end="")
        Outcome(status.to_json(), lines).show(as_json=given.json)
        if not given.watch or status.rows_done == status.rows_wanted:
            return 0
        time.sleep(_INTERVAL)


def _lines(status: StoreStatus, rate: float | None) -> Iterator[str]:
    """Write a status for people; ``rate`` in embeddings a second, if it is known."""
    from store.io.words import count
    from vnp.embed.progress import duration
    from vnp.sequence.segments import described

    windows = described(status.segment_length, status.genetic_code)
    size = f"{count(status.rows, 'row')} of {count(status.samples, 'sample')}"
    yield (
        f"{printable(status.path)}: {size}, {windows}, {count(status.block_rows, 'row')} a block"
    )
    if status.trouble:
        yield printable(f"  warning: {status.trouble}; 'vnp verify' says what that means")
    if status.repeats:
        share = status.repeats / status.rows
        yield f"  {share:.1%} of the rows ({status.repeats:,}) repeat earlier ones: embedded once"
    width = max([16, *(len(model.model) for model in status.models)])
    for model in status.models:
        share = model.filled / model.rows if model.rows else 1.0
        bar = "#" * int(_BAR * share)
        text = (
            f"  {model.model:<{width}} [{bar:<{_BAR}}] {100 * share:5.1f} %  "
            f"{model.filled:,} of {count(model.rows, 'row')}, "
            f"{model.blocks - model.open_blocks:,} of {count(model.blocks, 'block')}"
        )
        if model.claimed:
            text += f", {model.claimed:,} claimed"
        if model.stale:
            text += f", {model.stale:,} left by dead workers (taken over by the next)"
        yield text
        if model.origin:
            yield f"    {printable(model.origin)}"
        if model.precision:
            yield f"    in {printable(model.precision)}"
        if model.precisions:
            parts = (
                f"{count(n, 'row')} in {printable(name)}" for name, n in model.precisions.items()
            )
            yield f"    {', '.join(parts)}"
    for worker in status.workers:
        hand = (
            f", {printable(worker.model)} working on block {worker.block}" if worker.model else ""
        )
        where = printable(worker.where)
        yield f"  worker {worker.worker[:8]}: {where}, {count(worker.records, 'embedding')}{hand}"
        for name in map(printable, worker.left_out):
            yield f"    it could not load {name}: 'vnp worker --model {name}' where it can be had"
    if status.appender is not None:
        yield f"  being appended to by {printable(status.appender)}"
    left = status.rows_wanted - status.rows_done
    if rate is not None and rate > 0 and left:
        yield f"  {rate:,.0f} embeddings/s, {duration(left / rate)} left"
