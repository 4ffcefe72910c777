"""scikit-learn's classifiers as modules of ours, whose files are tensors and nothing else.

Logistic regression
    ``logistic.weight`` (1, D) and ``logistic.bias`` (1,), float64, with the scaling of the features
    folded in: w / s and b - sum(w m / s) for means m and standard deviations s.
Histogram-based gradient boosting
    ``trees.*``: the nodes of T trees, each padded to the size M of the largest, (T, M), and
    ``trees.baseline`` (1,). A row goes left where its feature is at most the threshold, or missing
    and ``missing_left``; a leaf points to itself. The log-odds of virus are the baseline and the
    values of the leaves, added up.

Both compute in float64, as scikit-learn does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from vnp.classify.mlp import ClassifierError, Mlp

_MOST_CELLS = 1 << 22  # rows times trees walked at a time, 32 MiB a number of each
_MOST_NODES = 1 << 16  # of a tree that a file may hold
_LOGISTIC = ("logistic.weight", "logistic.bias")
_INTEGERS = ("feature", "left", "right")
_TREES = (*_INTEGERS, "threshold", "missing_left", "value")


class Logistic(nn.Module):
    """Logistic regression: feature rows of width D = ``inputs`` to class probabilities."""

    kind = "logistic"
    weight: Tensor
    bias: Tensor

    def __init__(self, weight_1D: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight_1D)
        self.register_buffer("bias", bias)

    @torch.inference_mode()
    def probabilities(self, x_BD: Tensor) -> Tensor:
        """Return class probabilities (B, 2), float32, of features (B, D)."""
        return _probabilities(self.log_odds(x_BD))

    @torch.inference_mode()
    def log_odds(self, x_BD: Tensor) -> Tensor:
        """Return the log-odds of virus (B,), float64, of features (B, D)."""
        return x_BD.double() @ self.weight[0] + self.bias

    def tensors(self) -> dict[str, Tensor]:
        """Return what a classifier file holds, on the CPU."""
        return {f"logistic.{name}": tensor.cpu() for name, tensor in self.state_dict().items()}

    @property
    def inputs(self) -> int:
        """Width D of a feature row."""
        return self.weight.shape[1]

    @property
    def hidden(self) -> int:
        """Width of the hidden layer: there is none."""
        return 0

    @property
    def described(self) -> str:
        """What it is, for people."""
        return f"logistic regression on {self.inputs} numbers"


class Trees(nn.Module):
    """Boosted trees: feature rows of width D = ``inputs`` to class probabilities.

    ``nodes`` are the tensors (T, M) that the module's description names, ``baseline`` is (1,).
    """

    kind = "hist-gradient-boosting"
    baseline: Tensor

    def __init__(self, nodes: Mapping[str, Tensor], baseline: Tensor, *, inputs: int) -> None:
        super().__init__()
        for name in _TREES:
            self.register_buffer(name, nodes[name])
        self.register_buffer("baseline", baseline)
        self._inputs = inputs
        self._depth = _depth(nodes["left"], nodes["right"])

    @torch.inference_mode()
    def probabilities(self, x_BD: Tensor) -> Tensor:
        """Return class probabilities (B, 2), float32, of features (B, D)."""
        return _probabilities(self.log_odds(x_BD))

    @torch.inference_mode()
    def log_odds(self, x_BD: Tensor) -> Tensor:
        """Return the log-odds of virus (B,), float64, of features (B, D)."""
        rows = max(_MOST_CELLS // len(self.get_buffer("left")), 1)
        odds = [self._walked(x_BD[at : at + rows].double()) for at in range(0, len(x_BD), rows)]
        return torch.cat(odds) if odds else x_BD.new_empty(0).double()

    def _walked(self, x_BD: Tensor) -> Tensor:
        nodes = {name: self.get_buffer(name).reshape(-1) for name in _TREES}
        trees, size = self.get_buffer("left").shape
        first_T = torch.arange(trees, device=x_BD.device) * size
        at_BT = first_T.expand(len(x_BD), trees)
        for _ in range(self._depth):
            x_BT = x_BD.gather(1, nodes["feature"][at_BT])
            is_left = torch.where(
                x_BT.isnan(), nodes["missing_left"][at_BT], x_BT <= nodes["threshold"][at_BT]
            )
            at_BT = first_T + torch.where(is_left, nodes["left"][at_BT], nodes["right"][at_BT])
        odds: Tensor = self.baseline + nodes["value"][at_BT].sum(dim=1)
        return odds

    def tensors(self) -> dict[str, Tensor]:
        """Return what a classifier file holds, on the CPU."""
        found = {f"trees.{name}": tensor.cpu() for name, tensor in self.state_dict().items()}
        return {**found, "trees.inputs": torch.tensor([self._inputs])}

    @property
    def inputs(self) -> int:
        """Width D of a feature row."""
        return self._inputs

    @property
    def hidden(self) -> int:
        """Width of the hidden layer: there is none."""
        return 0

    @property
    def described(self) -> str:
        """What it is, for people."""
        return f"{len(self.get_buffer('left'))} boosted trees on {self.inputs} numbers"


Module: TypeAlias = Mlp | Logistic | Trees  # every classifier that there is


def is_estimator(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are called like those of one of these classifiers."""
    return any(name.startswith(("logistic.", "trees.")) for name in tensors)


