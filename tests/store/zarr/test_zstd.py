"""Chunks are compressed to the bytes that numcodecs gives, by its own library or by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numcodecs.zstd import Zstd

from store.zarr import zstd

RNG = np.random.default_rng(1)
CONTENTS = [
    b"",
    b"x",
    bytes(5000),
    RNG.integers(0, 256, 300_000, np.uint8).tobytes(),
    RNG.choice(np.frombuffer(b"ACGT", np.uint8), 700_000).tobytes(),
    np.arange(70_000).tobytes(),
]


@pytest.fixture(params=["library", "numcodecs"])
def way(request, monkeypatch):
    if request.param == "numcodecs":
        monkeypatch.setattr(zstd, "_library", lambda: None)
    elif zstd._library() is None:
        pytest.skip("this build of numcodecs does not show the functions of its zstd")


def test_the_bytes_are_those_of_numcodecs(way):
    codec = Zstd(level=1)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(zstd.compressed, CONTENTS * 3))
    assert found == [bytes(codec.encode(content)) for content in CONTENTS] * 3
    assert list(map(zstd.decompressed, found[1 : len(CONTENTS)])) == CONTENTS[1:]
    assert zstd.compressed(np.frombuffer(CONTENTS[3], np.uint8)) == found[3]


def test_numcodecs_without_its_library_shown_is_used(monkeypatch):
    monkeypatch.setattr(zstd.importlib.util, "find_spec", lambda _: None)
    assert zstd._library.__wrapped__() is None
