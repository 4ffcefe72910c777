"""VirNucPro's classifier: two linear layers with a batch norm between them.

3328 -> 512 -> 2 as published (Brief Bioinform 2025, bbaf224): linear, batch norm, ReLU, dropout of
one half, linear; the two outputs are softmaxed. Any other width of input works in the same way.
The attributes have the published names, so that published state dicts fit.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from store.errors import DataError

HIDDEN = 512
CLASSES = ("others", "virus")  # by class number; score1 is class 0's probability, score2 class 1's
DROPOUT = 0.5
EPS = 1e-5  # of a torch batch norm unless a file says otherwise
_COUNTER = "bn1.num_batches_tracked"  # not in old files, and not needed to apply it


class ClassifierError(DataError):
    """The file does not hold a classifier of VirNucPro's form, or is damaged: take another."""


class Mlp(nn.Module):
    """The classifier as a module: feature rows of width D = ``inputs`` to logits."""

    kind = "mlp"

    def __init__(self, inputs: int, *, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.hidden_layer = nn.Linear(inputs, hidden)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout(DROPOUT)
        self.output_layer = nn.Linear(hidden, len(CLASSES))
        nn.init.xavier_uniform_(self.hidden_layer.weight)
        nn.init.xavier_uniform_(self.output_layer.weight)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Return logits (B, 2) of features (B, D)."""
        x_BH = torch.relu(self.bn1(self.hidden_layer(x_BD)))
        logits: Tensor = self.output_layer(self.dropout(x_BH))
        return logits

    @torch.inference_mode()
    def probabilities(self, x_BD: Tensor) -> Tensor:
        """Return class probabilities (B, 2), float32, of features (B, D); for a module in eval."""
        assert not self.training
        return torch.softmax(self(x_BD), dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a classifier file holds: tensors by published name, on the CPU."""
        state = self.state_dict()
        del state[_COUNTER]
        return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

    @property
    def inputs(self) -> int:
        """Width D of a feature row."""
        return self.hidden_layer.in_features

    @property
    def hidden(self) -> int:
        """Width of the hidden layer."""
        return self.hidden_layer.out_features

    @property
    def described(self) -> str:
        """What it is, for people."""
        return f"{self.inputs} -> {self.hidden} -> {len(CLASSES)}"


def from_tensors(tensors: Mapping[str, Tensor], *, eps: object, source: object) -> Mlp:
    """Build a classifier, float32 and in eval mode, from the untrusted tensors of a file.

    `ClassifierError` if one is missing, unknown, of the wrong shape, or not of finite numbers.
    """
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise ClassifierError(f"{source}: the batch norm's eps is {eps!r}, not a small number")
    weight = tensors.get("hidden_layer.weight")
    if weight is None or weight.dim() != 2 or 0 in weight.shape:
        raise ClassifierError(
            f"{source} has no matrix hidden_layer.weight: it is not a classifier of VirNucPro's "
            "form"
        )
    hidden, inputs = weight.shape
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in Mlp(inputs, hidden=hidden).state_dict().items()}
    del shapes[_COUNTER]
    unknown = sorted(tensors.keys() - shapes.keys() - {_COUNTER})
    if unknown:
        raise ClassifierError(f"{source} has a tensor {unknown[0]}, which this form does not have")
    state = {_COUNTER: torch.zeros((), dtype=torch.int64)}
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise ClassifierError(f"{source} lacks the tensor {name}")
        if tensor.shape != shape:
            raise ClassifierError(
                f"{source}: the tensor {name} has the shape {tuple(tensor.shape)}, not "
                f"{tuple(shape)}"
            )
        if not tensor.is_floating_point():
            raise ClassifierError(f"{source}: the tensor {name} holds {tensor.dtype}, not numbers")
        if not torch.isfinite(tensor).all():
            raise ClassifierError(f"{source}: the tensor {name} holds NaN or infinity")
        state[name] = tensor.float().contiguous()
    module = Mlp(inputs, hidden=hidden)
    module.bn1.eps = eps
    module.load_state_dict(state)
    return module.eval()
