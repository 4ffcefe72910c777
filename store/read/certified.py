"""Certified rows to copy from: each block is checked as a whole before its first row is used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError
from store.read.indexing import Ints
from store.read.source import Source
from store.read.view import View


class CertifiedRows:
    """Rows of filled blocks, for copying into other blocks of the same model.

    One object per worker: it remembers which blocks it has read whole and found sound. Rows of
    those are then read one by one from the mapped file.
    """

    def __init__(self) -> None:
        self._sound: set[tuple[str, int]] = set()

    def take(
        self, store: Source, *, model: str, rows: Ints
    ) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Fetch those of ``rows`` (n,) that are certified, in blocks that are sound.

        Returns their values (m, dim), in the order asked for, and which rows they are, bool (n,).
        """
        size = store.schema.block_rows
        block = rows // size
        found = rows % size < store.rows_filled(model)[block]
        for number in np.unique(block[found]).tolist():
            if not self._is_sound(store, model, number):
                found &= block != number
        return View(store, models=model)[rows[found]], found

    def _is_sound(self, store: Source, model: str, block: int) -> bool:
        if (model, block) not in self._sound:
            try:
                size = store.schema.block_rows
                store.read(model, block * size, (block + 1) * size)
            except DamageError:
                return False  # verify reports it; here the rows are embedded again
            self._sound.add((model, block))
        return True
