"""Classifier files: published ``.pth`` in, safetensors with a JSON card in and out.

The native form is ``NAME.safetensors`` with the tensors under their published names, and beside it
``NAME.json``, the card: what the inputs are, where the classifier comes from, how it was trained
and how well it did. The card carries the hash of the tensors, so the two cannot be mixed up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from store.errors import UsageError
from store.io.replace import write_whole
from store.location import require_local
from store.schema import STANDARD_CODE
from vnp.classify.estimators import Module, estimator_from_tensors, is_estimator
from vnp.classify.mlp import CLASSES, EPS, ClassifierError, Mlp, from_tensors
from vnp.classify.pickled import read_pickled
from vnp.models.weights import digest

FORMAT = "vnp-classifier-1"
_CARDS = (".json", ".md")  # beside the weights: for programs, and for people


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about a classifier."""

    inputs: int  # width of a feature row
    hidden: int  # width of the hidden layer; 0 where there is none
    digest: str  # hash of the tensors, ``sha256:...``
    eps: float = EPS  # of the batch norm, where there is one
    kind: str = Mlp.kind  # of classifier
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

    module: Module  # in eval mode, on the CPU
    card: Card
    path: Path  # the file it was read from


def load_classifier(path: Path) -> Classifier:
    """Read a classifier: a published ``.pth`` or the native form, recognised by content.

    `ClassifierError` if it is not of this form; `UnsafeClassifierError` if it names other things.
    """
    require_local(path)
    if not path.is_file():
        raise ClassifierError(f"{path} is not a file; give a published .pth or a .safetensors file")
    if path.suffix in _CARDS:
        raise ClassifierError(
            f"{path} is the card of a classifier, not its weights: name "
            f"{path.with_suffix('.safetensors')}"
        )
    card: Card | None = None
    if _is_safetensors(path):
        tensors, card = _read_safetensors(path), _read_card(path)
        eps: object = card.eps if card is not None else EPS
    else:
        tensors, eps = read_pickled(path)
    module: Module
    if is_estimator(tensors):
        module = estimator_from_tensors(tensors, source=path).eval()
    else:
        module = from_tensors(tensors, eps=eps, source=path)
    found = digest(module.tensors())
    if card is None:
        card = _described(module, Card(0, 0, found, source=path.name))
    elif card.digest != found:
        raise ClassifierError(
            f"{card_path(path)} belongs to other weights than {path.name} holds (their hash is "
            f"{found[:19]}..., the card says {card.digest[:19]}...)"
        )
    elif card.kind != module.kind:
        raise ClassifierError(
            f"{card_path(path)} says {card.kind}, and {path.name} holds {module.described}"
        )
    return Classifier(module, card, path)


def save_classifier(module: Module, card: Card, path: Path) -> Card:
    """Write the native form: the tensors to ``path``, the card beside it; return the card.

    Each file appears whole or not at all. The card's hash, kind and widths are set here.
    `UsageError` if ``path`` does not end in ``.safetensors``.
    """
    check_name(path)
    tensors = module.tensors()
    card = _described(module, replace(card, digest=digest(tensors)))
    path.parent.mkdir(parents=True, exist_ok=True)
    # The card first: no weights are ever under the name without their card.
    write_whole(card_path(path), (json.dumps(card.to_json(), indent=1) + "\n").encode())
    write_whole(path, save(tensors, metadata={"format": FORMAT}))
    return card


def _described(module: Module, card: Card) -> Card:
    """Card with what the module itself says."""
    eps = module.bn1.eps if isinstance(module, Mlp) else card.eps
    return replace(card, inputs=module.inputs, hidden=module.hidden, kind=module.kind, eps=eps)


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
            kind=str(value.get("kind", Mlp.kind)),  # older cards do not say
            models=tuple((str(band["name"]), int(band["dim"])) for band in value["models"]),
            segment_length=None if length is None else int(length),
            genetic_code=int(value.get("genetic_code", STANDARD_CODE)),  # older cards have none
            source=str(value["source"]),
            training=dict(value["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClassifierError(f"{card} is not the card of a classifier: {error!r}") from None
