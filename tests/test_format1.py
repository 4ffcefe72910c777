"""Stores that earlier code left half filled open, read, fill, grow and verify (data/format1)."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from store.io.ragged import Ragged
from store.open import open_store
from store.repair import verify_store
from store.store import Store
from vnp.classify.contig_arrays import joined, read_contigs

DATA = Path(__file__).parent / "data" / "format1"
MODELS = ("demo_dnabert_s", "demo_esm2")


@pytest.fixture(params=["zarr", "h5"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def store(tmp_path: Path, kind: str) -> Store:
    with tarfile.open(DATA / f"{kind}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return open_store(tmp_path / f"run.{kind}")


@pytest.fixture
def before(kind: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"expected_{kind}.npz") as file:
        return dict(file)


def vnp(*arguments: object) -> None:
    command = [sys.executable, "-m", "vnp", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def assert_reads(store: Store, before: dict[str, np.ndarray]) -> None:
    """Every row and score that was there is still what it was, bit for bit."""
    rows = len(before["scores"])
    for model in MODELS:
        filled = before[f"filled_{model}"]
        assert store.filled(model)[:rows][filled].all()
        np.testing.assert_array_equal(store.read(model, 0, rows)[filled], before[model][filled])
    np.testing.assert_array_equal(store.scores("kept")[:rows], before["scores"])
    for name, values in before.items():
        if name.startswith("column_"):
            found = store.column(name.removeprefix("column_"), 0, rows)
            if isinstance(found, Ragged):
                found = np.array([item.decode() for item in found.tolist()])
            np.testing.assert_array_equal(found, values)


def test_reads_and_verifies(store, before):
    assert [sample.name for sample in store.schema.samples] == ["lambda_phage", "second"]
    for model in MODELS:  # half filled: neither nothing nor everything
        assert 0 < np.count_nonzero(before[f"filled_{model}"]) < 51
        np.testing.assert_array_equal(store.filled(model), before[f"filled_{model}"])
        np.testing.assert_array_equal(store.read(model), before[model])
    assert_reads(store, before)
    # No lengths of contigs: each is as long as its records tell.
    assert not store.schema.contig_lengths
    contigs = joined([contigs for contigs, _ in read_contigs(store, None)])
    ends = before["column_end"]
    rows = zip(contigs.first.tolist(), contigs.stop.tolist(), strict=True)
    assert contigs.bases.tolist() == [ends[first:stop].max() for first, stop in rows]
    findings = list(verify_store(store))
    assert not [finding for finding in findings if finding.is_damage]


@pytest.mark.slow
def test_fills(store, before):
    vnp("worker", store.path, "--lease", "1", "--device", "cpu")
    vnp("embed", store.path, "--device", "cpu")
    vnp("verify", store.path)
    for model in MODELS:
        assert store.certify(model).complete
    assert_reads(store, before)


@pytest.mark.slow
def test_grows(store, before, tmp_path):
    more = tmp_path / "more.fa"
    more.write_text(">more\n" + "ATGGCC" * 200 + "\n")
    vnp("append", store.path, more)
    assert store.refresh()
    assert store.n_rows > 51
    assert not store.schema.contig_lengths
    assert [sample.name for sample in store.schema.samples][2] == "more"
    assert_reads(store, before)
    vnp("worker", store.path, "--lease", "1", "--device", "cpu")
    for model in MODELS:
        assert store.certify(model).complete
    vnp("verify", store.path)
    assert_reads(store, before)
