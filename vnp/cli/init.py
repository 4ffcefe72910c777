"""``vnp init``: make an empty store."""

from __future__ import annotations

import argparse

from store.errors import UsageError
from store.open import create_store, open_store
from store.schema import DEFAULT_BLOCK_ROWS, Model
from store.store import Store
from vnp.cli.output import print_json, print_lines, say
from vnp.models import registry
from vnp.sequence.segments import described

DEFAULT_RECIPE = "virnucpro"


def run(options: argparse.Namespace) -> int:
    """Make a store, or see that the one there is what was asked for."""
    if options.model and options.recipe:
        raise UsageError("give either --recipe or --model, not both")
    if options.model:
        specs = tuple(registry.model(name) for name in options.model)
    else:
        specs = registry.recipe(options.recipe or DEFAULT_RECIPE)
    models = tuple(Model(spec.name, spec.dim) for spec in specs)
    made = True
    if options.if_missing and options.store.exists():
        store, made = open_store(options.store), False
        _check_same(store, models, options.segment_length)
    else:
        try:
            store = create_store(
                options.store,
                models=models,
                segment_length=options.segment_length,
                block_rows=options.block_rows or DEFAULT_BLOCK_ROWS,
            )
        except UsageError:
            if not options.if_missing:
                raise
            store, made = open_store(options.store), False  # made by another this moment
            _check_same(store, models, options.segment_length)
    if any(spec.demo for spec in specs):
        say(
            "the demo models are small models with random weights, for trying the pipeline; "
            "their embeddings mean nothing"
        )
    if options.json:
        print_json(
            {
                "store": str(store.path),
                "made": made,
                "segment_length": store.schema.segment_length,
                "block_rows": store.schema.block_rows,
                "models": {model.name: model.dim for model in store.schema.models},
            }
        )
    else:
        names = ", ".join(f"{model.name} ({model.dim})" for model in store.schema.models)
        verb = "made" if made else "found"
        windows = described(store.schema.segment_length)
        print_lines([f"{verb} {store.path}: {windows}; models: {names}"])
    return 0


def _check_same(store: Store, models: tuple[Model, ...], segment_length: int) -> None:
    """Refuse to go on with a store that is another one than was asked for."""
    missing = [model.name for model in models if model not in store.schema.models]
    if missing:
        has = ", ".join(model.name for model in store.schema.models)
        raise UsageError(
            f"{store.path} holds {has}, not {', '.join(missing)}: choose another store, the "
            "recipe it was made with, or add the model with 'vnp models --add'"
        )
    if store.schema.segment_length != segment_length:
        raise UsageError(
            f"{store.path} holds {described(store.schema.segment_length)}, not "
            f"{described(segment_length)}: choose another store"
        )
