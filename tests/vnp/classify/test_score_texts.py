"""The texts of many scores are those that NumPy writes one by one."""

from __future__ import annotations

import numpy as np
import pytest

from vnp.classify.score_texts import shortest

POWERS = np.float32(2) ** np.arange(-20, 2, dtype=np.float32)
ONE, NOUGHT = np.float32(1), np.float32(0)


@pytest.mark.parametrize("power", [1, 3, 8])
@pytest.mark.parametrize("decimals", [2, 4, 7, 12])
def test_scores(power: int, decimals: int) -> None:
    values = np.random.default_rng(power + decimals).random(20_000) ** power
    scores = np.round(values, decimals).astype(np.float32)
    assert shortest(scores) == list(map(str, scores))


def test_any_number() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 20_000, dtype=np.uint32)
    values = bits.view(np.float32)
    assert shortest(values) == list(map(str, values))


def test_edges() -> None:
    edges = np.concatenate([POWERS, np.float32([0, 1e-4, 1e-5, 0.1, 0.9999, 0.99999994, 1])])
    values = np.concatenate([edges, np.nextafter(edges, NOUGHT), np.nextafter(edges, ONE)])
    assert shortest(values) == list(map(str, values))
    assert shortest(values[:0]) == []
