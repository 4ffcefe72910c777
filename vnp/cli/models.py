"""``vnp models``: list the models, or add one to a store."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from store.errors import UsageError
from store.open import open_store
from store.schema import Model
from vnp.cli.output import print_json, print_lines
from vnp.models import registry


def run(options: argparse.Namespace) -> int:
    """List, or add."""
    if (options.add is None) != (options.store is None):
        raise UsageError("to add a model give both: vnp models --add NAME STORE")
    if options.add is not None:
        spec = registry.model(options.add)
        store = open_store(options.store)
        store.add_model(Model(spec.name, spec.dim))
        if options.json:
            print_json({"store": str(store.path), "added": spec.name, "rows": store.n_rows})
        else:
            print_lines([f"added {spec.name} to {store.path}: {store.n_rows:,} rows to embed"])
        return 0
    if options.json:
        print_json(
            {
                "models": [asdict(spec) for spec in registry.MODELS.values()],
                "recipes": registry.RECIPES,
            }
        )
        return 0
    print_lines(
        f"{spec.name:<16} {spec.input:<10} {spec.dim:>5} {_count(spec.parameters):>8}  {spec.about}"
        + (f"; {spec.repo}" if spec.repo else "")
        for spec in registry.MODELS.values()
    )
    print_lines(f"recipe {name}: {' + '.join(names)}" for name, names in registry.RECIPES.items())
    return 0


def _count(parameters: int) -> str:
    """Write a number of parameters: 240 k, 650 M, 15.1 B."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if parameters >= size:
            return f"{parameters / size:.{1 if unit == 'B' else 0}f} {unit}"
    return f"{parameters / 1e3:.0f} k"
