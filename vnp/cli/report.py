"""``vnp report``: one page that shows what a store holds."""

from __future__ import annotations

import argparse

from store.open import open_store
from vnp.cli.output import print_json, print_lines
from vnp.report.calls import classifier_scores, saved_scores
from vnp.report.write import write_report


def run(options: argparse.Namespace) -> int:
    """Collect, and write the page."""
    store = open_store(options.store)
    scores = (
        saved_scores(store, options.scores)
        if options.classifier is None
        else classifier_scores(store, options.classifier, device=options.device)
    )
    result = write_report(
        store,
        options.output,
        title=options.title,
        scores=scores,
        umap=not options.no_umap,
        for_multiqc=options.multiqc,
    )
    if options.json:
        print_json(result.to_json())
    else:
        print_lines(f"wrote {path} ({path.stat().st_size / 1e3:,.0f} kB)" for path in result.files)
    return 0
