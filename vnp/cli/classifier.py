"""``vnp classifier convert``: a published classifier file becomes safetensors and a JSON card."""

from __future__ import annotations

import argparse
from pathlib import Path

from vnp.cli import options
from vnp.cli.output import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    about = "convert a published .pth into safetensors and a JSON card, unexecuted"
    convert = actions.add_parser("convert", help=about, description=about, allow_abbrev=False)
    convert.add_argument("input", metavar="IN.pth", type=Path, help="the published file")
    about = "the file to make"
    convert.add_argument("output", metavar="OUT.safetensors", type=Path, help=about)
    about = "models whose embeddings it takes, in order (default: those of the recipe that fits)"
    convert.add_argument("--models", nargs="+", metavar="NAME", help=about)
    about = "length of the segments it was trained on, for the card"
    convert.add_argument("--segment-length", type=options.positive, metavar="BASES", help=about)
    options.force(convert)
    options.common(convert)
    convert.set_defaults(command_parser=convert)


def run(given: argparse.Namespace) -> int:
    """Convert the file."""
    from vnp.classify.convert import convert_classifier
    from vnp.classify.files import card_path

    result = convert_classifier(
        given.input,
        given.output,
        models=given.models,
        segment_length=given.segment_length,
        force=given.force,
    )
    card = result.card
    models = " + ".join(f"{name} ({dim})" for name, dim in card.models) or "models not known"
    lines = [
        f"wrote {given.output} and {card_path(given.output).name}: {result.described}, {models}",
        f"  {card.digest}",
    ]
    return Outcome(result.to_json(), lines).show(as_json=given.json)
