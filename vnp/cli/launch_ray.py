"""``vnp launch ray``: workers as tasks of a Ray cluster."""

from __future__ import annotations

import argparse

from vnp.cli import embed, options
from vnp.embed.config import WorkerConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    options.store(parser)
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of the cluster's head (default: RAY_ADDRESS, else the cluster of this machine)",
    )
    parser.add_argument(
        "--workers", type=options.positive, required=True, metavar="N", help="tasks to start"
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=options.gpus,
        default=1.0,
        metavar="G",
        help="GPUs that a task asks for (default 1); 0.5: two share one, 0: embed on the CPU",
    )
    parser.add_argument(
        "--cpus-per-worker",
        type=options.positive,
        default=1,
        metavar="C",
        help="CPUs that a task asks for, and its CPU threads (default 1)",
    )
    parser.add_argument(
        "--retries",
        type=options.times,
        default=10,
        metavar="R",
        help="times a task is started again whose node or process is lost (default 10)",
    )
    WorkerConfig.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Start tasks, wait, certify."""
    from vnp.cli.exit_codes import of_error
    from vnp.launch.ray import Share, launch

    share = Share(
        workers=given.workers,
        gpus=given.gpus_per_worker,
        cpus=given.cpus_per_worker,
        retries=given.retries,
    )
    config = WorkerConfig.from_options(given)
    report = launch(
        given.store, config=config, share=share, address=given.address, code_of=of_error
    )
    return embed.outcome(report).show(as_json=given.json)
