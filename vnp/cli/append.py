"""``vnp append``: append FASTA, FASTQ, BAM or CRAM files as samples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.exit_codes import DATA_ERROR, DONE
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.sequence.append import AppendReport
    from vnp.sequence.check import CheckReport

_SHOWN = 20  # problems of a sample that --check prints; --json has more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "FASTA, FASTQ (plain, .gz, .zst, .bz2), BAM, CRAM: a sample each; - is standard input"
    files = parser.add_argument("files", metavar="FILE", nargs="+", help=about)
    files.required = False  # with --sheet; "*" would match nothing before an option
    about = "table of samples and files, tab-separated: sample, file, and file2 of read pairs"
    parser.add_argument("--sheet", type=Path, metavar="TSV", help=about)
    options.sample(parser)
    parser.add_argument(
        "--existing",
        choices=("refuse", "skip"),
        default="refuse",
        help="the store has this very file or its content already: refuse it, or skip it",
    )
    parser.add_argument(
        "--invalid",
        choices=("refuse", "skip"),
        default="refuse",
        help="records that cannot be used: refuse the file, or skip them and name them in a table",
    )
    about = "append a file whose content the store has under another name"
    parser.add_argument("--allow-same-content", action="store_true", help=about)
    about = "read everything, write nothing: list all problems, and how long the sequences are"
    parser.add_argument("--check", action="store_true", help=about)
    about = "make the store first if it is missing; if a file is then refused, none is left"
    parser.add_argument("--create", action="store_true", help=about)
    options.recipe(parser)
    options.plugins(parser)
    parser.add_argument(
        "--segment-length",
        type=options.segment_length,
        metavar="BASES",
        help="with --create: windows of the store, 500 (default), 300 or 'whole'; without it, what "
        "they must be",
    )
    options.genetic_code(parser, of="a store made with --create", default=None)
    about = "where to name contigs that give no record (of one file)"
    parser.add_argument("--report", type=Path, metavar="TSV", help=about)


def run(given: argparse.Namespace) -> int:
    """Append the files, or check them."""
    from store.errors import UsageError
    from vnp.sequence.append_files import append_files, check_append
    from vnp.sequence.contig_ids import Duplicates
    from vnp.sequence.create import StoreOptions
    from vnp.sequence.samples import read_sheet, samples_of_files

    if bool(given.files) == (given.sheet is not None):
        both = "not both files and a sheet" if given.files else "or a --sheet of them"
        raise UsageError(f"name the files to append, {both}")
    if given.sheet is not None and given.sample is not None:
        raise UsageError("the sheet names the samples: leave --sample out")
    samples = (
        samples_of_files(given.files, name=given.sample)
        if given.sheet is None
        else read_sheet(given.sheet)
    )
    if given.report is not None and len(samples) > 1:
        raise UsageError("--report names the table of one sample, and several were given")
    wanted = StoreOptions(given.recipe, given.segment_length, given.code)
    if given.check:
        found = check_append(
            given.store,
            samples,
            wanted=wanted,
            make=given.create,
            duplicates=Duplicates(given.duplicates),
        )
        return checked(found).show(as_json=given.json)
    reports = append_files(
        given.store,
        samples,
        wanted=wanted,
        make=given.create,
        duplicates=Duplicates(given.duplicates),
        existing=given.existing,
        invalid=given.invalid,
        allow_same_content=given.allow_same_content,
        report=given.report,
    )
    outcomes = [outcome(report) for report in reports.samples]
    if len(samples) == 1 and given.sheet is None:
        return outcomes[0].show(as_json=given.json)
    lines = [line for each in outcomes for line in each.lines]
    return Outcome(reports.to_json(), lines).show(as_json=given.json)


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
        line = f"{sample.name} is in the store already: {sample.source}, the same content"
    elif sample.stop > sample.start:
        line += f" (rows {sample.start:,} to {sample.stop - 1:,})"
    return Outcome(report.to_json(), [line])


def checked(found: CheckReport) -> Outcome:
    """Tell what an append would meet; an error code if it would not take everything."""
    from store.io.words import count

    lines = []
    for each in found.samples:
        line = (
            f"{each.sample}: {count(each.contigs, 'usable contig')}, {count(each.bases, 'base')}, "
            f"{count(each.segments, 'segment')}, {count(each.records, 'record')}"
        )
        if each.lengths is not None:
            sizes = each.lengths
            line += (
                f"; lengths {sizes.shortest:,} to {sizes.longest:,}, median {sizes.median:,}, "
                f"N50 {sizes.n50:,}; {each.ambiguous_share:.2%} ambiguous"
            )
        if each.uracils:
            line += f"; {count(each.uracils, 'letter')} U, read as T"
        lines.append(line)
        for problem in each.named[:_SHOWN]:
            where = "".join(
                f", {what} {number:,}"
                for what, number in (("record", problem.record), ("line", problem.line))
                if number is not None
            )
            lines.append(f"  {problem.file}{where}: {problem.reason}")
        if each.problems > _SHOWN:
            lines.append(f"  and {each.problems - _SHOWN:,} more (--json names them)")
    total = found.problems
    lines.append(
        f"{count(total, 'problem')} in {count(len(found.samples), 'sample')}; nothing was written"
    )
    return Outcome(found.to_json(), lines, DATA_ERROR if total else DONE)
