"""``vnp train``: train a classifier on labelled samples of a store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnp.cli import options
from vnp.cli.exit_codes import DONE, INCOMPLETE
from vnp.cli.output import Outcome

if TYPE_CHECKING:
    from vnp.classify.train import TrainReport


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
        "--classifier",
        choices=("mlp", "logistic", "hist-gradient-boosting"),
        default="mlp",
        help="what is trained: VirNucPro's network (default), or one of scikit-learn's, which need "
        "pip install 'vnp[train]'",
    )
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
    about = (
        "also cross-validate: train K times without a K-th of the contigs (or samples), score it"
    )
    parser.add_argument("--folds", type=options.folds, default=0, metavar="K", help=about)
    group = parser.add_argument_group("training of an mlp")
    numbers: dict[str, Any] = {"type": options.positive}
    group.add_argument("--epochs", help="at most (default 200)", **numbers)
    about = "epochs without a lower held-out loss before it stops (default 5)"
    group.add_argument("--patience", help=about, **numbers)
    group.add_argument("--batch", help="rows a step (default 32)", **numbers)
    rate: dict[str, Any] = {"type": options.positive_float, "metavar": "RATE"}
    group.add_argument("--learning-rate", help="default 2e-4", **rate)
    about = (
        "CPU threads (default: one for a small set, such as 10,000 records of 3,328 numbers, else "
        "up to 4 of those allowed)"
    )
    group.add_argument("--threads", metavar="N", help=about, type=options.allowed_threads)
    parser.add_argument("--seed", type=int, default=42, help="of everything random (default 42)")
    options.classifier_device(parser)


def run(given: argparse.Namespace) -> int:
    """Train, write the classifier, tell how well it does."""
    from vnp.api import train

    report = train(
        given.store,
        given.labels,
        given.output,
        classifier=given.classifier,
        models=given.models,
        split=given.split,
        held_out=given.held_out,
        test=given.test,
        folds=given.folds,
        epochs=given.epochs,
        patience=given.patience,
        batch=given.batch,
        learning_rate=given.learning_rate,
        threads=given.threads,
        seed=given.seed,
        device=given.device,
        force=given.force,
    )
    code = INCOMPLETE if report.uncertified else DONE
    return Outcome(report.to_json(), _lines(report), code).show(as_json=given.json)


def _lines(report: TrainReport) -> list[str]:
    from store.io.words import count

    training = report.card.training
    stem = report.path.stem
    how = training["classifier"]
    if training["best_epoch"] is not None:
        how = f"best epoch {training['best_epoch']} of {len(training['history'])}"
    lines = [f"wrote {report.path}: {how}; what it was made from is in {stem}.json and {stem}.md"]
    for part, metrics in training["metrics"].items():
        records = count(metrics["records"], "record")
        right = metrics["true_positives"] + metrics["true_negatives"]
        texts = _texts(metrics, metrics["records"])
        lines.append(f"  {part.replace('_', '-')} ({records}): {right:,} right, {texts}")
    if (cross := training["cross_validation"]) is not None:
        texts = _texts(cross["mean"], sum(metrics["records"] for metrics in cross["metrics"]))
        lines.append(f"  mean of {cross['folds']} folds by {cross['by']}: {texts}")
    return lines


def _texts(metrics: dict[str, Any], records: int) -> str:
    from vnp.classify.metrics import rounded

    names = ("accuracy", "precision", "recall", "f1", "auroc", "auprc", "ece")
    known = [(name, metrics[name]) for name in names if metrics[name] is not None]
    return ", ".join(f"{name} {rounded(value, records)}" for name, value in known)
