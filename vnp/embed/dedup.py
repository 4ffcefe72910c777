"""Embed identical records once: which rows need the model, and where the rest come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.duplicates import NO_DUPLICATE
from store.read.indexing import Ints


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """How the rows of a block come about."""

    embed: Ints  # positions in the block that the model embeds, ascending
    same: Ints  # positions that get the embedding of one of these ...
    same_as: Ints  # ... namely of ``embed[same_as]``; the embedded positions are among them
    copied: Ints  # positions copied from certified rows of the store

    @property
    def saved(self) -> int:
        """Rows that the model need not embed."""
        return len(self.same) + len(self.copied) - len(self.embed)

    def assemble(
        self, embedded: NDArray[np.float16], copies: NDArray[np.float16]
    ) -> NDArray[np.float16]:
        """Put the block together: float16 (rows, dim).

        Parameters
        ----------
        embedded
            Embeddings of ``embed``, in its order.
        copies
            Embeddings of ``copied``, in its order.
        """
        rows = len(self.same) + len(self.copied)
        out = np.empty((rows, copies.shape[1]), dtype=np.float16)
        out[self.copied] = copies
        out[self.same] = embedded[self.same_as]
        return out


def originals(twins: Ints, *, start: int) -> Ints:
    """Row that each row of a block repeats, or the row itself; shape (rows,).

    Parameters
    ----------
    twins
        The store's column ``twin`` for the block.
    start
        First row of the block.
    """
    own = start + np.arange(len(twins))
    return np.where(twins == NO_DUPLICATE, own, twins)


def plan_copies(original: Ints, *, certified: NDArray[np.bool_]) -> CopyPlan:
    """Plan a block.

    Parameters
    ----------
    original
        What each row repeats, see `originals`.
    certified
        Which rows have an original outside the block that is certified already, shape (rows,).
    """
    copied = np.flatnonzero(certified)
    same = np.flatnonzero(~certified)
    # Rows that repeat the same original: the first of them in the block is embedded for all.
    _, first, kind = np.unique(original[same], return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return CopyPlan(embed=same[first[order]], same=same, same_as=rank[kind], copied=copied)


def everything(rows: int) -> CopyPlan:
    """Plan a block in which every row is embedded."""
    positions = np.arange(rows)
    return CopyPlan(positions, positions, positions, np.empty(0, dtype=np.int64))
