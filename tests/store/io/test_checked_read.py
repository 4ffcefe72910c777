"""Part of a file read into memory, with the checksum of the whole."""

from __future__ import annotations

import os

import google_crc32c
import numpy as np
import pytest

from store.io import checked_read
from store.io.checked_read import read_checked

CONTENT = np.random.default_rng(1).bytes(100)


@pytest.fixture
def fd(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    opened = os.open(tmp_path / "x", os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("offset", [0, 9])
def test_any_part_and_the_checksum_of_all(fd, monkeypatch, piece, offset):
    monkeypatch.setattr(checked_read, "_PIECE", piece)
    size = 60
    for skip, length in ((0, 0), (0, 60), (0, 13), (13, 20), (40, 20), (60, 0), (30, 0)):
        out = np.zeros(length, np.uint8)
        crc = read_checked(fd, offset=offset, size=size, out=out, skip=skip)
        assert crc == google_crc32c.value(CONTENT[offset : offset + size])
        assert out.tobytes() == CONTENT[offset + skip : offset + skip + length]


def test_calls_that_read_less_than_asked(fd, monkeypatch):
    read = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda fd, to, at: read(fd, [to[0][: len(to[0]) // 2 + 1]], at)
    )
    out = np.zeros(50, np.uint8)
    assert read_checked(fd, offset=0, size=100, out=out, skip=25) == google_crc32c.value(CONTENT)
    assert out.tobytes() == CONTENT[25:75]


def test_a_file_that_ends_before(fd):
    for skip in (0, 30, 90):
        out = np.zeros(10, np.uint8)
        assert read_checked(fd, offset=1, size=100, out=out, skip=skip) is None
