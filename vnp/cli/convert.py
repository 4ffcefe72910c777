"""``vnp convert``: copy a store to the other kind of file."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from vnp.cli import options
from vnp.cli.exit_codes import of_result
from vnp.cli.output import print_json, print_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    parser.add_argument(
        "target",
        metavar="TARGET",
        type=Path,
        help="the copy, e.g. run.h5; run the command again to carry on with one that was cut short",
    )
    parser.add_argument(
        "--only-certified",
        action="store_true",
        help="leave out rows that are not certified for every model (default: they come, open)",
    )
    options.json_flag(parser)


def run(given: argparse.Namespace) -> int:
    """Copy, or carry on copying."""
    from store.convert import convert_store
    from store.io.words import count
    from store.open import open_store

    found = convert_store(
        open_store(given.store), given.target, only_certified=given.only_certified
    )
    lines = [f"not copied: {line}" for line in found.damaged]
    lines.append(
        f"{given.target}: {count(found.rows, 'row')}; this run brought "
        f"{count(found.samples, 'sample')} and {count(found.blocks, 'block')}"
    )
    lines += [
        f"{model}: open, as in {given.store}: {count(rows, 'row')}"
        for model, rows in found.missing.items()
        if rows
    ]
    if found.busy:
        lines.append(f"being filled by others: {count(found.busy, 'block')}; run it again")
    if given.json:
        print_json({"target": str(given.target), "complete": found.complete, **asdict(found)})
    else:
        print_lines(lines)
    return of_result(complete=found.complete)
