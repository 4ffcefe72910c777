"""``vnp verify``: re-read everything, name what is wrong, make it open again."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from vnp.cli import options
from vnp.cli.exit_codes import DATA_ERROR, DONE, INCOMPLETE
from vnp.cli.output import print_json, print_lines, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="make damaged blocks open again and remove orphans; run embed after it",
    )
    options.json_flag(parser)


def run(given: argparse.Namespace) -> int:
    """Verify, and repair if asked to."""
    from store.findings import Kind
    from store.io.words import count
    from store.open import open_store
    from store.repair import repair, verify_store

    store = open_store(given.store)
    findings = list(verify_store(store))
    done = repair(store, findings) if given.repair else []
    unfilled = {model.name: len(store.open_blocks(model.name)) for model in store.schema.models}
    if given.json:
        print_json(
            {
                "store": str(store.path),
                "findings": [asdict(finding) for finding in findings],
                "repaired": done,
                "open_blocks": unfilled,
            }
        )
    else:
        for finding in findings:
            print_lines([printable(f"{finding.kind}: {finding.path}: {finding.detail}")])
        print_lines([f"repaired: {line}" for line in done])
        damaged = sum(finding.is_damage for finding in findings)
        rows, found = count(store.n_rows, "row"), count(len(findings), "finding")
        print_lines([f"{rows}: {found}, {damaged} of them damage"])
        print_lines(
            f"{name}: {count(blocks, 'open block')}" for name, blocks in unfilled.items() if blocks
        )
    left = list(verify_store(store)) if given.repair else findings
    if any(finding.is_damage for finding in left):
        return DATA_ERROR
    unfinished = any(unfilled.values()) or any(finding.kind is Kind.UNCERTIFIED for finding in left)
    return INCOMPLETE if unfinished else DONE
