"""``vnp import``: make VirNucPro's result files rows of a store."""

from __future__ import annotations

import argparse

from store.open import open_store
from vnp.cli.output import print_json, print_lines
from vnp.exchange.import_results import import_files
from vnp.sequence.contig_ids import Duplicates


def run(options: argparse.Namespace) -> int:
    """Bring the files in."""
    report = import_files(
        open_store(options.store),
        options.files,
        fasta=options.fasta,
        sample=options.sample,
        duplicates=Duplicates(options.duplicates),
    )
    if options.json:
        print_json(report.to_json())
        return 0
    lines = [
        f"imported {report.sample}: {report.rows:,} records"
        + ("" if report.appended else " (the sample was in the store already)")
    ]
    for name, matched in report.matched.items():
        lines.append(
            f"{name}: {matched:,} rows in the files, {report.certified[name]:,} of "
            f"{report.rows:,} certified now"
        )
    if not report.complete:
        lines.append("the rest is open: fill it with 'vnp embed'")
    print_lines(lines)
    return 0
