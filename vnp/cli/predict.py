"""``vnp predict``: score the certified rows with a classifier."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.exit_codes import of_result
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.classify.predict import Prediction

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    options.classifier(parser)
    options.names(parser, "--sample", "score only this sample")
    options.feature_models(parser)
    options.classifier_device(parser)
    about = "also keep the scores in the store, as obs columns NAME_score1 and NAME_score2"
    parser.add_argument("--save", metavar="NAME", help=about)
    about = "with --save: replace columns of that name that another classifier made"
    parser.add_argument("--replace", action="store_true", help=about)


def run(given: argparse.Namespace) -> int:
    """Score, write the tables, and keep the scores if asked to."""
    from vnp.api import predict

    result = predict(
        given.store,
        given.classifier,
        output=given.output,
        device=given.device,
        samples=given.sample,
        models=given.models,
        save=given.save,
        replace=given.replace,
    )
    return outcome(result).show(as_json=given.json)


def outcome(result: Prediction) -> Outcome:
    """Tell what was called in each sample, and what could not be scored."""
    from store.io.words import count

    lines = []
    if result.warning:
        log.warning(result.warning)
    for calls in result.samples:
        line = (
            f"{calls.sample}: {calls.viral_windows:,} of {count(calls.windows, 'segment')} are "
            f"viral, {calls.viral_contigs:,} of {count(calls.contigs, 'contig')} in at least half "
            "of theirs"
        )
        if calls.mean_score is not None:
            line += f"; score mean {calls.mean_score:.3f}, best {calls.best_score:.3f}"
        if calls.unscored:
            line += f"; {calls.unscored:,} of {count(calls.records, 'record')} not scored"
        lines += [line, f"  {calls.folder}"]
    if result.unscored:
        log.warning(
            f"{count(result.unscored, 'record')} without a certified row for every model: not "
            "scored; unscored.tsv of their samples names them: run 'vnp embed', then this again"
        )
    return Outcome(result.to_json(), lines, of_result(complete=not result.unscored))
