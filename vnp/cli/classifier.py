"""``vnp classifier convert``: a published classifier file becomes safetensors and a JSON card."""

from __future__ import annotations

import argparse
from dataclasses import replace

from store.errors import UsageError
from vnp.classify.features import FeaturesError
from vnp.classify.files import card_path, load_classifier, save_classifier
from vnp.cli.output import print_json, print_lines
from vnp.models import registry


def run(options: argparse.Namespace) -> int:
    """Convert the file."""
    if options.output.exists():
        raise UsageError(f"{options.output} exists already; choose another name or remove it")
    classifier = load_classifier(options.input)
    card = replace(
        classifier.card,
        models=_models(classifier.card.inputs, options.models),
        segment_length=options.segment_length or classifier.card.segment_length,
    )
    card = save_classifier(classifier.module, card, options.output)
    if options.json:
        print_json({"file": str(options.output), "card": card.to_json()})
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


def _models(inputs: int, names: list[str] | None) -> tuple[tuple[str, int], ...]:
    """Bands of the feature row: those named, else those of the recipe whose width fits."""
    if names is None:
        candidates = [registry.recipe(name) for name in registry.RECIPES]
    else:
        candidates = [tuple(registry.model(name) for name in names)]
    for specs in candidates:
        if sum(spec.dim for spec in specs) == inputs:
            return tuple((spec.name, spec.dim) for spec in specs)
    if names is not None:
        total = sum(spec.dim for spec in candidates[0])
        raise FeaturesError(
            f"the classifier takes {inputs} numbers a row, but {' + '.join(names)} give {total}"
        )
    return ()
