"""Classifier files: published ``.pth`` in, safetensors with a JSON card in and out.

The native form is ``NAME.safetensors`` with the tensors under their published names, and beside it
``NAME.json``, the card: what the inputs are, where the classifier comes from, how it was trained
and how well it did. The card carries the hash of the tensors, so the two cannot be mixed up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from store.errors import UsageError
from store.io.replace import write_whole
from store.io.words import count
from store.schema import STANDARD_CODE
from vnp.classify.mlp import CLASSES, EPS, ClassifierError, Mlp, from_tensors
from vnp.classify.pickled import read_pickled
from vnp.models.weights import digest

FORMAT = "vnp-classifier-1"
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


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about a classifier."""

    inputs: int  # width of a feature row
    hidden: int  # width of the hidden layer
    digest: str  # hash of the tensors, ``sha256:...``
    eps: float = EPS  # of the batch norm
    models: tuple[tuple[str, int], ...] = ()  # name and width of each band of a row; () if unknown
    segment_length: int | None = None  # bases per window it was trained on; None if unknown
    genetic_code: int = STANDARD_CODE  # of its records; that of VirNucPro for published files
    source: str = ""  # file it was converted from, or "vnp train"
    training: Mapping[str, Any] = field(default_factory=dict)  # settings, data, metrics

    def to_json(self) -> dict[str, Any]:
        """Return the card as a JSON object."""
        value = asdict(self)
        value["models"] = [{"name": name, "dim": dim} for name, dim in self.models]
        return {"format": FORMAT, "classes": list(CLASSES), **value}


@dataclass(frozen=True, slots=True)
class Classifier:
    """A classifier ready to be applied."""

    module: Mlp  # in eval mode, float32, on the CPU
    card: Card
    path: Path  # the file it was read from


def load_classifier(path: Path) -> Classifier:
    """Read a classifier: a published ``.pth`` or the native form, recognised by content.

    `ClassifierError` if it is not of this form; `UnsafeClassifierError` if it names other things.
    """
    if not path.is_file():
        raise ClassifierError(f"{path} is not a file; give a published .pth or a .safetensors file")
    card: Card | None = None
    if _is_safetensors(path):
        tensors, card = _read_safetensors(path), _read_card(path)
        eps: object = card.eps if card is not None else EPS
    else:
        tensors, eps = read_pickled(path)
    module = from_tensors(tensors, eps=eps, source=path)
    found = digest(module.tensors())
    if card is None:
        card = Card(module.inputs, module.hidden, found, eps=module.bn1.eps, source=path.name)
    elif card.digest != found:
        raise ClassifierError(
            f"{card_path(path)} belongs to other weights than {path.name} holds (their hash is "
            f"{found[:19]}..., the card says {card.digest[:19]}...)"
        )
    return Classifier(module, card, path)


def save_classifier(module: Mlp, card: Card, path: Path) -> Card:
    """Write the native form: the tensors to ``path``, the card beside it; return the card.

    Each file appears whole or not at all. The card's hash and widths are set here. `UsageError` if
    ``path`` does not end in ``.safetensors``.
    """
    check_name(path)
    tensors = module.tensors()
    card = replace(
        card,
        inputs=module.inputs,
        hidden=module.hidden,
        digest=digest(tensors),
        eps=module.bn1.eps,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The card first: no weights are ever under the name without their card.
    write_whole(card_path(path), (json.dumps(card.to_json(), indent=1) + "\n").encode())
    write_whole(path, save(tensors, metadata={"format": FORMAT}))
    return card


def write_markdown(card: Card, path: Path) -> None:
    """Write the card of the trained classifier ``path`` for people, beside it as ``NAME.md``."""
    write_whole(path.with_suffix(".md"), ("\n\n".join(_markdown(card, path.stem)) + "\n").encode())


def check_name(path: Path) -> None:
    """Refuse a name that does not end in ``.safetensors``, at best before hours of work."""
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: the name of a classifier file must end in .safetensors")


def card_path(path: Path) -> Path:
    """Where the card of a native file lies."""
    return path.with_suffix(".json")


def _is_safetensors(path: Path) -> bool:
    """A safetensors file begins with the length of its JSON header and ``{``."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ClassifierError(f"{path} cannot be read as safetensors ({error})") from None


def _read_card(path: Path) -> Card | None:
    """Read the card beside a native file; None where there is none."""
    card = card_path(path)
    try:
        value = json.loads(card.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ClassifierError(f"{card} is damaged: it is not JSON ({error})") from None
    try:
        if value["format"] != FORMAT:
            raise ClassifierError(f"{card} has the format {value['format']!r}, not {FORMAT}")
        length = value["segment_length"]
        return Card(
            inputs=int(value["inputs"]),
            hidden=int(value["hidden"]),
            digest=str(value["digest"]),
            eps=float(value["eps"]),
            models=tuple((str(band["name"]), int(band["dim"])) for band in value["models"]),
            segment_length=None if length is None else int(length),
            genetic_code=int(value.get("genetic_code", STANDARD_CODE)),  # older cards have none
            source=str(value["source"]),
            training=dict(value["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClassifierError(f"{card} is not the card of a classifier: {error!r}") from None


def _markdown(card: Card, name: str) -> Iterator[str]:
    """Yield the paragraphs."""
    training: dict[str, Any] = dict(card.training)
    split, metrics = training["split"], training["metrics"]
    yield f"# {name}"
    yield (
        "Tells viral from other reading frames by their embeddings. "
        f"{card.inputs} -> {card.hidden} -> 2: linear, batch norm, ReLU, dropout, linear, softmax "
        "(VirNucPro's classifier)."
    )
    facts = [
        f"- features: {' + '.join(f'{model} ({dim})' for model, dim in card.models)}",
        f"- segments: {card.segment_length} bp",
        f"- genetic code: {card.genetic_code}",
        f"- weights: `{card.digest}`",
        f"- made {training['made']} with vnp {training['vnp']}, torch {training['torch']}, on "
        f"{training['device']}",
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
    rows = [["", *(part.replace("_", "-") for part in metrics)]]
    for key, label in _METRICS.items():
        values = [of_part[key] for of_part in metrics.values()]
        rows.append([label, *("-" if value is None else f"{value:.4f}" for value in values)])
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    yield "\n".join([head, "|---" * len(rows[0]) + "|", *body])
    yield (
        f"Best of {count(len(training['history']), 'epoch')}: {training['best_epoch']}. The "
        "held-out records chose it, so their metrics are a little too good; those of test "
        "records, where "
        "there are some, are not."
    )
