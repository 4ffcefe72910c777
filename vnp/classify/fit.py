"""The published training schedule: SGD with momentum, a stepped learning rate, early stopping.

Cross entropy, learning rate 2e-4, momentum 0.9, times 0.85 every 10 epochs, batches of 32, at most
200 epochs, stopped when the loss on held-out records has not fallen for 5 (Brief Bioinform 2025,
bbaf224, and its code). The published code then keeps the weights of the last epoch, although it
sets out to keep the best one's; here the best one's are kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from store.io.concurrent import processors
from vnp.classify.batches import Rows
from vnp.classify.estimators import Module
from vnp.classify.metrics import log_loss
from vnp.classify.mlp import Mlp

# Numbers in the training rows up to which one thread trains: 10,000 records of the published width.
# A step multiplies 32 rows and takes milliseconds. Threads that wait for each other gain little
# there, and where the cores are busy they cost many times as much (docs/benchmarks/cpu.md).
_SMALL = 1 << 25
_MOST_THREADS = 4  # of a larger training: more gain next to nothing


@dataclass(frozen=True, slots=True)
class Schedule:
    """Settings of a training run; the defaults are the published ones."""

    learning_rate: float = 2e-4
    momentum: float = 0.9
    step: int = 10  # epochs after which the learning rate falls
    gamma: float = 0.85  # to this part
    batch: int = 32  # rows a step
    epochs: int = 200  # at most
    patience: int = 5  # epochs without a lower loss on the held-out rows before it stops
    seed: int = 42  # of weights, order and dropout


@dataclass(frozen=True, slots=True)
class Epoch:
    """Losses of one epoch."""

    epoch: int  # from 1
    train_loss: float  # mean over its batches, with dropout
    held_out_loss: float  # mean over the held-out rows
    held_out_accuracy: float


def fit(
    train: Rows,
    held_out: Rows,
    *,
    inputs: int,
    schedule: Schedule,
    device: torch.device,
    tell: Callable[[Epoch], None],
) -> tuple[Mlp, list[Epoch], int]:
    """Train a classifier of ``inputs`` numbers a row, calling ``tell`` with every epoch.

    Returns the best epoch's classifier, in eval mode on the CPU, all epochs, and the best one's
    number.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(schedule.seed)
        rng = np.random.default_rng(schedule.seed)
        module = Mlp(inputs).to(device)
        optimizer = torch.optim.SGD(
            module.parameters(), lr=schedule.learning_rate, momentum=schedule.momentum
        )
        decay = torch.optim.lr_scheduler.StepLR(optimizer, schedule.step, gamma=schedule.gamma)
        history: list[Epoch] = []
        best, best_state = 0, copy.deepcopy(module.state_dict())
        lowest = float("inf")
        for number in range(1, schedule.epochs + 1):
            train_loss = _learn(module, optimizer, train, schedule.batch, rng, device)
            score, truth = score_rows_of(module, held_out, device=device)
            epoch = Epoch(
                number,
                train_loss,
                held_out_loss=log_loss(truth, score),
                held_out_accuracy=float(np.mean((score > 0.5) == (truth == 1))),
            )
            history.append(epoch)
            tell(epoch)
            if epoch.held_out_loss < lowest:
                lowest, best = epoch.held_out_loss, number
                best_state = copy.deepcopy(module.state_dict())
            elif number - best >= schedule.patience:
                break
            decay.step()
        module.load_state_dict(best_state)
    return module.eval().cpu(), history, best


def threads_for(rows: int, width: int) -> int:
    """CPU threads that train on so many rows of so many numbers: one for a small set."""
    if rows * width <= _SMALL:
        return 1
    return min(_MOST_THREADS, processors())


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Let torch compute on so many CPU threads in the body; as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def score_rows_of(
    module: Module, rows: Rows, *, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score rows: probability of virus (n,) and class number (n,)."""
    module.eval()
    parts = [
        module.probabilities(x_BD.to(device))[:, 1].double().cpu().numpy()
        for x_BD, _ in rows.in_order()
    ]
    return np.concatenate(parts) if parts else np.empty(0), rows.label


def _learn(
    module: Mlp,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    batch: int,
    rng: np.random.Generator,
    device: torch.device,
) -> float:
    """Go over all rows once; return the mean loss of the batches."""
    module.train()
    total, batches = torch.zeros((), device=device), 0
    for x_BD, y_B in rows.shuffled(batch=batch, rng=rng):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(x_BD.to(device)), y_B.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach()
        batches += 1
    return float(total) / max(batches, 1)
