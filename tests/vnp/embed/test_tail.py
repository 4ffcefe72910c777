"""A tail block that grows: certified rows keep their bits, and only new ones are embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.open import create_store
from store.store import Store
from tests.rows import MODELS, append
from tests.vnp.embed.stub_worker import StubEncoder
from tests.vnp.embed.test_worker import work
from vnp.embed.config import WorkerConfig
from vnp.inference.encoder import Provenance


class Later(StubEncoder):
    """What a later version computes: the same model, other bits in the last place."""

    precision = "float32"
    embedded = 0

    def provenance(self) -> Provenance:
        before = super().provenance()
        return Provenance(before.identity | {"precision": self.precision}, before.environment)

    def embed(self, tokens: Any, **kwargs: Any) -> Any:
        type(self).embedded += len(tokens)
        return super().embed(tokens, **kwargs) + np.float32(0.125)


class Halved(Later):
    precision = "bfloat16"


@pytest.fixture(params=["zarr", "h5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"run.{request.param}"


def begun(path: Path, **options: Any) -> Store:
    store = create_store(path, models=MODELS, segment_length=500, block_rows=16, **options)
    append(store, "a", 21)
    work(store)
    append(store, "b", 20)
    Later.embedded = Halved.embedded = 0
    return store


def test_certified_rows_keep_their_bits(path: Path) -> None:
    store = begun(path)
    before = store.read("small", 0, 21)
    report = work(store, encoder=Later)
    found = store.read("small")
    np.testing.assert_array_equal(found[:21], before)
    assert np.isfinite(found).all()
    assert Later.embedded == 2 * 20
    assert (report.records, report.copied) == (2 * 20, 0)
    certificate = store.certificate("small", 1)
    assert certificate is not None
    assert (certificate.rows, certificate.details["kept"]) == (16, 5)
    assert certificate.details["copied"] == 0
    assert not list(store.verify())


def test_damaged_rows_are_embedded_again(path: Path) -> None:
    store = begun(path)
    found = store.values_file("small", 1)
    assert found is not None
    file, offset = found
    raw = bytearray(file.read_bytes())
    raw[offset] ^= 1
    file.write_bytes(bytes(raw))
    work(store, encoder=Later, config=WorkerConfig(models=("small",), poll=0.01))
    assert Later.embedded == 5 + 20
    assert store.certify("small").complete


def test_rows_of_another_precision_are_embedded_again(path: Path) -> None:
    store = begun(path, mixed_precision=True)
    work(store, encoder=Halved, config=WorkerConfig(models=("small",), poll=0.01))
    assert Halved.embedded == 5 + 20
    certificate = store.certificate("small", 1)
    assert certificate is not None
    assert certificate.details["precision"] == "bfloat16"
    assert "kept" not in certificate.details


def test_without_copying_the_whole_tail_is_embedded_again(path: Path) -> None:
    store = begun(path)
    work(store, encoder=Later, config=WorkerConfig(models=("small",), poll=0.01, dedup=False))
    assert Later.embedded == 5 + 20
