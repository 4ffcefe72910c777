"""``vnp import``: make VirNucPro's result files rows of a store."""

from __future__ import annotations

import argparse
from pathlib import Path

from vnp.cli import options
from vnp.cli.output import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "*_DNABERT_S.pt, *_ESM.pt or *_merged.pt of one sample, in any order"
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help=about)
    about = "the FASTA the files were made from"
    parser.add_argument("--fasta", required=True, metavar="FILE", help=about)
    options.sample(parser)


def run(given: argparse.Namespace) -> int:
    """Bring the files in."""
    from store.io.words import count
    from store.open import open_store
    from vnp.exchange.import_results import import_files
    from vnp.sequence.contig_ids import Duplicates

    report = import_files(
        open_store(given.store),
        given.files,
        fasta=given.fasta,
        sample=given.sample,
        duplicates=Duplicates(given.duplicates),
    )
    there = "" if report.appended else " (the sample was in the store already)"
    lines = [f"imported {report.sample}: {count(report.rows, 'record')}{there}"]
    for name, matched in report.matched.items():
        lines.append(
            f"{name}: {count(matched, 'row')} in the files, {report.certified[name]:,} of "
            f"{report.rows:,} certified now"
        )
    if not report.complete:
        lines.append("the rest is open: fill it with 'vnp embed'")
    return Outcome(report.to_json(), lines).show(as_json=given.json)
