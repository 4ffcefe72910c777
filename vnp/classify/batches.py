"""Mini-batches in random order from a store of any size.

Rows that fit the memory allowed are read once and shuffled as a whole in every epoch. More rows
than that are cut into short stripes; in every epoch the stripes are shuffled, as many as fit are
read at a time in the order of the disk, and their rows are shuffled among themselves::

    rows of the store   |--s0--|--s1--|--s2--|--s3--|--s4--| ...
    an epoch            s3 s0 s7 -> shuffled rows -> batches;  s1 s9 s4 -> ...
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.read.view import View

MEMORY = 1 << 30  # bytes of float16 features held at a time
STRIPE = 64  # rows of a stripe: many stripes of each class in memory, few seeks on the disk
_SEQUENTIAL = 4096  # rows read at a time in order


class Rows:
    """Chosen rows of a store with their labels, as float32 batches.

    ``view`` are feature rows (N, D), ``rows`` ascending row numbers and ``label`` their class
    numbers, both (n,); ``memory`` is how many bytes of features are held at a time.
    """

    def __init__(
        self,
        view: View,
        rows: NDArray[np.int64],
        label: NDArray[np.int64],
        *,
        memory: int = MEMORY,
    ) -> None:
        self.rows = rows
        self.label = label
        self.width = view.shape[1]  # D
        self._view = view
        self._at_a_time = max(memory // (2 * view.shape[1]), 2 * STRIPE)
        self._held: NDArray[np.float16] | None = None
        if len(rows) <= self._at_a_time:
            self._held = np.asarray(view[rows])

    def __len__(self) -> int:
        return len(self.rows)

    def shuffled(self, *, batch: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features (b, D) and labels (b,) of every row once, in random order.

        A last batch of a single row is left out: a batch norm cannot train on it.
        """
        rest_x = np.empty((0, self._view.shape[1]), dtype=np.float16)
        rest_y = np.empty(0, dtype=np.int64)
        for picked in self._loads(rng):
            order = rng.permutation(len(picked))
            x = self._read(picked)[order]
            y = self.label[picked][order]
            if len(rest_y):
                x, y = np.concatenate([rest_x, x]), np.concatenate([rest_y, y])
            whole = len(y) - len(y) % batch
            for at in range(0, whole, batch):
                yield _tensors(x[at : at + batch], y[at : at + batch])
            rest_x, rest_y = x[whole:], y[whole:]
        if len(rest_y) > 1:
            yield _tensors(rest_x, rest_y)

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features and labels in row order, many rows at a time."""
        for at in range(0, len(self.rows), _SEQUENTIAL):
            picked = np.arange(at, min(at + _SEQUENTIAL, len(self.rows)))
            yield _tensors(self._read(picked), self.label[picked])

    def _loads(self, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Positions of rows to hold at a time, each ascending, over all of them in random order."""
        n = len(self.rows)
        if self._held is not None:
            yield np.arange(n)
            return
        stripes = rng.permutation(-(-n // STRIPE))
        per_load = self._at_a_time // STRIPE
        for at in range(0, len(stripes), per_load):
            first = np.sort(stripes[at : at + per_load]) * STRIPE
            picked = (first[:, None] + np.arange(STRIPE)).ravel()
            yield picked[picked < n]

    def _read(self, picked: NDArray[np.int64]) -> NDArray[np.float16]:
        if self._held is not None:
            return self._held[picked]
        return np.asarray(self._view[self.rows[picked]])


def _tensors(x: NDArray[np.float16], y: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)
