"""Workers and imported models leave each other alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.errors import UsageError
from store.open import open_store
from store.schema import Model
from store.store import Store
from tests.rows import append
from tests.vnp.embed.stub_worker import StubEncoder
from tests.vnp.exchange.embedding_forms import (
    DIM,
    made,
    new_store,
    npy,
)
from tests.vnp.exchange.stores import ids
from vnp.embed.config import WorkerConfig
from vnp.embed.imported import ImportedModelError
from vnp.embed.report import WorkerReport
from vnp.embed.worker import Worker
from vnp.exchange.import_embeddings import import_embeddings

pytestmark = pytest.mark.slow


def work(
    store: Store, loaded: list[str] | None = None, models: tuple[str, ...] = ()
) -> WorkerReport:
    """Fill what a worker would fill; note the models that it loads."""

    def load(name: str, **_: object) -> Any:
        if loaded is not None:
            loaded.append(name)
        return StubEncoder(name)

    config = WorkerConfig(models=models)
    return Worker(store.path, config=config, stop=threading.Event(), load=load).run()


def test_workers_leave_an_imported_model_alone_and_fill_the_others(
    plain: Store, tmp_path: Path
) -> None:
    import_embeddings(plain, [npy(tmp_path, ids(plain), made())], model="mine")
    store = open_store(plain.path)
    append(store, "third", 20)
    loaded: list[str] = []

    report = work(store, loaded)
    assert loaded == ["small"], "it is not even loaded"
    assert [(each.model, each.block) for each in report.failures] == [("mine", None)]
    assert "imported from e.npy" in report.failures[0].reason
    store = open_store(plain.path)
    assert store.certify("small").complete
    np.testing.assert_array_equal(store.read("mine")[:40], made().astype("f2"))
    assert np.isnan(store.read("mine")[40:]).all()
    with pytest.raises(ImportedModelError, match="import those of the rows that are missing"):
        work(store, models=("mine",))


def test_what_workers_made_is_not_mixed_with(plain: Store, tmp_path: Path) -> None:
    work(plain)
    path = npy(tmp_path, ids(plain), made(dim=8))
    with pytest.raises(UsageError, match="begun by workers, .*under another name"):
        import_embeddings(plain, [path], model="small")
    assert import_embeddings(plain, [path], model="mine").complete


def test_a_model_that_a_worker_begins_meanwhile_is_not_mixed_with(
    plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has recorded what it is, and certified nothing: before the import, or during it."""
    plain.add_model(Model("mine", DIM))
    path = npy(tmp_path, ids(plain), made())
    pin = Store.pin_provenance

    def pinned(store: Store, model: str, provenance: Any) -> dict[str, Any]:
        pin(store, model, {"identity": {"weights": "a worker's"}})
        return pin(store, model, provenance)

    for _ in range(2):
        monkeypatch.setattr(Store, "pin_provenance", pinned)
        with pytest.raises(UsageError, match="begun by workers"):
            import_embeddings(plain, [path], model="mine")
    assert not open_store(plain.path).rows_filled("mine").any()


def test_an_imported_model_is_bounded_in_its_provenance(tmp_path: Path) -> None:
    """The cells of HDF5 have a fixed size: names of many files must not outgrow them."""
    store = new_store(tmp_path / "run.h5")
    paths = []
    for row, name in enumerate(ids(store)):
        path = tmp_path / f"{'ä' * 90}{row}.csv"
        path.write_text(f"{name},{row}\n")
        paths.append(path)
    assert import_embeddings(store, paths, model="mine").complete
    certificate = open_store(store.path).certificate("mine", 0)
    assert certificate is not None
    assert len(certificate.details["imported"]) == 3
    assert certificate.details["more_files"] == 13
    assert list(open_store(store.path).verify()) == []
