"""Lowest and median of many similarities: exact for some, counted for more."""

from __future__ import annotations

import numpy as np
import pytest

from vnp.exchange import spread
from vnp.exchange.spread import Spread


@pytest.mark.parametrize("exact", [100, 10_000])
@pytest.mark.parametrize("count", [1, 2, 99, 5001])
@pytest.mark.parametrize("distance", [0.0, 1e-7, 0.3])
def test_it_agrees_with_numpy(monkeypatch, exact, count, distance):
    monkeypatch.setattr(spread, "_EXACT", exact)
    monkeypatch.setattr(spread, "_TOGETHER", 70)
    rng = np.random.default_rng(count)
    values = 1 - distance * rng.gamma(2, size=count)
    found = Spread()
    for part in np.array_split(values, 30):
        found.add(part)
    assert found.count == count
    assert found.lowest == values.min()
    wanted = np.median(values)
    if count <= exact:
        assert found.median == wanted
    else:
        assert abs(found.median - wanted) <= 1e-3 * (1 - wanted) + 1e-7


def test_of_nothing_it_is_1():
    assert (Spread().count, Spread().lowest, Spread().median) == (0, 1.0, 1.0)
