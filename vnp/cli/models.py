"""``vnp models``: list the models, or add one to a store."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from vnp.cli import options
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.models.spec import ModelSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--add", metavar="NAME", help="add this model to the store")
    options.hub_weights(parser)
    options.plugins(parser)
    parser.add_argument("store", metavar="STORE", nargs="?", type=options.place, help="with --add")


def run(given: argparse.Namespace) -> int:
    """List, or add."""
    from store.errors import UsageError
    from store.io.words import count
    from store.open import open_store
    from store.schema import Model
    from vnp.models import plugins, registry

    if (given.add is None) != (given.store is None):
        raise UsageError("to add a model give both: vnp models --add NAME STORE")
    if given.add is not None:
        registry.check_names([given.add])
        store = open_store(given.store)
        spec = registry.model(given.add, weights_dir=given.weights_dir)
        store.add_model(Model(spec.name, spec.embedding_dim, spec.source))
        value = {"store": str(store.path), "added": spec.name, "rows": store.n_rows}
        lines = [f"added {spec.name} to {store.path}: {count(store.n_rows, 'row')} to embed"]
        return Outcome(value, lines).show(as_json=given.json)
    models, recipes = registry.known(), registry.RECIPES | plugins.recipes()
    lines = [
        f"{spec.name:<20} {spec.input:<10} {spec.embedding_dim:>5} {_count(spec.parameters):>8}  "
        f"{spec.about}" + (f"; {spec.repo}" if spec.repo else "")
        for spec in models
    ]
    lines += [f"recipe {name}: {' + '.join(names)}" for name, names in recipes.items()]
    value = {"models": [_described(spec) for spec in models], "recipes": recipes}
    return Outcome(value, lines).show(as_json=given.json)


def _described(spec: ModelSpec) -> dict[str, Any]:
    said = {field.name: getattr(spec, field.name) for field in fields(spec)}
    del said["loader"]
    script = str(spec.script) if spec.script is not None else None
    return said | {"script": script, "embedding_dim": spec.embedding_dim}


def _count(parameters: int | None) -> str:
    """Write a number of parameters: 240 k, 650 M, 15.1 B."""
    if parameters is None:
        return "-"
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if parameters >= size:
            return f"{parameters / size:.{1 if unit == 'B' else 0}f} {unit}"
    return f"{parameters / 1e3:.0f} k"
