"""The shortest text of many float32 numbers, as NumPy writes each of them.

NumPy writes the fewest digits that no other float32 is nearest to, one number at a time in half a
microsecond. Scores are numbers from 0 to 1, most of them at least 0.0001, which are written as
``0.`` and some digits. How many, all of them are asked at once::

    0.3 as float32                      0.300000012
    3 * 10**-1 is off by 1.2e-8         less than half the gap to the next float32, 1.5e-8: '0.3'
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAST = np.float32(1e-4)  # this, and what is smaller, is written with an exponent
_DECIMALS = 13  # nine digits of any number that is as large
_HALF = 7  # of them, as 32 bits hold
_SURE = 1e-6  # of half a gap; products are off by less than a thousandth of it


def shortest(values: NDArray[np.float32]) -> list[str]:
    """Text of each value, shape (n,), as ``str`` has it."""
    texts = np.empty(len(values), f"S{2 + _DECIMALS}")
    digits = texts.view(np.uint8).reshape(len(values), 2 + _DECIMALS)
    plain = (values > _LEAST) & (values < 1)
    left = np.flatnonzero(plain)
    exact = values[left].astype(np.float64)
    half = np.spacing(values[left]).astype(np.float64) / 2
    number, decimals = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    odd = ~plain
    # The gap below a power of two is half of that above: NumPy does these, and what is too close.
    odd[left[np.frexp(exact)[0] == 0.5]] = True
    for count in range(1, _DECIMALS + 1):
        scale = 10.0**count
        scaled, allowed = exact * scale, half * scale
        nearest = np.rint(scaled)
        off = np.abs(nearest - scaled)
        odd[left[np.abs(off - allowed) <= _SURE * allowed]] = True
        found = off < allowed
        here = left[found]
        number[here] = nearest[found] * 10.0 ** (_DECIMALS - count)
        decimals[here] = count
        left, exact, half = left[~found], exact[~found], half[~found]
        if not len(left):
            break
    odd |= number >= 10**_DECIMALS
    digits[:, 0], digits[:, 1] = b"0."
    low = number % 10**_HALF
    for part, first, stop in (
        (low, _DECIMALS - _HALF, _DECIMALS),
        (number // 10**_HALF, 0, _DECIMALS - _HALF),
    ):
        rest = part.astype(np.uint32)  # four times as fast to divide as 64 bits
        for at in range(stop - 1, first - 1, -1):
            tens = rest // 10
            digits[:, 2 + at] = (rest - 10 * tens + ord("0")) * (at < decimals)
            rest = tens
    result: list[str] = texts.astype(str).tolist()
    for at in np.flatnonzero(odd).tolist():
        result[at] = str(values[at])
    return result
