"""Feature rows for a classifier: which models, which rows, in which batches.

VirNucPro's feature is [DNABERT-S, ESM-2] in float32. A store keeps float16 by model; the merged
view puts the models side by side in the order of the store's recipe, and rows are widened here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray

from store.errors import UsageError
from store.read.view import View
from store.schema import COLUMN_CHUNK_ROWS
from store.store import Store
from vnp.classify.estimators import Module
from vnp.classify.files import Card
from vnp.classify.scores import Scores, chunked
from vnp.models import plugins, registry
from vnp.models.errors import UnknownModelError
from vnp.models.held import held_models

BATCH = 256  # rows the published code scores at a time


class FeaturesError(UsageError):
    """The models chosen do not give the numbers that the classifier takes: say which."""


_ADVICE = "choose its models with --models, or a classifier that was trained on these"


def choose_models(
    store: Store, card: Card, names: Sequence[str] = (), *, advice: str = _ADVICE
) -> tuple[str, ...]:
    """Choose the models whose bands make the feature row of a classifier.

    In this order: those named; those on the classifier's card; all of the store's; those of a
    recipe that the store holds among others. `UsageError` if a model is not in the store, and
    `FeaturesError`, with the ``advice``, if none of these fits.
    """
    dims = {model.name: model.dim for model in store.schema.models}
    if names or card.models:
        candidates = [held_models(store.schema, names or [name for name, _ in card.models])]
    else:
        candidates = [tuple(dims)]
        candidates += [recipe for recipe in registry.RECIPES.values() if set(recipe) <= dims.keys()]
        if all(sum(dims[name] for name in each) != card.inputs for each in candidates):
            candidates += _of_plugins(dims)
    return first_fitting(card.inputs, candidates, dims, advice=advice)


def _of_plugins(dims: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """Yield the recipes of plug-ins whose models the store has."""
    for sources in plugins.recipes().values():
        with suppress(UnknownModelError):
            names = tuple(map(registry.name_in_store, sources))
            if set(names) <= dims.keys():
                yield names


def first_fitting(
    inputs: int,
    candidates: Sequence[tuple[str, ...]],
    dims: Mapping[str, int],
    *,
    advice: str = _ADVICE,
) -> tuple[str, ...]:
    """Choose the first models that give the numbers a classifier takes; `FeaturesError` if none."""
    for candidate in candidates:
        if sum(dims[name] for name in candidate) == inputs:
            return candidate
    have = " + ".join(f"{name} ({dims[name]})" for name in candidates[0]) or "no models"
    total = sum(dims[name] for name in candidates[0])
    raise FeaturesError(
        f"the classifier takes {inputs} numbers a row, but {have} give {total}; {advice}"
    )


def score_rows(
    view: View,
    module: Module,
    *,
    device: torch.device,
    start: int,
    stop: int,
    chunk: int = COLUMN_CHUNK_ROWS,
) -> Iterator[Scores]:
    """Score the certified rows among ``start .. stop``, in row order.

    Certified rows go through the classifier in batches of `BATCH` counted from ``start``, as the
    published code has them, so that scores do not depend on how the store is cut into blocks.
    Blocks are read one at a time; results end at multiples of ``chunk`` rows and at ``stop``.
    """
    batches = _batches(view, start, stop)
    rows, scores = np.empty(0, np.int64), np.empty((0, 2), np.float32)
    for first, last in chunked(start, stop, chunk):
        values = np.full((last - first, 2), np.nan, dtype=np.float32)
        while True:
            here = int(np.searchsorted(rows, last))
            values[rows[:here] - first] = scores[:here]
            rows, scores = rows[here:], scores[here:]
            if len(rows):  # they belong to later results
                break
            batch = next(batches, None)
            if batch is None:
                break
            rows, features = batch
            x_BD = torch.from_numpy(features.astype(np.float32)).to(device)
            scores = module.probabilities(x_BD).cpu().numpy()
        yield Scores(first, values)


def _batches(
    view: View, start: int, stop: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
    """Yield row numbers (b,) and features (b, D) of certified rows, `BATCH` at a time."""
    size, filled = view.block_rows, view.filled_of_blocks
    rows, features = np.empty(0, np.int64), np.empty((0, view.shape[1]), np.float16)
    for block in range(start // size, -(-stop // size)):
        low, high = max(block * size, start), min(block * size + int(filled[block]), stop)
        if low >= high:
            continue
        rows = np.concatenate([rows, np.arange(low, high)])
        features = np.concatenate([features, view[low:high]])
        whole = len(rows) - len(rows) % BATCH
        for at in range(0, whole, BATCH):
            yield rows[at : at + BATCH], features[at : at + BATCH]
        rows, features = rows[whole:], features[whole:]
    if len(rows):
        yield rows, features
