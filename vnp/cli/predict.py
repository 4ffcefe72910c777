"""``vnp predict``: score the certified rows with a classifier."""

from __future__ import annotations

import argparse

from store.open import open_store
from vnp.classify.files import load_classifier
from vnp.classify.predict import Prediction, predict
from vnp.cli.main import DONE, INCOMPLETE
from vnp.cli.output import print_json, print_lines, say
from vnp.inference.device import place


def run(options: argparse.Namespace) -> int:
    """Score, write the tables, and keep the scores if asked to."""
    store = open_store(options.store)
    classifier = load_classifier(options.classifier)
    device = place(options.device, precision="float32", threads=None, warn=say).device
    result = predict(
        store,
        classifier,
        options.output,
        samples=options.sample or (),
        models=options.models or (),
        device=device,
        save=options.save,
        replace=options.replace,
    )
    if options.json:
        print_json(result.to_json())
    else:
        print_lines(_lines(result))
    if result.unscored:
        say(
            f"{result.unscored:,} records are not certified for every model and have no score; "
            "they are named in unscored.tsv of their samples: run 'vnp embed', then this again"
        )
        return INCOMPLETE
    return DONE


def _lines(result: Prediction) -> list[str]:
    lines = []
    for calls in result.samples:
        line = (
            f"{calls.sample}: {calls.viral_windows:,} of {calls.windows:,} segments are viral, "
            f"{calls.viral_contigs:,} of {calls.contigs:,} contigs in at least half of theirs"
        )
        if calls.mean_score is not None:
            line += f"; score mean {calls.mean_score:.3f}, best {calls.best_score:.3f}"
        if calls.unscored:
            line += f"; {calls.unscored:,} of {calls.records:,} records not scored"
        lines += [line, f"  {calls.folder}"]
    return lines
