"""``vnp append``: append a FASTA or FASTQ file as a sample."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.sequence.append import AppendReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "FASTA or FASTQ, plain or .gz/.zst/.bz2; - is standard input"
    parser.add_argument("file", metavar="FILE", help=about)
    options.sample(parser)
    parser.add_argument(
        "--existing",
        choices=("refuse", "skip"),
        default="refuse",
        help="the store has this very file already: refuse it, or skip it",
    )
    about = "where to name contigs that give no record"
    parser.add_argument("--report", type=Path, metavar="TSV", help=about)


def run(given: argparse.Namespace) -> int:
    """Append the file."""
    from store.open import open_store
    from vnp.sequence.append import append_file
    from vnp.sequence.contig_ids import Duplicates

    report = append_file(
        open_store(given.store),
        given.file,
        sample=given.sample,
        duplicates=Duplicates(given.duplicates),
        existing=given.existing,
        report=given.report,
    )
    return outcome(report).show(as_json=given.json)


def outcome(report: AppendReport) -> Outcome:
    """Tell what was appended, or that it was there already."""
    from store.io.words import count

    sample = report.sample
    numbers = (
        (sample.contigs, "contig"),
        (sample.bases, "base"),
        (sample.segments, "segment"),
        (sample.stop - sample.start, "record"),
    )
    line = f"appended {sample.name}: {', '.join(count(*each) for each in numbers)}"
    if report.skipped:
        line = f"{sample.name} is in the store already: {sample.source}, the same bytes"
    elif sample.stop > sample.start:
        line += f" (rows {sample.start:,} to {sample.stop - 1:,})"
    return Outcome(report.to_json(), [line])
