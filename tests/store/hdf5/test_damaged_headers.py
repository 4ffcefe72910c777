"""Object headers with a flipped bit: what the library raises is told as damage, or nothing is."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from pathlib import Path

import h5py
import pytest

from store.errors import DamageError
from store.open import create_store, open_store
from store.repair import repair, verify_store
from tests.rows import MODELS, append, batch

ROWS = 21
FLIPS = 8  # of each header
HEADER = 200  # bytes
STARTS = batch("a", 0, ROWS).start.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["obs", "obs/vnp/checksums"])
def test_a_change_and_a_repair_raise_errors_of_ours_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.h5"
    append(create_store(path, models=MODELS, segment_length=500, block_rows=16), "a", ROWS)
    with h5py.File(path) as file:
        header = h5py.h5o.get_info(file[name].id).addr
    whole = path.read_bytes()
    generator = random.Random(1)
    refused = 0
    for _ in range(FLIPS):
        damaged = bytearray(whole)
        damaged[header + generator.randrange(HEADER)] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        shutil.rmtree(tmp_path / "run.h5.vnp", ignore_errors=True)
        with suppress(DamageError):
            append(open_store(path), "b", 5)
        if open_store(path).n_rows == ROWS:
            refused += 1
            assert path.read_bytes() == damaged, "a refused append leaves the file as it was"
        with suppress(DamageError):
            repair(open_store(path), list(verify_store(open_store(path))))
        assert open_store(path).column("start", 0, ROWS).tolist() == STARTS
    assert 0 < refused < FLIPS
