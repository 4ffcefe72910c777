"""``vnp init``: make an empty store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.sequence.create import InitReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    options.recipe(parser)
    options.names(parser, "--model", "a model, instead of a recipe: NAME or hf:ORG/NAME, and @...")
    options.hub_weights(parser)
    options.plugins(parser)
    parser.add_argument(
        "--segment-length",
        type=options.segment_length,
        default=500,
        metavar="BASES",
        help="length of the windows contigs are cut into (default 500; published: 300, 500), or "
        "'whole' for short reads: each is one window",
    )
    options.genetic_code(parser)
    about = "rows per block (default 4096)"
    parser.add_argument("--block-rows", type=options.positive, metavar="R", help=about)
    about = "let workers of unlike precisions fill it; each block's is in its certificate"
    parser.add_argument("--mixed-precision", action="store_true", help=about)
    about = "do nothing if the store exists with these models, this segment length and this code"
    parser.add_argument("--if-missing", action="store_true", help=about)


def run(given: argparse.Namespace) -> int:
    """Make a store, or check that the one there is what was asked for."""
    from store.schema import DEFAULT_BLOCK_ROWS
    from vnp.sequence.create import create

    report = create(
        given.store,
        recipe=given.recipe,
        models=given.model,
        segment_length=given.segment_length,
        block_rows=given.block_rows or DEFAULT_BLOCK_ROWS,
        mixed_precision=given.mixed_precision,
        genetic_code=given.code,
        if_missing=given.if_missing,
        weights_dir=given.weights_dir,
    )
    return outcome(report).show(as_json=given.json)


def outcome(report: InitReport) -> Outcome:
    """Tell which store was made or found."""
    from vnp.sequence.segments import described

    names = ", ".join(f"{name} ({dim})" for name, dim in report.models.items())
    verb = "made" if report.made else "found"
    windows = described(report.segment_length, report.genetic_code)
    line = f"{verb} {report.store}: {windows}; models: {names}"
    return Outcome(report.to_json(), [line])
