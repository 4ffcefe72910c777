"""``vnp report``: one page that shows what a store holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from vnp.cli import options
from vnp.cli.output import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    about = "the page (default: beside the store, STORE.report.html)"
    parser.add_argument("-o", "--output", type=Path, metavar="HTML", help=about)
    options.force(parser, "the file named with -o, and those of --multiqc beside it, if they exist")
    parser.add_argument("--title", help="headline (default: the store's name)")
    scores = parser.add_mutually_exclusive_group()
    about = "scores to show that vnp predict --save kept (default: those saved last)"
    scores.add_argument("--scores", metavar="NAME", help=about)
    about = "score with this classifier for the page"
    scores.add_argument("--classifier", type=Path, metavar="FILE", help=about)
    options.classifier_device(parser)
    about = "leave out the UMAP, which pip install 'vnp[umap]' brings"
    parser.add_argument("--no-umap", action="store_true", help=about)
    about = "show the regions of this BED file on the tracks of contigs: known or planted ones"
    parser.add_argument("--regions", type=Path, metavar="BED", help=about)
    about = "also write *_mqc.json files for MultiQC beside it"
    parser.add_argument("--multiqc", action="store_true", help=about)


def run(given: argparse.Namespace) -> int:
    """Collect, and write the page."""
    from store.open import open_store
    from vnp.report.calls import classifier_scores, saved_scores
    from vnp.report.regions import read_regions
    from vnp.report.write import write_report

    regions = None if given.regions is None else read_regions(given.regions)
    store = open_store(given.store)
    inputs = [given.regions]
    if given.classifier is None:
        scores = saved_scores(store, given.scores)
    else:
        from vnp.classify.files import card_path

        inputs += [given.classifier, card_path(given.classifier)]
        scores = classifier_scores(store, given.classifier, device=given.device)
    result = write_report(
        store,
        given.output,
        title=given.title,
        scores=scores,
        umap=not given.no_umap,
        regions=regions,
        for_multiqc=given.multiqc,
        inputs=inputs,
        force=given.force,
    )
    lines = [f"wrote {path} ({path.stat().st_size / 1e3:,.0f} kB)" for path in result.files]
    return Outcome(result.to_json(), lines).show(as_json=given.json)
