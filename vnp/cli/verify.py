"""``vnp verify``: re-read everything, name what is wrong, make it open again."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from vnp.cli import options
from vnp.cli.exit_codes import DATA_ERROR, DONE, INCOMPLETE
from vnp.cli.output import Outcome, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "make damaged blocks open again and remove orphans; run embed after it"
    parser.add_argument("--repair", action="store_true", help=about)


def run(given: argparse.Namespace) -> int:
    """Verify, and repair if asked to."""
    from store.findings import Kind
    from store.io.words import count
    from store.open import open_store
    from store.repair import repair, verify_store
    from vnp.embed.precisions import rows_by_precision

    store = open_store(given.store)
    findings = list(verify_store(store))
    done = repair(store, findings) if given.repair else []
    unfilled = {model.name: len(store.open_blocks(model.name)) for model in store.schema.models}
    lines = [printable(f"{each.kind}: {each.path}: {each.detail}") for each in findings]
    lines += [f"repaired: {line}" for line in done]
    damaged = sum(finding.is_damage for finding in findings)
    found = count(len(findings), "finding")
    lines.append(f"{count(store.n_rows, 'row')}: {found}, {damaged} of them damage")
    lines += [f"{name}: {count(n, 'open block')}" for name, n in unfilled.items() if n]
    precisions = (
        {model.name: rows_by_precision(store, model.name) for model in store.schema.models}
        if store.schema.mixed_precision
        else {}
    )
    lines += [
        printable(f"{name}: {count(n, 'row')} in {precision}")
        for name, counts in precisions.items()
        for precision, n in counts.items()
    ]
    value = {
        "store": str(store.path),
        "findings": [asdict(finding) for finding in findings],
        "repaired": done,
        "open_blocks": unfilled,
        "precisions": precisions,
    }
    left = list(verify_store(store)) if given.repair else findings
    code = DONE
    if any(finding.is_damage for finding in left):
        code = DATA_ERROR
    elif any(unfilled.values()) or any(finding.kind is Kind.UNCERTIFIED for finding in left):
        code = INCOMPLETE
    return Outcome(value, lines, code).show(as_json=given.json)
