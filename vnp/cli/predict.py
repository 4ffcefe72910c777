"""``vnp predict``: score the certified rows with a classifier."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnp.cli import options
from vnp.cli.exit_codes import of_result
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.classify.call_files import CallFiles
    from vnp.classify.predict import Prediction
    from vnp.classify.regions import RegionRule

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    options.names(parser, "--sample", "score only this sample")
    options.classifier_device(parser)
    options.plugins(parser)  # which may have the recipe that fits
    add_call_arguments(parser)


def add_call_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is called, by which classifier, and where it goes: also those of ``vnp run``."""
    options.classifier(parser)
    options.feature_models(parser)
    about = "also keep the scores in the store, as obs columns NAME_score1 and NAME_score2"
    parser.add_argument("--save", metavar="NAME", help=about)
    about = "with --save: replace columns of that name that another classifier made"
    parser.add_argument("--replace", action="store_true", help=about)
    _file_arguments(parser)
    _region_arguments(parser)


def _file_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("files for other tools, beside the tables")
    file: dict[str, Any] = {"type": Path, "metavar": "FILE"}
    about = "write the viral contigs as FASTA; their sequences come from --contigs"
    group.add_argument("--fasta-out", help=about, **file)
    about = "with --fasta-out: the FASTA or FASTQ files that were appended (run: default its own)"
    group.add_argument("--contigs", nargs="+", default=[], metavar="FASTA", help=about)
    group.add_argument("--bed", help="write the viral regions as BED", **file)
    group.add_argument("--gff", help="write the viral regions as GFF3", **file)
    options.force(parser)


def _region_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("viral regions")
    about = "called segments of the moving average, an odd number (default 5; 1: none)"
    group.add_argument("--smooth", type=options.positive, default=5, metavar="N", help=about)
    score: dict[str, Any] = {"type": options.score, "metavar": "CONSENSUS"}
    about = "smoothed consensus that a region reaches somewhere (default 0.7)"
    group.add_argument("--enter", default=0.7, help=about, **score)
    about = "smoothed consensus that a region has everywhere (default 0.5)"
    group.add_argument("--leave", default=0.5, help=about, **score)
    bases: dict[str, Any] = {"type": options.bases, "metavar": "BASES"}
    about = "length of the shortest region (default 2000)"
    group.add_argument("--min-region", default=2000, help=about, **bases)
    about = "regions at most so far apart are one (default 2000)"
    group.add_argument("--merge-gap", default=2000, help=about, **bases)
    about = "a longer stretch without a called segment ends a region (default 10000)"
    group.add_argument("--max-blank", default=10_000, help=about, **bases)


def run(given: argparse.Namespace) -> int:
    """Score, write the tables and files, and keep the scores if asked to."""
    found = score(given, samples=given.sample, device=given.device)
    return found.show(as_json=given.json)


def files_of(given: argparse.Namespace) -> CallFiles:
    """Files beside the tables, as the options name them."""
    from vnp.classify.call_files import CallFiles

    return CallFiles(
        fasta=given.fasta_out,
        contigs=tuple(given.contigs),
        bed=given.bed,
        gff=given.gff,
        force=given.force,
    )


def rule_of(given: argparse.Namespace) -> RegionRule:
    """What makes a viral region, as the options say."""
    from vnp.classify.regions import RegionRule

    return RegionRule(
        smooth=given.smooth,
        enter=given.enter,
        leave=given.leave,
        min_region=given.min_region,
        merge_gap=given.merge_gap,
        max_blank=given.max_blank,
    )


def score(given: argparse.Namespace, *, samples: Sequence[str], device: str) -> Outcome:
    """Do what the options of `add_call_arguments` say."""
    from vnp.api import predict

    result = predict(
        given.store,
        given.classifier,
        output=given.output,
        device=device,
        samples=samples,
        models=given.models,
        save=given.save,
        replace=given.replace,
        fasta_out=given.fasta_out,
        contigs=given.contigs,
        bed=given.bed,
        gff=given.gff,
        force=given.force,
        smooth=given.smooth,
        enter=given.enter,
        leave=given.leave,
        min_region=given.min_region,
        merge_gap=given.merge_gap,
        max_blank=given.max_blank,
    )
    return outcome(result)


def outcome(result: Prediction) -> Outcome:
    """Tell what was called in each sample, and what could not be scored."""
    from store.io.words import count
    from vnp.embed.fill import no_rows

    lines = []
    if result.warning:
        log.warning(result.warning)
    for calls in result.samples:
        are = "is" if calls.segments == 1 else "are"
        line = (
            f"{calls.sample}: {calls.viral_segments:,} of {count(calls.segments, 'segment')} {are} "
            f"viral, {calls.viral_contigs:,} of {count(calls.contigs, 'contig')} in at least half "
            f"of theirs, {count(calls.regions, 'region')}"
        )
        if calls.mean_score2 is not None:
            line += f"; score2 mean {calls.mean_score2:.3f}, best {calls.best_score2:.3f}"
        if calls.unscored:
            line += f"; {calls.unscored:,} of {count(calls.records, 'record')} not scored"
        lines += [line, f"  {calls.folder}"]
    if result.unscored:
        log.warning(
            f"{count(result.unscored, 'record')} without a certified row for every model: not "
            "scored; unscored.tsv of their samples names them: run 'vnp embed', then this again"
        )
    if result.written.missing:
        log.warning(
            f"{count(result.written.missing, 'viral contig')} in none of the files of --contigs: "
            "not in the FASTA file; missing_contigs.tsv names them"
        )
    if not any(calls.records for calls in result.samples):
        lines.append(f"nothing scored: {no_rows([calls.sample for calls in result.samples])}")
    return Outcome(result.to_json(), lines, of_result(complete=result.complete))
