"""``vnp export``: write chosen rows as a file of another kind."""

from __future__ import annotations

import argparse

from store.open import open_store
from vnp.cli.output import print_json, print_lines, say
from vnp.exchange.export import export_store


def run(options: argparse.Namespace) -> int:
    """Write the file."""
    report = export_store(
        open_store(options.store),
        options.to,
        samples=tuple(options.sample or ()),
        models=tuple(options.model or ()),
        incomplete=options.incomplete,
        ids=options.ids,
        dtype=options.dtype,
        layout=options.layout,
        sequences=options.sequences,
        force=options.force,
    )
    if report.left_out:
        say(f"{report.left_out:,} rows are not certified and were left out")
    if report.qualified:
        say("there are several samples: ids are written as <sample>:<id>")
    if report.escaped:
        say(f"{report.escaped:,} ids hold '/' or '%': percent-encoded, '/' is %2F and '%' is %25")
    if options.json:
        print_json(report.to_json())
    else:
        names = f" and {report.rows_file}" if report.rows_file else ""
        print_lines(
            [
                f"wrote {report.path}{names}: {report.rows:,} rows x {report.columns:,} "
                f"{report.dtype} ({' + '.join(report.models)})"
            ]
        )
    return 0
