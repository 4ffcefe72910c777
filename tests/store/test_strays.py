"""What lies in a store or beside it and is not vnp's is named, never touched; leftovers go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from store.errors import UsageError
from store.findings import Finding, Kind, Remedy
from store.open import create_store, open_store
from store.repair import repair, verify_store
from store.schema import Model
from store.store import Store
from store.zarr.metadata import documents
from tests.rows import MODELS, append, embeddings, filled_store
from tests.store.test_mishaps import contents
from vnp.cli.main import main

pytestmark = pytest.mark.slow

FOREIGN = [
    "obsm/X_small/c.0.0.bak",
    "obsm/X_small/c.0.0 (conflicted copy)",
    "obsm/X_small/c.0.1",  # not a chunk of one band
    "obsm/X_small/c.00.0",
    "obsm/X_small/c.0.0~",
    "obsm/X_small/.c.0.0.swp",
    "obs/start/.nfs000000000123",
    "obs/start/c.٣",  # a digit, but not one of ours
    "obs/start/c.9999999999999999999",
    ".DS_Store",
    "obs/.DS_Store",
    "notes about this run.txt",
    "obsm/X_umap/c.0.0",
    "obsm/X_umap/zarr.json",
    "obs/mine_score1/c.0",
    "obs/start/old/c.0",
]
BESIDE = [
    "notes.txt",
    "tmp/my notes.txt",
    "tmp/.c.0.0.part",
    "workers/README",
    "claims/small/0.1.bak",
    "claims/small/00.1",
    "claims/notes",
]


def write(path: Path, text: str = "somebody's own") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "run.zarr", rows=40)


def repaired(store: Store) -> list[Finding]:
    repair(store, list(verify_store(store)))
    return list(verify_store(open_store(store.path)))


def test_foreign_files_are_named_and_never_touched(store: Store) -> None:
    for name in FOREIGN:
        write(store.path / name)
    for name in BESIDE:
        write(store.sidecar.path / name)
    before = contents(store.path), contents(store.sidecar.path / "tmp")
    found = list(verify_store(store))
    assert {finding.kind for finding in found} == {Kind.FOREIGN}
    assert {finding.remedy for finding in found} == {Remedy.NOTHING}
    named = {finding.path for finding in found}
    folders = {"obsm/X_umap/", "obs/mine_score1/", "obs/start/old/"}
    assert {name for name in FOREIGN if not name.startswith(tuple(folders))} <= named
    assert folders <= named
    assert {f"run.zarr.vnp/{name}" for name in BESIDE} <= named
    assert repaired(store) == found
    assert (contents(store.path), contents(store.sidecar.path / "tmp")) == before


def test_a_store_with_foreign_files_is_healthy(store: Store) -> None:
    write(store.path / "obsm/X_small/c.0.0.bak")
    assert main(["verify", str(store.path)]) == 0
    assert main(["verify", str(store.path), "--repair"]) == 0
    assert (store.path / "obsm/X_small/c.0.0.bak").exists()


def test_foreign_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere / "c.7")
    (store.path / "obs/linked_score1").symlink_to(elsewhere)
    shutil.rmtree(store.path / "obs/start")
    shutil.copytree(store.path / "obs/end", store.path.parent / "start")
    write(store.path.parent / "start/c.7")
    (store.path / "obs/start").symlink_to(store.path.parent / "start")
    repaired(store)
    assert (elsewhere / "c.7").exists()
    assert (store.path.parent / "start/c.7").exists(), "a link could lead anywhere"


def test_what_vnp_wrote_for_no_committed_row_is_removed(store: Store) -> None:
    ours = ["obs/start/c.7", "obsm/X_small/c.9.0", f"obs/start/.c.0.{'0' * 32}.part"]
    for name in ours:
        write(store.path / name)
    beside = [f".c.0.0.{'a' * 32}.part", f"append-{'b' * 32}/3", f"scores-{'c' * 32}"]
    for name in beside:
        write(store.sidecar.tmp / name)
    found = list(verify_store(store))
    assert {finding.kind for finding in found} == {Kind.ORPHAN}
    assert repaired(store) == []
    assert not any((store.path / name).exists() for name in ours)
    assert os.listdir(store.sidecar.tmp) == []


@pytest.mark.parametrize("rows", [40, 75])
def test_files_of_a_model_that_was_never_committed_are_removed(store: Store, rows: int) -> None:
    """Also if rows were appended, or the sidecar was deleted, after the kill."""
    late = documents(store.schema.with_model(Model("late", 12)))
    for name in set(late) - set(documents(store.schema)):
        write(store.path / name, late[name].decode())
    if rows > 40:
        append(store, "more", rows - 40)
    shutil.rmtree(store.sidecar.path)
    found = [finding for finding in verify_store(open_store(store.path)) if "late" in finding.path]
    assert {finding.kind for finding in found} == {Kind.ORPHAN}
    assert len(found) == 4
    assert [finding for finding in repaired(store) if "late" in finding.path] == []
    assert list(store.path.rglob("*late*")) == []


def test_embeddings_of_a_model_that_the_root_does_not_list_are_kept(store: Store) -> None:
    """The root was restored from a copy of before the model was added."""
    root = (store.path / "zarr.json").read_bytes()
    store.add_model(Model("late", 4))
    from tests.rows import publish

    publish(store, "late", 0)
    values = embeddings(store, "late", 0)
    after = (store.path / "zarr.json").read_bytes()
    (store.path / "zarr.json").write_bytes(root)
    repaired(open_store(store.path))
    (store.path / "zarr.json").write_bytes(after)
    assert (open_store(store.path).read("late", 0, 16) == values).all()


def test_a_users_array_under_a_name_like_ours_is_left(store: Store) -> None:
    late = documents(store.schema.with_model(Model("late", 12)))
    changed = late["obsm/X_late/zarr.json"].replace(b"crc32c", b"crc99c")
    write(store.path / "obsm/X_late/zarr.json", changed.decode())
    write(store.path / "obs/my_score1/zarr.json", "{}")
    assert {finding.kind for finding in repaired(store)} == {Kind.FOREIGN}
    assert (store.path / "obsm/X_late/zarr.json").read_bytes() == changed


def test_a_directory_in_the_place_of_a_chunk_is_said_and_kept(tmp_path: Path) -> None:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 40)
    from tests.rows import publish

    publish(store, "small", 0)
    chunk = store.path / "obsm/X_small/c.0.0"
    chunk.unlink()
    write(chunk / "mine.txt")
    done = repair(store, list(verify_store(store)))
    assert any("NOT done" in line and "move it away" in line for line in done)
    assert (chunk / "mine.txt").read_text() == "somebody's own"


@pytest.mark.parametrize("content", ["{}", None])
def test_a_users_array_in_the_way_of_a_new_one_is_not_replaced(
    store: Store, content: str | None
) -> None:
    """Scores or a model of that name would lie where somebody keeps an array already."""
    for folder, chunk in (("obs/phage_score1", "c.0"), ("obsm/X_late", "c.0.0")):
        write(store.path / folder / chunk, "somebody's own chunk")
        if content is not None:
            write(store.path / folder / "zarr.json", content)
    before = contents(store.path)
    scores = np.zeros((40, 2), np.float32)
    with pytest.raises(UsageError, match="obs/phage_score1 is there already and is not vnp's"):
        store.save_scores("phage", digest="sha256:1", values=scores, rows=[(0, 40)])
    with pytest.raises(UsageError, match="obsm/X_late is there already and is not vnp's"):
        store.add_model(Model("late", 4))
    assert contents(store.path) == before


def test_a_users_file_among_replaced_scores_stays(store: Store) -> None:
    for digest in ("sha256:1", "sha256:2"):
        scores = np.full((40, 2), int(digest[-1]), np.float32)
        store.save_scores("phage", digest=digest, values=scores, rows=[(0, 40)], replace=True)
        write(store.path / "obs/phage_score1/c.0.bak")
    assert (store.path / "obs/phage_score1/c.0.bak").exists()
    assert (store.scores("phage") == 2).all()
    assert {finding.kind for finding in store.verify()} == {Kind.FOREIGN}
