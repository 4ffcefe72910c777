"""``vnp classifier convert``: a published classifier file becomes safetensors and a JSON card."""

from __future__ import annotations

import argparse

from vnp.classify.convert import convert_classifier
from vnp.classify.files import card_path
from vnp.cli.output import print_json, print_lines


def run(options: argparse.Namespace) -> int:
    """Convert the file."""
    result = convert_classifier(
        options.input,
        options.output,
        models=options.models,
        segment_length=options.segment_length,
    )
    card = result.card
    if options.json:
        print_json(result.to_json())
        return 0
    models = " + ".join(f"{name} ({dim})" for name, dim in card.models) or "models not known"
    print_lines(
        [
            f"wrote {options.output} and {card_path(options.output).name}: "
            f"{card.inputs} -> {card.hidden} -> 2, {models}",
            f"  {card.digest}",
        ]
    )
    return 0
