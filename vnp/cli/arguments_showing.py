"""Commands that do several things in one go, or show what there is: run, report."""

from __future__ import annotations

from pathlib import Path

from vnp.cli.options import (
    Commands,
    command,
    device_options,
    json_flag,
    positive,
    segment_length,
    store,
)


def add(commands: Commands) -> None:
    """Add the parsers of run and report."""
    run = command(commands, "run", "append, embed and predict in one go; every stage resumes")
    store(run)
    run.add_argument("fasta", metavar="FASTA", nargs="+", help="FASTA or FASTQ files, as samples")
    run.add_argument(
        "--classifier",
        type=Path,
        required=True,
        metavar="FILE",
        help="a published .pth, or a .safetensors made by vnp train or vnp classifier convert",
    )
    run.add_argument("--sample", metavar="NAME", help="sample name, when there is one file")
    run.add_argument("--recipe", help="models of a new store: virnucpro (the default) or demo")
    run.add_argument(
        "--segment-length",
        type=segment_length,
        metavar="BASES",
        help="windows of a new store: 500 (default), 300, or 'whole' for short reads",
    )
    run.add_argument(
        "--duplicates",
        choices=("refuse", "number"),
        default="refuse",
        help="sequence ids that occur twice in a file: refuse the file, or number them",
    )
    run.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where the tables go (see vnp predict)"
    )
    run.add_argument(
        "--workers", type=positive, metavar="N", help="workers (default: one per GPU, or one)"
    )
    device_options(run)
    json_flag(run)

    report = command(commands, "report", "write one HTML page that shows what a store holds")
    store(report)
    report.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="HTML",
        help="the page (default: beside the store, STORE.report.html)",
    )
    report.add_argument("--title", help="headline (default: the store's name)")
    scores = report.add_mutually_exclusive_group()
    scores.add_argument(
        "--scores",
        metavar="NAME",
        help="scores to show that vnp predict --save kept (default: those saved last)",
    )
    scores.add_argument(
        "--classifier", type=Path, metavar="FILE", help="score with this classifier for the page"
    )
    report.add_argument("--device", default="auto", help="where the classifier runs")
    report.add_argument(
        "--no-umap", action="store_true", help="leave the UMAP out also where it is installed"
    )
    report.add_argument(
        "--multiqc", action="store_true", help="also write *_mqc.json files for MultiQC beside it"
    )
    json_flag(report)
