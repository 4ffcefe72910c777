"""Lowest and median of very many cosine similarities, in bounded memory.

Up to `_EXACT` of them are kept, and the median is exact. Of more they are only counted, by their
distance to 1, in bins that are 0.05 % of that distance wide: 8 MB whatever their number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_EXACT = 1 << 20
_TOGETHER = 1 << 18  # numbers that are binned at a time: a look at all bins costs 5 ms
_PARTS = 64  # of what was taken in, that are put together
_BITS = 20  # of a float32 that make its bin: sign, exponent and 11 of the fraction


class Spread:
    """Lowest and median of numbers of at most 1, and how many they are."""

    def __init__(self) -> None:
        self.count = 0
        self.lowest = 1.0
        self._kept: list[F64] = []
        self._n_kept = 0
        self._bins: NDArray[np.int64] | None = None

    def add(self, values: F64) -> None:
        """Take numbers in, shape (n,)."""
        self.count += len(values)
        self.lowest = float(values.min(initial=self.lowest))
        self._kept.append(values)
        self._n_kept += len(values)
        if self.count > _EXACT and (self._bins is None or self._n_kept > _TOGETHER):
            self._bin()

    @property
    def median(self) -> float:
        """The middle one; 1 if there is none."""
        if not self.count:
            return 1.0
        if self._bins is None:
            return float(np.median(np.concatenate(self._kept)))
        self._bin()
        at = int(np.searchsorted(np.cumsum(self._bins), (self.count + 1) // 2))
        middle = (at << (32 - _BITS)) + (1 << (31 - _BITS))
        return 1.0 - float(np.array(middle, np.uint32).view(np.float32))

    def _bin(self) -> None:
        if self._bins is None:
            self._bins = np.zeros(1 << _BITS, np.int64)
        kept, self._kept, self._n_kept = self._kept, [], 0
        for first in range(0, len(kept), _PARTS):
            values = np.concatenate(kept[first : first + _PARTS])
            # Distances are not negative (rounding aside), so their bits are in their order.
            bits = np.maximum(1.0 - values, 0.0).astype(np.float32).view(np.uint32)
            self._bins += np.bincount(bits >> (32 - _BITS), minlength=1 << _BITS)
