"""``vnp models``: list the models, or add one to a store."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from vnp.cli.output import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--add", metavar="NAME", help="add this model to the store")
    parser.add_argument("store", metavar="STORE", nargs="?", type=Path, help="with --add")


def run(given: argparse.Namespace) -> int:
    """List, or add."""
    from store.errors import UsageError
    from store.io.words import count
    from store.open import open_store
    from store.schema import Model
    from vnp.models import registry

    if (given.add is None) != (given.store is None):
        raise UsageError("to add a model give both: vnp models --add NAME STORE")
    if given.add is not None:
        spec = registry.model(given.add)
        store = open_store(given.store)
        store.add_model(Model(spec.name, spec.dim))
        value = {"store": str(store.path), "added": spec.name, "rows": store.n_rows}
        lines = [f"added {spec.name} to {store.path}: {count(store.n_rows, 'row')} to embed"]
        return Outcome(value, lines).show(as_json=given.json)
    models, recipes = registry.MODELS.values(), registry.RECIPES
    lines = [
        f"{spec.name:<16} {spec.input:<10} {spec.dim:>5} {_count(spec.parameters):>8}  {spec.about}"
        + (f"; {spec.repo}" if spec.repo else "")
        for spec in models
    ]
    lines += [f"recipe {name}: {' + '.join(names)}" for name, names in recipes.items()]
    value = {"models": [asdict(spec) for spec in models], "recipes": recipes}
    return Outcome(value, lines).show(as_json=given.json)


def _count(parameters: int) -> str:
    """Write a number of parameters: 240 k, 650 M, 15.1 B."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if parameters >= size:
            return f"{parameters / size:.{1 if unit == 'B' else 0}f} {unit}"
    return f"{parameters / 1e3:.0f} k"
