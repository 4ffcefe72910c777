"""VirNucPro's classifier: two linear layers with a batch norm between them.

3328 -> 512 -> 2 as published (Brief Bioinform 2025, bbaf224): linear, batch norm, ReLU, dropout of
one half, linear; the two outputs are softmaxed. Any other width of input works in the same way.
The attributes have the published names, so that published state dicts fit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN = 512
CLASSES = ("others", "virus")  # by class number; score1 is class 0's probability, score2 class 1's
DROPOUT = 0.5


class Mlp(nn.Module):
    """The classifier as a module.

    Parameters
    ----------
    inputs
        Width D of a feature row.
    hidden
        Width of the hidden layer.
    """

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

    @property
    def inputs(self) -> int:
        """Width D of a feature row."""
        return self.hidden_layer.in_features

    @property
    def hidden(self) -> int:
        """Width of the hidden layer."""
        return self.hidden_layer.out_features


def from_tensors(tensors: dict[str, Tensor], *, eps: float) -> Mlp:
    """Build a classifier, in eval mode, from tensors whose names and shapes were checked."""
    hidden, inputs = tensors["hidden_layer.weight"].shape
    module = Mlp(inputs, hidden=hidden)
    module.bn1.eps = eps
    module.load_state_dict(tensors)
    return module.eval()
