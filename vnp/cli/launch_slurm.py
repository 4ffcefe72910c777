"""``vnp launch slurm``: an array job of workers, and a job that certifies after it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.output import Outcome
from vnp.embed.config import WorkerConfig

if TYPE_CHECKING:
    from vnp.launch.slurm import LaunchReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.usage = (
        "vnp launch slurm STORE --workers N [--gres GRES] [--max-running M] [--dry-run] "
        "[options of vnp worker] [-- options of sbatch]"
    )
    parser.epilog = (
        "What follows a lone -- is given to sbatch for both jobs, such as -- --partition=gpu "
        "--time=8:00:00. The same command again tops up: it submits only workers that are missing."
    )
    options.store(parser)
    parser.add_argument(
        "--workers",
        type=options.positive,
        required=True,
        metavar="N",
        help="tasks of the array job; those that an earlier call left in the queue count",
    )
    parser.add_argument("--gres", metavar="GRES", help="resources of each worker, e.g. gpu:1")
    parser.add_argument(
        "--max-running", type=options.positive, metavar="M", help="workers at a time (default: all)"
    )
    parser.add_argument(
        "--certify-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option of sbatch for the certifying job alone, e.g. "
        "--certify-option=--partition=cpu (repeatable)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the jobs and their scripts; submit nothing"
    )
    WorkerConfig.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Submit what is missing."""
    from vnp.launch.slurm import launch
    from vnp.launch.slurm_jobs import Settings

    settings = Settings(
        workers=given.workers,
        gres=given.gres,
        max_running=given.max_running,
        options=tuple(given.passed_on),
        certify_options=tuple(given.certify_option),
    )
    config = WorkerConfig.from_options(given)
    report = launch(given.store, config=config, settings=settings, dry_run=given.dry_run)
    return Outcome(report.to_json(), _lines(report)).show(as_json=given.json)


def _lines(report: LaunchReport) -> Iterator[str]:
    from store.io.words import count

    if report.dry_run:
        yield from (f"{job}" for job in report.jobs)
    there = f" beside {count(report.there, 'worker')} there already" if report.there else ""
    would = "would be " if report.dry_run else ""
    if report.submitted:
        number = f" as array job {report.array_job}" if report.array_job else ""
        yield f"{count(report.submitted, 'worker')} {would}submitted{number}{there}"
    elif not report.open_blocks:
        yield "every row is filled: no worker is needed"
    else:
        yield f"no worker is missing: {count(report.there, 'worker')} there already"
    if report.certify_job:
        yield f"job {report.certify_job} certifies the store when no worker is left"
        yield f"progress: vnp status; squeue --name={report.name}; logs: {report.store}.vnp/logs"
