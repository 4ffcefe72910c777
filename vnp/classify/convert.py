"""A published classifier file becomes safetensors and a card that says which models it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from store.io.replace import refuse_existing, refuse_shared
from vnp.classify.features import FeaturesError, first_fitting
from vnp.classify.files import Card, card_path, load_classifier, save_classifier
from vnp.models import registry


@dataclass(frozen=True, slots=True)
class Converted:
    """How a conversion came out."""

    path: Path  # the new file
    card: Card  # which lies beside it
    described: str  # what the classifier is, for people

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"file": str(self.path), "card": self.card.to_json()}


def convert_classifier(
    path: Path,
    output: Path,
    *,
    models: Sequence[str] | None = None,
    segment_length: int | None = None,
    force: bool = False,
) -> Converted:
    """Convert a classifier file to the ``.safetensors`` file ``output``, bit for bit.

    The card tells the bands of its feature row, by default those of its card before, or of the
    recipe whose width fits, and the bases per segment it was trained on.

    `UsageError` if the output exists, without ``force``, or has another suffix; `ClassifierError`
    or `FeaturesError` if the file holds no classifier, or one of another width than the models'.
    """
    refuse_shared([output, card_path(output)], [path])
    refuse_existing(output, force=force)
    classifier = load_classifier(path)
    known = classifier.card.models if models is None else ()
    card = replace(
        classifier.card,
        models=known or _bands(classifier.card.inputs, models),
        segment_length=segment_length or classifier.card.segment_length,
    )
    module = classifier.module
    return Converted(output, save_classifier(module, card, output), module.described)


def _bands(inputs: int, names: Sequence[str] | None) -> tuple[tuple[str, int], ...]:
    """Name and width of each band; () if no recipe has this width."""
    recipes = list(registry.RECIPES.values()) if names is None else [tuple(names)]
    specs = [[registry.model(name) for name in recipe] for recipe in recipes]
    candidates = [tuple(spec.name for spec in recipe) for recipe in specs]
    dims = {spec.name: spec.embedding_dim for recipe in specs for spec in recipe}
    try:
        return tuple((name, dims[name]) for name in first_fitting(inputs, candidates, dims))
    except FeaturesError:
        if names is not None:
            raise
        return ()
