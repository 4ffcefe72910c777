"""``vnp embed``: fill and certify the whole store."""

from __future__ import annotations

import argparse

from vnp.cli.main import DATA_ERROR, DONE, INCOMPLETE, INTERRUPTED, USAGE_ERROR
from vnp.cli.output import print_json, print_lines, say
from vnp.embed.supervisor import available_devices, embed_store, summary


def run(options: argparse.Namespace) -> int:
    """Start workers, wait, certify."""
    passed_on = ["--precision", options.precision]
    if options.weights is not None:
        passed_on += ["--weights", str(options.weights)]
    if options.no_dedup:
        passed_on += ["--no-dedup"]
    if options.token_budget is not None:
        passed_on += ["--token-budget", str(options.token_budget)]
    report = embed_store(
        options.store,
        models=tuple(options.model or ()),
        devices=available_devices(options.device, options.workers),
        worker_options=tuple(passed_on),
        say=say,
    )
    if options.json:
        print_json(report.to_json())
    else:
        print_lines(summary(report))
    if report.complete:
        return DONE
    if report.interrupted:
        return INTERRUPTED
    return report.refused if report.refused in (DATA_ERROR, USAGE_ERROR) else INCOMPLETE
