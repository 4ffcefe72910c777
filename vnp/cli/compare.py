"""``vnp compare``: how far a store's embeddings lie from another's."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from vnp.cli import options
from vnp.cli.output import print_json, print_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    parser.add_argument(
        "other", metavar="OTHER", nargs="+", type=Path, help="another store, or VirNucPro's files"
    )
    parser.add_argument(
        "--sample", metavar="NAME", help="compare only this sample (of STORE, with .pt files)"
    )
    parser.add_argument(
        "--model", action="append", metavar="NAME", help="compare only this model (repeatable)"
    )
    parser.add_argument(
        "--min-cosine",
        type=_cosine,
        metavar="X",
        help="exit with 1 if a row's cosine similarity is lower",
    )
    parser.add_argument(
        "--worst", type=options.positive, default=5, metavar="N", help="rows to name (default 5)"
    )
    options.json_flag(parser)


def run(given: argparse.Namespace) -> int:
    """Compare; exit with 1 if a row agrees less than asked for."""
    from store.io.words import count
    from store.open import open_store
    from vnp.exchange.compare import compare

    results = compare(
        open_store(given.store),
        given.other,
        sample=given.sample,
        models=tuple(given.model or ()),
        worst=given.worst,
    )
    least = given.min_cosine
    low = [result.model for result in results if least is not None and result.lowest < least]
    if given.json:
        print_json({"models": [asdict(result) for result in results], "below": low})
        return 1 if low else 0
    for result in results:
        lines = [
            f"{result.model}: {count(result.rows, 'row')} compared, "
            f"lowest cosine {result.lowest:.6f}, median {result.median:.6f}, "
            f"largest difference {result.difference:.4g}"
        ]
        if result.only_here or result.only_there:
            lines.append(
                f"  not compared: {count(result.only_here, 'row')} only in the store, "
                f"{result.only_there:,} only on the other side"
            )
        lines += [
            f"  row {row.row} ({row.sample}, {row.id}): cosine {row.cosine:.6f}, "
            f"difference {row.difference:.4g}"
            for row in result.worst
        ]
        print_lines(lines)
    if low:
        print_lines([f"below {least}: {', '.join(low)}"])
    return 1 if low else 0


def _cosine(text: str) -> float:
    value = float(text)
    if not -1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a cosine: it lies between -1 and 1")
    return value
