"""``vnp train``: train a classifier on labelled samples of a store."""

from __future__ import annotations

import argparse

from store.open import open_store
from vnp.classify.fit import Schedule
from vnp.classify.train import TrainReport, TrainSettings, train
from vnp.cli.main import DONE, INCOMPLETE
from vnp.cli.output import print_json, print_lines, say
from vnp.inference.device import place


def run(options: argparse.Namespace) -> int:
    """Train, write the classifier, tell how well it does."""
    settings = TrainSettings(
        models=tuple(options.models or ()),
        split=options.split,
        held_out=options.held_out,
        test=options.test,
        schedule=Schedule(
            learning_rate=options.learning_rate,
            batch=options.batch,
            epochs=options.epochs,
            patience=options.patience,
            seed=options.seed,
        ),
    )
    report = train(
        open_store(options.store),
        options.labels,
        options.output,
        settings=settings,
        device=place(options.device, precision="float32", threads=None, warn=say).device,
    )
    if options.json:
        print_json(report.to_json())
    else:
        print_lines(_lines(report))
    return INCOMPLETE if report.uncertified else DONE


def _lines(report: TrainReport) -> list[str]:
    training = report.card.training
    lines = [
        f"wrote {report.path}: best of {len(training['history'])} epochs is "
        f"{training['best_epoch']}; its cards are {report.path.stem}.json and "
        f"{report.path.stem}.md"
    ]
    for part, metrics in training["metrics"].items():
        texts = [
            f"{name} {metrics[name]:.4f}"
            for name in ("accuracy", "precision", "recall", "f1", "auroc", "auprc", "ece")
            if metrics[name] is not None
        ]
        records = f"{metrics['records']:,} records"
        lines.append(f"  {part.replace('_', '-')} ({records}): {', '.join(texts)}")
    return lines
