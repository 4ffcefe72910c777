"""``vnp compare``: how far a store's embeddings lie from another's."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from vnp.cli import options
from vnp.cli.exit_codes import DATA_ERROR, DONE
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.exchange.compare import ModelComparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "another store, or VirNucPro's files"
    parser.add_argument("other", metavar="OTHER", nargs="+", type=options.place, help=about)
    about = "compare only this sample (of STORE, with .pt files)"
    parser.add_argument("--sample", metavar="NAME", help=about)
    options.names(parser, "--model", "compare only this model")
    about = "exit with 1 if a row's cosine similarity is lower, or one side has a row alone"
    parser.add_argument("--min-cosine", type=options.cosine, metavar="X", help=about)
    parser.add_argument(
        "--worst", type=options.positive, default=5, metavar="N", help="rows to name (default 5)"
    )


def run(given: argparse.Namespace) -> int:
    """Compare; exit with 1 if a row agrees less than asked for, or has nothing to agree with."""
    from store.open import open_store
    from vnp.exchange.compare import compare

    found = compare(
        open_store(given.store),
        given.other,
        sample=given.sample,
        models=tuple(given.model),
        worst=given.worst,
    )
    least = given.min_cosine
    low = [result.model for result in found.models if least is not None and result.lowest < least]
    lines = [line for result in found.models for line in _lines(result)]
    for what, side, names in (
        ("samples", "in the store", found.samples_only_here),
        ("samples", "on the other side", found.samples_only_there),
        ("models", "in the store", found.models_only_here),
        ("models", "on the other side", found.models_only_there),
    ):
        if names:
            lines.append(f"{what} only {side}: {', '.join(names)}")
    if low:
        lines.append(f"below {least}: {', '.join(low)}")
    failed = least is not None and (low or not found.complete)
    value = {**asdict(found), "complete": found.complete, "below": low}
    return Outcome(value, lines, DATA_ERROR if failed else DONE).show(as_json=given.json)


def _lines(result: ModelComparison) -> Iterator[str]:
    from store.io.words import count

    yield (
        f"{result.model}: {count(result.rows, 'row')} compared, "
        f"lowest cosine {result.lowest:.6f}, median {result.median:.6f}, "
        f"largest difference {result.difference:.4g}"
    )
    if result.only_here or result.only_there:
        yield (
            f"  not compared: {count(result.only_here, 'row')} only in the store, "
            f"{result.only_there:,} only on the other side"
        )
    for part in result.by_precision:
        yield (
            f"  {part.here} here, {part.there} there: {count(part.rows, 'row')}, lowest cosine "
            f"{part.lowest:.6f}, median {part.median:.6f}"
        )
    for row in result.worst:
        yield (
            f"  row {row.row} ({row.sample}, {row.id}): cosine {row.cosine:.6f}, "
            f"difference {row.difference:.4g}"
        )
