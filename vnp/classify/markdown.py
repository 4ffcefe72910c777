"""The card of a trained classifier for people: what it is, its data, how well it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from store.io.replace import write_whole
from store.io.words import count
from vnp.classify.files import Card
from vnp.classify.metrics import rounded

METRICS = {
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


def write_markdown(card: Card, path: Path) -> None:
    """Write the card of the trained classifier ``path`` for people, beside it as ``NAME.md``."""
    write_whole(path.with_suffix(".md"), ("\n\n".join(_markdown(card, path.stem)) + "\n").encode())


def _markdown(card: Card, name: str) -> Iterator[str]:
    """Yield the paragraphs."""
    training: dict[str, Any] = dict(card.training)
    split, metrics = training["split"], training["metrics"]
    yield f"# {name}"
    yield f"Tells viral from other reading frames by their embeddings. {_form(card)}"
    facts = [
        f"- features: {' + '.join(f'{model} ({dim})' for model, dim in card.models)}",
        f"- segments: {card.segment_length} bp",
        f"- genetic code: {card.genetic_code}",
        f"- weights: `{card.digest}`",
        f"- made {training['made']} with vnp {training['vnp']}, torch {training['torch']}, on "
        f"{training['device']}",
        "- settings: "
        + ", ".join(f"{name} {value}" for name, value in training["schedule"].items()),
    ]
    if any(model.startswith("demo_") for model, _ in card.models):
        facts.append("- **the demo models are random: this classifier means nothing**")
    yield "\n".join(facts)
    yield "## Data"
    division = [f"Divided by {split['by']}, seed {training['schedule']['seed']}."]
    if split["by"] == "random":
        division.append(
            "Overlapping segments of one contig are on both sides, as in the published training: "
            "the metrics below are too good."
        )
    if split["stretched"]:
        division.append(
            f"The class {' and '.join(split['stretched'])} has too few contigs to hold whole ones "
            "out: stretches were held out, less "
            f"{count(split['left_out_at_boundaries'], 'record')} next to a boundary. Stretches "
            "of one genome resemble each other."
        )
    if split["left_out_as_repeated"]:
        division.append(
            f"Left out as repeats of training records: "
            f"{count(split['left_out_as_repeated'], 'record')}."
        )
    yield "\n".join(division)
    records = [
        f"| {part.replace('_', '-')} | {counts['virus']:,} | {counts['others']:,} |"
        for part, counts in training["records"].items()
        if sum(counts.values())
    ]
    yield "\n".join(["| | virus | others |", "|---|---|---|", *records])
    yield "## How well it did"
    yield _table({part.replace("_", "-"): of_part for part, of_part in metrics.items()})
    if card.kind == "mlp":
        yield (
            f"Best of {count(len(training['history']), 'epoch')}: {training['best_epoch']}. The "
            "held-out records chose it, so their metrics are a little too good; those of test "
            "records, where there are some, are not."
        )
    else:
        yield "Held-out and test records had no part in the training."
    if (cross := training["cross_validation"]) is not None:
        yield f"## {cross['folds']}-fold cross-validation by {cross['by']}"
        yield (
            f"No {cross['by']} is in two folds, nor a group that the table of labels names. Each "
            "fold was scored by a classifier of the same kind and settings, trained without it; "
            "the classifier of this card is another one."
        )
        columns = {f"{at}": metrics for at, metrics in enumerate(cross["metrics"], start=1)}
        records = sum(metrics["records"] for metrics in cross["metrics"])
        yield _table({**columns, "mean": {"records": records, **cross["mean"]}})


def _table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Records and metrics as a table with a column for each part."""
    sizes = [metrics["records"] for metrics in columns.values()]
    rows = [["", *columns], ["Records", *(f"{size:,}" for size in sizes)]]
    for key, label in METRICS.items():
        values = [metrics[key] for metrics in columns.values()]
        pairs = zip(values, sizes, strict=True)
        rows.append([label, *("-" if each is None else rounded(each, n) for each, n in pairs)])
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def _form(card: Card) -> str:
    if card.kind == "mlp":
        return (
            f"{card.inputs} -> {card.hidden} -> 2: linear, batch norm, ReLU, dropout, linear, "
            "softmax (VirNucPro's classifier)."
        )
    if card.kind == "logistic":
        return f"Logistic regression on {card.inputs} numbers, standardised (scikit-learn)."
    return f"Histogram-based gradient boosting on {card.inputs} numbers (scikit-learn)."
