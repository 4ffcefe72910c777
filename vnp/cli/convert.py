"""``vnp convert``: copy a store to the other kind of file."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from vnp.cli import options
from vnp.cli.exit_codes import of_result
from vnp.cli.output import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "the copy, e.g. run.h5 or s3://BUCKET/run.zarr; one cut short is carried on with"
    parser.add_argument("target", metavar="TARGET", type=options.place, help=about)
    about = "leave out rows that are not certified for every model (default: they come, open)"
    parser.add_argument("--only-certified", action="store_true", help=about)


def run(given: argparse.Namespace) -> int:
    """Copy, or carry on copying."""
    from store.convert import convert
    from store.io.words import count

    target = given.target
    found = convert(given.store, target, only_certified=given.only_certified)
    lines = [f"not copied: {line}" for line in found.damaged]
    lines.append(
        f"{target}: {count(found.rows, 'row')}; this run brought "
        f"{count(found.samples, 'sample')} and {count(found.blocks, 'block')}"
    )
    lines += [
        f"{model}: open, as in {given.store}: {count(rows, 'row')}"
        for model, rows in found.missing.items()
        if rows
    ]
    if found.busy:
        lines.append(f"being filled by others: {count(found.busy, 'block')}; run it again")
    value = {"target": str(target), "complete": found.complete, **asdict(found)}
    return Outcome(value, lines, of_result(complete=found.complete)).show(as_json=given.json)
