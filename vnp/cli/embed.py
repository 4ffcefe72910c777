"""``vnp embed``: fill and certify the whole store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.exit_codes import of_result
from vnp.cli.output import Outcome
from vnp.embed.config import WorkerConfig

if TYPE_CHECKING:
    from vnp.embed.supervisor import EmbedReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    options.workers(parser)
    options.check_threads(parser)
    WorkerConfig.add_arguments(parser, every=False)


def run(given: argparse.Namespace) -> int:
    """Start workers, wait, certify."""
    from vnp.embed.supervisor import embed_store

    config = WorkerConfig.from_options(given)
    report = embed_store(
        given.store, config=config, workers=given.workers, check_threads=given.check_threads
    )
    return outcome(report).show(as_json=given.json)


def outcome(report: EmbedReport) -> Outcome:
    """Tell how much is certified, and what to do if it is not all."""
    from vnp.embed.supervisor import summary

    code = of_result(
        complete=report.complete, interrupted=report.interrupted, refused=report.refused
    )
    return Outcome(report.to_json(), summary(report), code)
