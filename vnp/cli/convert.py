"""``vnp convert``: copy a store to the other kind of file."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from store.convert import convert_store
from store.open import open_store
from vnp.cli.main import DONE, INCOMPLETE
from vnp.cli.output import print_json, print_lines, say


def run(options: argparse.Namespace) -> int:
    """Copy, or carry on copying."""
    found = convert_store(
        open_store(options.store), options.target, only_certified=options.only_certified, step=say
    )
    if options.json:
        print_json({"target": str(options.target), "complete": found.complete, **asdict(found)})
    else:
        print_lines(f"not copied: {line}" for line in found.damaged)
        print_lines(
            [
                f"{options.target}: {found.rows:,} rows; this run brought "
                f"{found.samples:,} samples and {found.blocks:,} blocks"
            ]
        )
        print_lines(
            f"{model}: {count:,} rows are open, as in {options.store}"
            for model, count in found.missing.items()
            if count
        )
        if found.busy:
            print_lines([f"{found.busy:,} blocks are being filled by others: run it again"])
    return DONE if found.complete else INCOMPLETE
