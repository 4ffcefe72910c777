"""Records found by id: by an index of all, by one of a few, and not where memory is too small."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import UsageError
from tests.vnp.exchange.embedding_forms import twin_samples
from tests.vnp.exchange.stores import ids
from vnp.exchange import record_index
from vnp.exchange.record_index import RecordIndex


@pytest.mark.parametrize("sample", [None, "two"])
def test_an_index_of_a_few_ids_finds_what_one_of_all_does(
    tmp_path: Path, sample: str | None
) -> None:
    store = twin_samples(tmp_path / "run.zarr")
    some = ids(store)[3:7]
    asked = [
        *some,
        *(f"one:{name}" for name in some),
        *(f"'{name}" for name in some),
        "x",
        "two:",
        "",
    ]
    few = RecordIndex(store, sample, among=asked)
    assert few.find(asked).rows.tolist() == RecordIndex(store, sample).find(asked).rows.tolist()
    assert few.find(asked).several == RecordIndex(store, sample).find(asked).several
    assert len(few._rows) == len(some) * (1 if sample else 2), "it holds no others"


def test_an_index_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = twin_samples(tmp_path / "run.zarr")
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 2 * 56 * 10}
    monkeypatch.setattr(record_index.os, "sysconf", pages.__getitem__)
    with pytest.raises(UsageError, match=r"one sample at a time \(--sample\)"):
        RecordIndex(store)
    assert RecordIndex(store, "two").find(ids(store)[10:]).rows.tolist() == list(range(10, 20))
