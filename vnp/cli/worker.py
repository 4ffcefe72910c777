"""``vnp worker``: fill blocks of a store beside other workers."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading

from vnp.cli import options
from vnp.cli.exit_codes import of_result
from vnp.cli.output import Outcome
from vnp.embed.config import WorkerConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    WorkerConfig.add_arguments(parser)
    # For vnp embed: when it dies, so do its workers' standard inputs.
    parser.add_argument("--stop-at-eof", action="store_true", help=argparse.SUPPRESS)


def run(given: argparse.Namespace) -> int:
    """Work until nothing is left, or until a signal."""
    from vnp.cycles import importing
    from vnp.inference.preload import preload_torch

    preload_torch()
    with importing():
        from store.io.words import count
        from store.open import open_store
        from vnp.embed.status import watching
        from vnp.embed.worker import Worker

    stop = threading.Event()
    received: list[str] = []

    def receive(number: int, _frame: object) -> None:
        received.append(signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, receive)
    if given.stop_at_eof:
        threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
    store = open_store(given.store)
    config = WorkerConfig.from_options(given).for_store(store.schema)
    worker = Worker(given.store, config=config, stop=stop)
    # With --json another program, such as vnp embed, shows the progress.
    with contextlib.nullcontext() if given.json else watching(store, models=config.models):
        report = worker.run()
    store.refresh()
    left = any(len(store.open_blocks(model)) for model in config.models)
    code = of_result(
        complete=not (report.stopped or report.failures or left), interrupted=report.stopped
    )
    line = (
        f"published {count(report.blocks, 'block')}, {count(report.records, 'embedding')} "
        f"({report.copied:,} copied), {count(report.tokens, 'token')} in {report.seconds:.1f} s "
        f"({report.spent_loading()})"
    )
    value = {**report.to_json(), "signal": next(iter(received), None)}
    return Outcome(value, [line], code).show(as_json=given.json)


def _stop_at_eof(stop: threading.Event) -> None:
    """Stop when the process at the other end of standard input is gone."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()
