"""``vnp report``: one page that shows what a store holds."""

from __future__ import annotations

import argparse

from store.io.replace import write_whole
from store.open import open_store
from vnp.cli.output import print_json, print_lines
from vnp.report import multiqc
from vnp.report.calls import classifier_scores, saved_scores
from vnp.report.collect import collect, default_output
from vnp.report.page import page


def run(options: argparse.Namespace) -> int:
    """Collect, and write the page."""
    store = open_store(options.store)
    scores = (
        saved_scores(store, options.scores)
        if options.classifier is None
        else classifier_scores(store, options.classifier, device=options.device)
    )
    data = collect(store, title=options.title, scores=scores, umap=not options.no_umap)
    output = options.output or default_output(store.path)
    output.parent.mkdir(parents=True, exist_ok=True)
    written = [output]
    write_whole(output, page(data).encode())
    if options.multiqc:
        where = multiqc.paths(output)
        for name, content in multiqc.texts(data).items():
            write_whole(where[name], content.encode())
            written.append(where[name])
    if options.json:
        files = {str(path): path.stat().st_size for path in written}
        print_json({"store": str(store.path), "files": files, "complete": data.complete})
    else:
        print_lines(f"wrote {path} ({path.stat().st_size / 1e3:,.0f} kB)" for path in written)
    return 0
