"""``vnp verify``: re-read everything, name what is wrong, make it open again."""

from __future__ import annotations

import argparse

from vnp.cli import options
from vnp.cli.exit_codes import DATA_ERROR, of_result
from vnp.cli.output import Outcome, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "make damaged blocks open again and remove orphans; run embed after it"
    parser.add_argument("--repair", action="store_true", help=about)
    options.check_threads(parser)


def run(given: argparse.Namespace) -> int:
    """Verify, and repair if asked to."""
    from store.io.words import count
    from store.open import open_store
    from vnp.embed.verification import verify

    report = verify(
        open_store(given.store), repairing=given.repair, check_threads=given.check_threads
    )
    lines = [printable(f"{each.kind}: {each.path}: {each.detail}") for each in report.findings]
    lines += [f"repaired: {line}" for line in report.repaired]
    found = count(len(report.findings), "finding")
    lines.append(f"{count(report.rows, 'row')}: {found}, {report.damaged} of them damage")
    lines += [f"{name}: {count(n, 'open block')}" for name, n in report.open_blocks.items() if n]
    lines += [
        printable(f"{name}: {count(n, 'row')} in {precision}")
        for name, counts in report.precisions.items()
        for precision, n in counts.items()
    ]
    code = of_result(complete=report.complete) if report.sound else DATA_ERROR
    return Outcome(report.to_json(), lines, code).show(as_json=given.json)
