"""Classifier files as others make them: published, hostile, odd. Written by plain torch.save."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn


class MLPClassifier(nn.Module):
    """Stands for the class of that name in the published scripts; see `as_main`."""

    def __init__(self, inputs: int, hidden: int = 512) -> None:
        super().__init__()
        self.hidden_layer = nn.Linear(inputs, hidden)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.output_layer = nn.Linear(hidden, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.bn1(self.hidden_layer(x)))
        return self.output_layer(self.dropout(x))


@contextmanager
def as_main(kind: type) -> Iterator[None]:
    """Let pickle take a class for one of the script that is run."""
    main = sys.modules["__main__"]
    before, missing = kind.__module__, object()
    had = getattr(main, kind.__name__, missing)
    kind.__module__ = "__main__"
    setattr(main, kind.__name__, kind)
    try:
        yield
    finally:
        kind.__module__ = before
        if had is missing:
            delattr(main, kind.__name__)
        else:
            setattr(main, kind.__name__, had)


def trained(inputs: int, *, seed: int = 0) -> MLPClassifier:
    """A classifier with running statistics that are not the initial ones, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = MLPClassifier(inputs)
        with torch.no_grad():
            for _ in range(3):
                module(torch.randn(64, inputs) * 2 + 0.5)
    return module.eval()


def publish(path: Path, inputs: int, *, seed: int = 0) -> MLPClassifier:
    """Write a file as the published training script does; return what is in it."""
    module = trained(inputs, seed=seed)
    with as_main(MLPClassifier):
        torch.save(module, path)
    return module
