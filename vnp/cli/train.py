"""``vnp train``: train a classifier on labelled samples of a store."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnp.cli import options
from vnp.cli.exit_codes import DONE, INCOMPLETE
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.classify.train import TrainReport

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    file: dict[str, Any] = {"type": Path, "required": True}
    about = "table with a header: label (virus or others); sample, contig or record; maybe group"
    parser.add_argument("--labels", metavar="TSV", help=about, **file)
    about = "classifier to write, NAME.safetensors; its cards NAME.json and NAME.md go beside it"
    parser.add_argument("-o", "--output", metavar="FILE", help=about, **file)
    options.force(parser)
    options.feature_models(parser)
    parser.add_argument(
        "--split",
        choices=("contig", "sample", "random"),
        default="contig",
        help="what is held out as a whole: contigs (default), samples, or single records as "
        "published, which lets overlapping segments straddle",
    )
    shares: dict[str, Any] = {"type": options.share, "metavar": "SHARE"}
    about = "share of the records held out for early stopping and the metrics (default 0.1)"
    parser.add_argument("--held-out", default=0.1, help=about, **shares)
    about = "share of the records that only the final metrics see (default: none, as published)"
    parser.add_argument("--test", default=0.0, help=about, **shares)
    numbers: dict[str, Any] = {"type": options.positive}
    parser.add_argument("--epochs", default=200, help="at most (default 200)", **numbers)
    about = "epochs without a lower held-out loss before it stops (default 5)"
    parser.add_argument("--patience", default=5, help=about, **numbers)
    parser.add_argument("--batch", default=32, help="rows a step (default 32)", **numbers)
    parser.add_argument(
        "--learning-rate",
        type=options.positive_float,
        default=2e-4,
        metavar="RATE",
        help="default 2e-4",
    )
    parser.add_argument("--seed", type=int, default=42, help="of everything random (default 42)")
    options.classifier_device(parser)


def run(given: argparse.Namespace) -> int:
    """Train, write the classifier, tell how well it does."""
    from store.open import open_store
    from vnp.classify.fit import Schedule
    from vnp.classify.train import TrainSettings, train
    from vnp.inference.device import place

    settings = TrainSettings(
        models=tuple(given.models),
        split=given.split,
        held_out=given.held_out,
        test=given.test,
        schedule=Schedule(
            learning_rate=given.learning_rate,
            batch=given.batch,
            epochs=given.epochs,
            patience=given.patience,
            seed=given.seed,
        ),
    )
    report = train(
        open_store(given.store),
        given.labels,
        given.output,
        settings=settings,
        force=given.force,
        device=place(given.device, precision="float32", threads=None, warn=log.warning).device,
    )
    code = INCOMPLETE if report.uncertified else DONE
    return Outcome(report.to_json(), _lines(report), code).show(as_json=given.json)


def _lines(report: TrainReport) -> list[str]:
    from store.io.words import count

    training = report.card.training
    stem = report.path.stem
    lines = [
        f"wrote {report.path}: best of {count(len(training['history']), 'epoch')} is "
        f"{training['best_epoch']}; its cards are {stem}.json and {stem}.md"
    ]
    for part, metrics in training["metrics"].items():
        texts = [
            f"{name} {metrics[name]:.4f}"
            for name in ("accuracy", "precision", "recall", "f1", "auroc", "auprc", "ece")
            if metrics[name] is not None
        ]
        records = count(metrics["records"], "record")
        lines.append(f"  {part.replace('_', '-')} ({records}): {', '.join(texts)}")
    return lines
