"""The model card for people: what a classifier is, what it learned from, and how well it did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vnp.classify.files import Card, write_whole

_METRICS = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "log_loss": "Log loss",
}


def write_card_markdown(card: Card, path: Path) -> Path:
    """Write the card of the classifier ``path`` beside it, as ``NAME.md``."""
    target = path.with_suffix(".md")
    write_whole(target, ("\n".join(_lines(card, path.stem)) + "\n").encode())
    return target


def _lines(card: Card, name: str) -> Iterator[str]:
    training: dict[str, Any] = dict(card.training)
    bands = " + ".join(f"{model} ({dim})" for model, dim in card.models)
    yield f"# {name}"
    yield ""
    yield (
        "Tells viral from other reading frames by their embeddings. "
        f"{card.inputs} -> {card.hidden} -> 2: linear, batch norm, ReLU, dropout, linear, softmax "
        "(VirNucPro's classifier)."
    )
    yield ""
    yield f"- features: {bands}"
    yield f"- segments: {card.segment_length} bp"
    yield f"- weights: `{card.digest}`"
    yield (
        f"- made {training['made']} with vnp {training['vnp']}, torch {training['torch']}, on "
        f"{training['device']}"
    )
    if any(model.startswith("demo_") for model, _ in card.models):
        yield "- **the demo models are random: this classifier means nothing**"
    yield ""
    yield "## Data"
    yield ""
    split = training["split"]
    yield f"Divided by {split['by']}, seed {training['schedule']['seed']}."
    if split["by"] == "random":
        yield (
            "Overlapping segments of one contig are on both sides, as in the published training: "
            "the metrics below are too good."
        )
    if split["stretched"]:
        yield (
            f"The class {' and '.join(split['stretched'])} has too few contigs to hold whole ones "
            f"out: stretches were held out, less {split['left_out_at_boundaries']} records next "
            "to a boundary. Stretches of one genome resemble each other."
        )
    if split["left_out_as_repeated"]:
        yield (
            f"{split['left_out_as_repeated']} records with the sequences of training records were "
            "left out."
        )
    yield ""
    yield "| | virus | others |"
    yield "|---|---|---|"
    for part, counts in training["records"].items():
        if sum(counts.values()):
            yield f"| {part.replace('_', '-')} | {counts['virus']:,} | {counts['others']:,} |"
    yield ""
    yield "## How well it did"
    yield ""
    parts = list(training["metrics"])
    yield "| | " + " | ".join(part.replace("_", "-") for part in parts) + " |"
    yield "|---" * (len(parts) + 1) + "|"
    for key, label in _METRICS.items():
        values = [training["metrics"][part][key] for part in parts]
        yield (
            f"| {label} | "
            + " | ".join("-" if value is None else f"{value:.4f}" for value in values)
            + " |"
        )
    yield ""
    yield (
        f"Best of {len(training['history'])} epochs: {training['best_epoch']}. The held-out "
        "records chose it, so their metrics are a little too good; those of test records, where "
        "there are some, are not."
    )
