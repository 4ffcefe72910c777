"""``vnp worker``: fill blocks of a store beside other workers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from store.claims.liveness import LEASE
from store.open import open_store
from vnp.cli.main import DONE, INCOMPLETE, INTERRUPTED
from vnp.cli.output import print_json, print_lines
from vnp.embed.config import WorkerConfig
from vnp.embed.watching import watching
from vnp.embed.worker import Worker


def run(options: argparse.Namespace) -> int:
    """Work until nothing is left, or until a signal."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: stop.set())
    if options.stop_at_eof:
        threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
    config = WorkerConfig(
        models=tuple(options.model or ()),
        device=options.device,
        precision=options.precision,
        weights_dir=options.weights,
        token_budget=options.token_budget,
        threads=options.threads,
        lease=options.lease if options.lease is not None else LEASE,
        linger=not options.no_linger,
        dedup=not options.no_dedup,
    )
    if options.json:  # somebody else, such as vnp embed, shows the progress
        report = Worker(options.store, config=config, stop=stop).run()
        print_json(report.to_json())
    else:
        with watching(open_store(options.store), models=config.models):
            report = Worker(options.store, config=config, stop=stop).run()
        print_lines(
            [
                f"published {report.blocks:,} blocks, {report.records:,} records "
                f"({report.copied:,} copied), {report.tokens:,} tokens in {report.seconds:.1f} s"
            ]
        )
    if report.stopped:
        return INTERRUPTED
    store = open_store(options.store)
    models = config.models or tuple(model.name for model in store.schema.models)
    left = any(len(store.open_blocks(model)) for model in models)
    return INCOMPLETE if report.failures or left else DONE


def _stop_at_eof(stop: threading.Event) -> None:
    """Stop when whoever holds the other end of standard input is gone."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()
