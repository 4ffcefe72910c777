"""``vnp verify``: re-read everything, name what is wrong, make it open again."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from store.findings import Kind
from store.open import open_store
from store.repair import repair, verify_store
from vnp.cli.main import DATA_ERROR, DONE, INCOMPLETE
from vnp.cli.output import print_json, print_lines, printable


def run(options: argparse.Namespace) -> int:
    """Verify, and repair if asked to."""
    store = open_store(options.store)
    findings = list(verify_store(store))
    done = repair(store, findings) if options.repair else []
    unfilled = {model.name: len(store.open_blocks(model.name)) for model in store.schema.models}
    if options.json:
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
        print_lines([f"{store.n_rows:,} rows: {len(findings)} findings, {damaged} of them damage"])
        print_lines(
            [f"{name}: {count:,} blocks are open" for name, count in unfilled.items() if count]
        )
    left = list(verify_store(store)) if options.repair else findings
    if any(finding.is_damage for finding in left):
        return DATA_ERROR
    unfinished = any(unfilled.values()) or any(found.kind is Kind.UNCERTIFIED for found in left)
    return INCOMPLETE if unfinished else DONE
