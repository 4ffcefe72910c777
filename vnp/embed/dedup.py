"""Embed identical records once: which rows need the model, and where the rest come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.duplicates import NO_DUPLICATE
from store.read.indexing import Ints


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """Where the rows of a block come from."""

    embed: Ints  # positions in the block that the model embeds, ascending
    same: Ints  # positions that get the embedding of one of these ...
    same_as: Ints  # ... namely of ``embed[same_as]``; the embedded positions are among them
    copied: Ints  # positions copied from certified rows of the store

    @property
    def rows(self) -> int:
        """Rows of the block."""
        return len(self.same) + len(self.copied)

    @property
    def saved(self) -> int:
        """Rows that the model need not embed."""
        return self.rows - len(self.embed)

    def assemble(
        self, embedded: NDArray[np.float16], copies: NDArray[np.float16]
    ) -> NDArray[np.float16]:
        """Put the block, (rows, dim), together from the embeddings of ``embed`` and ``copied``."""
        out = np.empty((self.rows, copies.shape[1]), dtype=np.float16)
        out[self.copied] = copies
        out[self.same] = embedded[self.same_as]
        return out


def originals(duplicates: Ints, *, start: int) -> Ints:
    """Row that each row repeats, or the row itself, from a block's column ``twin``, (rows,)."""
    own = start + np.arange(len(duplicates))
    return np.where(duplicates == NO_DUPLICATE, own, duplicates)


def plan_copies(original: Ints, *, copied: NDArray[np.bool_]) -> CopyPlan:
    """Plan a block from its `originals`; those ``copied`` are certified, outside of the block."""
    same = np.flatnonzero(~copied)
    # Rows that repeat the same original: the first of them in the block is embedded for all.
    _, first, kind = np.unique(original[same], return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return CopyPlan(
        embed=same[first[order]], same=same, same_as=rank[kind], copied=np.flatnonzero(copied)
    )
