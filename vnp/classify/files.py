"""Classifier files: published ``.pth`` in, safetensors with a JSON card in and out.

The native form is ``NAME.safetensors`` with the tensors under their published names, and beside it
``NAME.json``, the card: what the inputs are, where the classifier comes from, how it was trained
and how well it did. The card carries the hash of the tensors, so the two cannot be mixed up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from store.errors import UsageError
from vnp.classify.errors import ClassifierError
from vnp.classify.mlp import CLASSES, Mlp, from_tensors
from vnp.classify.pickled import read_pickled
from vnp.models.weights import digest

FORMAT = "vnp-classifier-1"
_EPS = 1e-5  # of a torch batch norm unless the file says otherwise
_COUNTER = "bn1.num_batches_tracked"  # not in old files, and not needed to apply it


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about a classifier."""

    inputs: int  # width of a feature row
    hidden: int  # width of the hidden layer
    digest: str  # hash of the tensors, ``sha256:...``
    eps: float = _EPS  # of the batch norm
    models: tuple[tuple[str, int], ...] = ()  # name and width of each band of a row; () if unknown
    segment_length: int | None = None  # bases per window it was trained on; None if unknown
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
    """Read a classifier: a published ``.pth`` or the native form, told apart by content.

    Raises
    ------
    ClassifierError
        If it is no classifier of this form; `UnsafeClassifierError` if it names other things.
    """
    if not path.is_file():
        raise ClassifierError(f"{path} is no file; give a published .pth or a .safetensors file")
    if _is_safetensors(path):
        tensors = _read_safetensors(path)
        card = _read_card(path)
        eps = card.eps if card is not None else _EPS
    else:
        tensors, norm = read_pickled(path)
        card, eps = None, norm.get("eps", _EPS)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise ClassifierError(f"{path}: the batch norm's eps is {eps!r}, no small number")
    module = from_tensors(_checked(tensors, path), eps=eps)
    found = digest(_tensors_of(module))
    if card is None:
        card = Card(module.inputs, module.hidden, found, eps=eps, source=path.name)
    elif card.digest != found:
        raise ClassifierError(
            f"{card_path(path)} belongs to other weights than {path.name} holds (their hash is "
            f"{found[:19]}..., the card says {card.digest[:19]}...)"
        )
    return Classifier(module, card, path)


def save_classifier(module: Mlp, card: Card, path: Path) -> Card:
    """Write the native form: the tensors to ``path``, the card beside it; return the card.

    Each file appears whole or not at all. The card's hash and widths are set here.

    Raises
    ------
    UsageError
        If ``path`` does not end in ``.safetensors``.
    """
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: the name of a classifier file must end in .safetensors")
    tensors = _tensors_of(module)
    card = Card(
        module.inputs,
        module.hidden,
        digest(tensors),
        eps=module.bn1.eps,
        models=card.models,
        segment_length=card.segment_length,
        source=card.source,
        training=card.training,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The card first: weights under the name never stand beside a missing card.
    text = json.dumps(card.to_json(), indent=1) + "\n"
    write_whole(card_path(path), text.encode())
    write_whole(path, save(tensors, metadata={"format": FORMAT}))
    return card


def card_path(path: Path) -> Path:
    """Where the card of a native file lies."""
    return path.with_suffix(".json")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and give it its own when it is safe on disk."""
    part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _tensors_of(module: Mlp) -> dict[str, Tensor]:
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in module.state_dict().items()
        if name != _COUNTER
    }


def _checked(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Hold tensors to the form of the classifier; return them in float32."""
    weight = tensors.get("hidden_layer.weight")
    if weight is None or weight.dim() != 2 or 0 in weight.shape:
        raise ClassifierError(
            f"{path} has no matrix hidden_layer.weight: it is no classifier of VirNucPro's form"
        )
    hidden, inputs = weight.shape
    shapes: dict[str, tuple[int, ...]] = {
        "hidden_layer.weight": (hidden, inputs),
        "hidden_layer.bias": (hidden,),
        "bn1.weight": (hidden,),
        "bn1.bias": (hidden,),
        "bn1.running_mean": (hidden,),
        "bn1.running_var": (hidden,),
        "output_layer.weight": (len(CLASSES), hidden),
        "output_layer.bias": (len(CLASSES),),
    }
    unknown = sorted(tensors.keys() - shapes.keys() - {_COUNTER})
    if unknown:
        raise ClassifierError(f"{path} has a tensor {unknown[0]}, which this form does not have")
    checked: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ClassifierError(f"{path} lacks the tensor {name}")
        if tuple(tensor.shape) != shape:
            raise ClassifierError(
                f"{path}: the tensor {name} has the shape {tuple(tensor.shape)}, not {shape}"
            )
        if not tensor.is_floating_point():
            raise ClassifierError(f"{path}: the tensor {name} holds {tensor.dtype}, not numbers")
        if not torch.isfinite(tensor).all():
            raise ClassifierError(f"{path}: the tensor {name} holds NaN or infinity")
        checked[name] = tensor.float().contiguous()
    return {**checked, _COUNTER: torch.zeros((), dtype=torch.int64)}


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
        raise ClassifierError(f"{card} is damaged: it is no JSON ({error})") from None
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
            source=str(value["source"]),
            training=dict(value["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClassifierError(f"{card} is no card of a classifier: {error!r}") from None
