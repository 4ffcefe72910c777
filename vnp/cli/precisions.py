"""``vnp precisions``: what faster precisions would change, on a store's own records."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.output import Outcome
from vnp.embed.config import WorkerConfig, add_device_arguments

if TYPE_CHECKING:
    from vnp.classify.precisions import ModelPrecisions, PrecisionsReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    options.names(parser, "--model", "compare only this model")
    about = "also tell how many records this classifier would call otherwise"
    parser.add_argument("--classifier", type=Path, metavar="FILE", help=about)
    add_device_arguments(parser, precision=False, token_budget=True)


def run(given: argparse.Namespace) -> int:
    """Embed a sample of the store in each precision, and compare."""
    from store.open import open_store
    from vnp.classify.files import load_classifier
    from vnp.classify.precisions import compare_precisions

    report = compare_precisions(
        open_store(given.store),
        models=given.model,
        classifier=None if given.classifier is None else load_classifier(given.classifier),
        config=WorkerConfig.from_options(given),
    )
    return Outcome(report.to_json(), _lines(report)).show(as_json=given.json)


def _lines(report: PrecisionsReport) -> Iterator[str]:
    from store.io.words import count

    records = count(report.records, "record")
    for model in report.models:
        if model.precision is None:
            yield f"{model.model}: nothing faster than its usual precision runs on this device"
            yield from _left_out(model)
            continue
        yield (
            f"{model.model} on {model.device}, {records}: {model.precision} "
            f"{model.records_per_second:,.0f} records/s"
        )
        for each in model.faster:
            verdict = "passes" if each.passes else "fails"
            line = (
                f"  {each.precision} {each.records_per_second:,.0f} records/s, lowest cosine "
                f"{each.lowest:.6f} ({verdict}: at least {report.bound:g}), median "
                f"{each.median:.6f}"
            )
            if each.calls_changed_share is not None:
                line += (
                    f"; calls that change: {each.calls_changed:,} of {report.records:,} "
                    f"({each.calls_changed_share:.2%})"
                )
            yield line
        yield from _left_out(model)
    if report.viral is not None:
        yield (
            f"{report.classifier} calls {report.viral:,} of {records} viral, by "
            f"{' + '.join(report.features)}"
        )
    elif report.classifier is not None:
        yield f"{report.classifier}: none of its models was compared, so no call can change"


def _left_out(model: ModelPrecisions) -> Iterator[str]:
    """Say why precisions are missing; those of one reason share a line."""
    for why in dict.fromkeys(model.left_out.values()):
        names = [name for name, each in model.left_out.items() if each == why]
        yield f"  without {' and '.join(names)}: {why}"
