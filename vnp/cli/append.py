"""``vnp append``: append a FASTA or FASTQ file as a sample."""

from __future__ import annotations

import argparse

from store.open import open_store
from vnp.cli.output import print_json, print_lines, say
from vnp.sequence.append import append_file
from vnp.sequence.contig_ids import Duplicates


def run(options: argparse.Namespace) -> int:
    """Append the file."""
    report = append_file(
        open_store(options.store),
        options.file,
        sample=options.sample,
        duplicates=Duplicates(options.duplicates),
        existing=options.existing,
        report=options.report,
        say=say,
    )
    if options.json:
        print_json(report.to_json())
        return 0
    sample = report.sample
    if report.skipped:
        print_lines([f"{sample.name} is in the store already: {sample.source}, the same bytes"])
        return 0
    print_lines(
        [
            f"appended {sample.name}: {sample.contigs:,} contigs, {sample.bases:,} bases, "
            f"{sample.segments:,} segments, {sample.stop - sample.start:,} records "
            f"(rows {sample.start:,} to {sample.stop - 1:,})"
        ]
    )
    return 0
