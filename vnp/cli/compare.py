"""``vnp compare``: how far a store's embeddings lie from another's."""

from __future__ import annotations

import argparse

from store.open import open_store
from vnp.cli.output import print_json, print_lines
from vnp.exchange.compare import compare


def run(options: argparse.Namespace) -> int:
    """Compare; exit with 1 if a row agrees less than asked for."""
    results = compare(
        open_store(options.store),
        options.other,
        sample=options.sample,
        models=tuple(options.model or ()),
        worst=options.worst,
    )
    least = options.min_cosine
    low = [result.model for result in results if least is not None and result.lowest < least]
    if options.json:
        print_json({"models": [result.to_json() for result in results], "below": low})
        return 1 if low else 0
    for result in results:
        lines = [
            f"{result.model}: {result.rows:,} rows compared, lowest cosine {result.lowest:.6f}, "
            f"median {result.median:.6f}, largest difference {result.difference:.4g}"
        ]
        if result.only_here or result.only_there:
            lines.append(
                f"  not compared: {result.only_here:,} rows only in the store, "
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
