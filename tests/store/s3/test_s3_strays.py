"""Objects below a store that are not its own, and what a killed 'predict --save' leaves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from store.errors import UsageError
from store.findings import Kind, Remedy
from store.layout import score_columns
from store.open import open_store
from store.repair import repair, verify_store
from store.s3.objects import Objects
from store.schema import Model
from store.zarr.codec import decode_numbers
from tests.rows import append
from tests.store.s3.fake import Process, stage
from tests.store.s3.test_s3_faults import PLACE, create


@pytest.fixture(autouse=True)
def _server() -> Iterator[None]:
    with stage() as made, made.process(Process()):
        yield


def save(digest: str, factor: int) -> None:
    store = open_store(PLACE)
    values = np.full((store.n_rows, 2), factor, np.float32)
    store.save_scores("s", digest=digest, values=values, rows=[(0, store.n_rows)], replace=True)


def test_what_others_have_put_there_is_named_and_left_alone() -> None:
    store = create()
    append(store, "a", 11)
    for name in ("notes.txt", "obsm/X_late/mine", "obs/contig/c.x"):
        Objects(PLACE).put(name, b"somebody's")
    found = {finding.path: finding for finding in verify_store(store)}
    assert set(found) == {"notes.txt", "obsm/X_late/mine", "obs/contig/c.x"}
    assert {finding.kind for finding in found.values()} == {Kind.FOREIGN}
    before = open_store(PLACE).schema
    with pytest.raises(UsageError, match="obsm/X_late is there already and is not vnp's"):
        store.add_model(Model("late", 4))
    assert open_store(PLACE).schema == before
    assert repair(store, found.values()) == []
    assert Objects(PLACE).get("obsm/X_late/mine") is not None


def test_what_is_past_the_end_is_removed_on_request() -> None:
    store = create()
    append(store, "a", 11)
    Objects(PLACE).put("obs/contig/c.9", b"left by a killed append")
    [finding] = verify_store(store)
    assert (finding.kind, finding.remedy) == (Kind.ORPHAN, Remedy.REMOVE)
    assert repair(store, [finding]) == ["removed obs/contig/c.9"]
    assert list(verify_store(store)) == []


def test_scores_of_two_classifiers_never_mix() -> None:
    append(create(), "a", 20)
    save("sha256:1", 1)
    chunks = {
        name: Objects(PLACE).get(name)
        for name in Objects(PLACE).names("")
        if name.startswith("obs/s_score")
    }
    save("sha256:2", 2)
    store = open_store(PLACE)
    assert (store.scores("s") == 2).all()
    # As if the first classifier's had been left by a kill, under a name that is used anew.
    for name, found in chunks.items():
        assert found is not None
        Objects(PLACE).put(name.replace("/s_", "/other_"), found.content)
    kinds = {finding.kind for finding in verify_store(store)}
    assert kinds <= {Kind.ORPHAN, Kind.FOREIGN}
    values = np.full((20, 2), 3, np.float32)
    store.save_scores("other", digest="sha256:3", values=values, rows=[(0, 4)], replace=True)
    scores = store.scores("other")
    assert (scores[:4] == 3).all()
    assert np.isnan(scores[4:]).all()
    left = list(verify_store(store))  # chunks that the new ones do not reach: without a number
    assert {finding.kind for finding in left} == {Kind.ORPHAN}
    column = score_columns(store.schema, "other")[0]
    voided = Objects(PLACE).get(column.chunk_key(1))
    assert voided is not None
    assert np.isnan(decode_numbers(voided.content, column=column)).all()
    repair(store, left)
    assert list(verify_store(store)) == []


def test_metadata_that_are_damaged_are_written_again() -> None:
    store = create()
    append(store, "a", 11)
    Objects(PLACE).put("obs/contig/zarr.json", b"{}")
    Objects(PLACE).delete("obsm/zarr.json")
    found = list(verify_store(store))
    assert {finding.path for finding in found} == {"obs/contig/zarr.json", "obsm/zarr.json"}
    assert all(finding.remedy is Remedy.REWRITE for finding in found)
    assert repair(store, found) == ["metadata was written again"]
    assert list(verify_store(store)) == []
