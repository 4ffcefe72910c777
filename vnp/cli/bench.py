"""``vnp bench``: how fast this machine embeds a store's records, and how long the rest takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.output import Outcome
from vnp.embed.config import WorkerConfig, add_device_arguments

if TYPE_CHECKING:
    from vnp.embed.bench import Speed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    add_device_arguments(parser)
    options.names(parser, "--model", "measure only this model")
    parser.add_argument(
        "--seconds",
        type=options.positive_float,
        default=20.0,
        metavar="SECONDS",
        help="how long to measure in all at most, loading left out (default 20); less where all "
        "batches of a small store are measured five times before",
    )


def run(given: argparse.Namespace) -> int:
    """Measure each model of the store."""
    from store.open import open_store
    from vnp.embed.bench import measure
    from vnp.embed.fill import require_rows
    from vnp.embed.imported import models_made_here

    store = open_store(given.store)
    require_rows(store)
    models = models_made_here(store, given.model)
    config = WorkerConfig.from_options(given)
    seconds = given.seconds / len(models)
    speeds = [measure(store, model=model, config=config, seconds=seconds) for model in models]
    outcome = Outcome([speed.to_json() for speed in speeds], _lines(speeds))
    return outcome.show(as_json=given.json)


def _lines(speeds: list[Speed]) -> Iterator[str]:
    from store.io.words import count
    from vnp.embed.progress import duration

    for speed in speeds:
        busy = "" if speed.busy_share is None else f", GPU busy {speed.busy_share:.0%}"
        rounds, spread = speed.rounds, ""
        if len(rounds) > 1:
            low, high = min(rounds), max(rounds)
            spread = f", {low:,.0f} to {high:,.0f} records/s in {count(len(rounds), 'round')}"
        yield (
            f"{speed.model} on {speed.device}, {speed.precision}: "
            f"{speed.records_per_second:,.0f} records/s, {speed.tokens_per_second:,.0f} tokens/s"
            f"{busy} ({count(speed.records, 'record')} embedded in {speed.seconds:.1f} s{spread}; "
            f"loading took {speed.load_seconds:.1f} s)"
        )
    left = duration(sum(speed.seconds_left for speed in speeds))
    rows = max(speed.rows_left for speed in speeds)
    verb = "is" if rows == 1 else "are"
    yield f"{count(rows, 'row')} {verb} left: {left} with one worker like this"