def estimator_from_tensors(tensors: Mapping[str, Tensor], *, source: object) -> Logistic | Trees:
    """Build a classifier from the untrusted tensors of a file.

    `ClassifierError` if one is missing, unknown, of the wrong shape or type, holds a number that
    cannot be, or if a tree is not one.
    """
    if any(name.startswith("logistic.") for name in tensors):
        _require(tensors, _LOGISTIC, source)
        weight, bias = (tensors[name] for name in _LOGISTIC)
        if weight.dim() != 2 or len(weight) != 1 or not weight.numel() or bias.shape != (1,):
            raise ClassifierError(f"{source}: the weights are not one number for each input")
        for name in _LOGISTIC:
            _require_finite(tensors[name], name, source)
        return Logistic(weight, bias)
    names = [f"trees.{name}" for name in (*_TREES, "baseline", "inputs")]
    _require(tensors, names, source)
    nodes = {name: tensors[f"trees.{name}"] for name in _TREES}
    shape = nodes["left"].shape
    if len(shape) != 2 or 0 in shape or any(nodes[name].shape != shape for name in _TREES):
        raise ClassifierError(f"{source}: the nodes of its trees are not tables of one shape")
    if shape[1] > _MOST_NODES:
        raise ClassifierError(f"{source}: its trees have {shape[1]:,} nodes, more than any here")
    types = dict.fromkeys(_INTEGERS, torch.int64) | {"missing_left": torch.bool}
    for name, tensor in nodes.items():
        if tensor.dtype != types.get(name, torch.float64):
            raise ClassifierError(f"{source}: the tensor trees.{name} holds {tensor.dtype}")
    inputs, baseline = tensors["trees.inputs"], tensors["trees.baseline"]
    if inputs.shape != (1,) or inputs.dtype != torch.int64 or baseline.shape != (1,):
        raise ClassifierError(f"{source}: trees.inputs and trees.baseline are not a number each")
    _require_finite(nodes["value"], "trees.value", source)
    _require_finite(baseline, "trees.baseline", source)
    if nodes["threshold"].isnan().any():  # infinity sends everything left but what is missing
        raise ClassifierError(f"{source}: the tensor trees.threshold holds NaN")
    if nodes["feature"].min() < 0 or nodes["feature"].max() >= int(inputs):
        raise ClassifierError(f"{source}: a tree splits on a feature that does not exist")
    own = torch.arange(shape[1]).expand(shape)
    is_leaf = (nodes["left"] == own) & (nodes["right"] == own)
    # Children come after their parent, so every walk ends.
    for name in ("left", "right"):
        if ((nodes[name] <= own) & ~is_leaf).any() or nodes[name].max() >= shape[1]:
            raise ClassifierError(f"{source}: the nodes of a tree do not make a tree")
    return Trees(nodes, baseline, inputs=int(inputs))


def _probabilities(odds_B: Tensor) -> Tensor:
    """Probabilities (B, 2), float32, of others and virus."""
    return torch.stack([torch.sigmoid(-odds_B), torch.sigmoid(odds_B)], dim=1).float()


def _depth(left: Tensor, right: Tensor) -> int:
    """Steps from the root of the deepest tree to its lowest leaf, for nodes (T, M) in order."""
    deep = torch.zeros_like(left)
    for at in range(left.shape[1] - 1, -1, -1):
        below = torch.stack([deep.gather(1, side[:, at : at + 1])[:, 0] for side in (left, right)])
        deep[:, at] = torch.where(left[:, at] == at, 0, 1 + below.amax(0))
    return int(deep[:, 0].max())


def _require(tensors: Mapping[str, Tensor], names: Sequence[str], source: object) -> None:
    for name in names:
        if name not in tensors:
            raise ClassifierError(f"{source} lacks the tensor {name}")
    unknown = sorted(tensors.keys() - set(names))
    if unknown:
        raise ClassifierError(f"{source} has a tensor {unknown[0]}, which this form does not have")


def _require_finite(tensor: Tensor, name: str, source: object) -> None:
    if tensor.dtype != torch.float64:
        raise ClassifierError(f"{source}: the tensor {name} holds {tensor.dtype}, not float64")
    if not torch.isfinite(tensor).all():
        raise ClassifierError(f"{source}: the tensor {name} holds NaN or infinity")
