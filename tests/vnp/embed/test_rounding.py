"""Rounding to float16 and the look for NaN and infinity: quick, and the same answers as NumPy's."""

import numpy as np
import pytest

from store.certificate import all_finite
from vnp.embed.blocks import _PIECE, _rounded


def test_every_kind_of_number_is_rounded_as_numpy_does():
    bits = np.arange(0, 1 << 32, 65_521 * 3, dtype=np.uint64).astype(np.uint32)
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(all="ignore"):
        up = np.nextafter(halves, np.float32(np.inf))
    middle = halves.view(np.uint32) + np.uint32(1 << 12)  # half way to the next one
    values = np.concatenate([bits.view(np.float32), halves, up, middle.view(np.float32)])
    with np.errstate(all="ignore"):
        expected = values.astype(np.float16)
    assert len(values) % _PIECE, "the last piece is shorter"
    found = _rounded(values.reshape(1, -1))[0]
    nan = np.isnan(values)
    assert np.array_equal(found[~nan].view(np.uint16), expected[~nan].view(np.uint16))
    assert np.isnan(found[nan]).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, None])
def test_one_number_that_is_not_finite_is_found(odd):
    values = np.linspace(-65_504, 65_504, 6_000).astype(np.float16).reshape(20, 300)
    if odd is not None:
        values[7, 11] = odd
    for view in (values, values[:, ::-1], values[5:], values.T):
        assert all_finite(view) == bool(np.isfinite(view).all()) == (odd is None)
    assert all_finite(values[:0])
