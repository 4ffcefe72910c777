"""``vnp embed``: fill and certify the whole store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.exit_codes import of_result
from vnp.cli.output import Outcome
from vnp.embed.config import WorkerConfig

if TYPE_CHECKING:
    from vnp.embed.fill import EmbedReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    options.workers(parser)
    parser.add_argument(
        "--certify",
        action="store_true",
        help="start no worker: certify what others filled; exit code 3 if rows are missing",
    )
    options.check_threads(parser)
    WorkerConfig.add_arguments(parser, every=False)


def run(given: argparse.Namespace) -> int:
    """Start workers, wait, certify."""
    from store.errors import UsageError
    from vnp.embed.fill import certify_store
    from vnp.embed.supervisor import embed_store

    config = WorkerConfig.from_options(given)
    if given.certify:
        if given.workers is not None:
            raise UsageError("--certify starts no workers: leave --workers out")
        report = certify_store(given.store, models=config.models, check_threads=given.check_threads)
    else:
        report = embed_store(
            given.store, config=config, workers=given.workers, check_threads=given.check_threads
        )
    return outcome(report, filling=not given.certify).show(as_json=given.json)


def outcome(report: EmbedReport, *, filling: bool = True) -> Outcome:
    """Tell how much is certified, and what to do if it is not all."""
    from vnp.embed.fill import summary

    code = of_result(
        complete=report.complete, interrupted=report.interrupted, refused=report.refused
    )
    return Outcome(report.to_json(), summary(report, filling=filling), code)
