"""Feature rows for a classifier: which models, which rows, in which batches.

VirNucPro's feature is [DNABERT-S, ESM-2] in float32. A store keeps float16 by model; the merged
view puts the models side by side in the order of the store's recipe, and rows are widened here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from store.errors import UsageError
from store.read.view import View
from store.store import Store
from vnp.classify.files import Card
from vnp.classify.mlp import Mlp
from vnp.models import registry

BATCH = 256  # rows the published code scores at a time


class FeaturesError(UsageError):
    """The models chosen do not give the numbers that the classifier takes: say which."""


def choose_models(store: Store, card: Card, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Choose the models whose bands make the feature row of a classifier.

    In this order: those named; those on the classifier's card; all of the store's; those of a
    recipe that the store holds among others.

    Raises
    ------
    FeaturesError
        If they do not give as many numbers as the classifier takes.
    UsageError
        If a model is not in the store.
    """
    dims = {model.name: model.dim for model in store.schema.models}
    if names or card.models:
        chosen = tuple(names) or tuple(name for name, _ in card.models)
        for name in chosen:
            store.schema.model(name)
        candidates = [chosen]
    else:
        candidates = [tuple(dims)]
        candidates += [recipe for recipe in registry.RECIPES.values() if set(recipe) <= dims.keys()]
    for candidate in candidates:
        if sum(dims[name] for name in candidate) == card.inputs:
            return candidate
    have = " + ".join(f"{name} ({dims[name]})" for name in candidates[0]) or "no models"
    total = sum(dims[name] for name in candidates[0])
    raise FeaturesError(
        f"the classifier takes {card.inputs} numbers a row, but {have} give {total}; choose its "
        "models with --models, or a classifier that was trained on these"
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of consecutive rows."""

    first: int  # row number of the first
    values: NDArray[np.float32]  # (n, 2): probability of others, of virus; NaN: not scored

    def __len__(self) -> int:
        return len(self.values)


def score_rows(
    view: View, module: Mlp, *, device: torch.device, start: int, stop: int, chunk: int
) -> Iterator[Scores]:
    """Score the certified rows among ``start .. stop``, in row order.

    Certified rows go through the classifier in batches of `BATCH` counted from ``start``, as the
    published code has them, so that scores do not depend on how the store is cut into blocks.

    Parameters
    ----------
    view
        Feature rows (N, D); blocks are read one at a time.
    module
        The classifier, in eval mode on ``device``.
    chunk
        Rows of one result; results end at multiples of it and at ``stop``.
    """
    filled = filled_of_blocks(view)
    first = start
    values = np.full((_until(first, stop, chunk), 2), np.nan, dtype=np.float32)
    for rows, batch in _batches(view, filled, start, stop):
        x_BD = torch.from_numpy(batch.astype(np.float32)).to(device)
        found = module.probabilities(x_BD).cpu().numpy()
        at = 0
        while at < len(rows):
            while rows[at] >= first + len(values):
                yield Scores(first, values)
                first += len(values)
                values = np.full((_until(first, stop, chunk), 2), np.nan, dtype=np.float32)
            end = int(np.searchsorted(rows, first + len(values)))
            values[rows[at:end] - first] = found[at:end]
            at = end
    while len(values):
        yield Scores(first, values)
        first += len(values)
        values = np.full((_until(first, stop, chunk), 2), np.nan, dtype=np.float32)


def filled_of_blocks(view: View) -> NDArray[np.int64]:
    """Rows of each block, its first ones, that are certified for every model of the view."""
    size = view.block_rows
    blocks = -(-len(view) // size)
    padded = np.zeros(blocks * size, dtype=bool)
    padded[: len(view)] = view.filled
    counts: NDArray[np.int64] = padded.reshape(blocks, size).sum(axis=1)
    return counts


def _until(first: int, stop: int, chunk: int) -> int:
    """Rows from ``first`` to the next multiple of ``chunk``, or to ``stop``."""
    return min((first // chunk + 1) * chunk, stop) - first


def _batches(
    view: View, filled: NDArray[np.int64], start: int, stop: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
    """Yield row numbers (b,) and features (b, D) of certified rows, `BATCH` at a time."""
    numbers: list[NDArray[np.int64]] = []
    features: list[NDArray[np.float16]] = []
    waiting = 0
    size = view.block_rows
    for block in range(start // size, -(-stop // size)):
        low, high = max(block * size, start), min(block * size + int(filled[block]), stop)
        if low >= high:
            continue
        numbers.append(np.arange(low, high))
        features.append(view[low:high])
        waiting += high - low
        if waiting < BATCH:
            continue
        row, feature = np.concatenate(numbers), np.concatenate(features)
        whole = waiting - waiting % BATCH
        for at in range(0, whole, BATCH):
            yield row[at : at + BATCH], feature[at : at + BATCH]
        numbers, features = [row[whole:]], [feature[whole:]]
        waiting -= whole
    if waiting:
        yield np.concatenate(numbers), np.concatenate(features)
