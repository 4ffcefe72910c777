"""HDF5 stores that other programs opened, changed or rewrote: no row is lost or locked out."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse

from store.claims.participant import Participant
from store.errors import BusyError, DamageError, DataError, NotAStoreError
from store.findings import Finding, Kind
from store.hdf5.commit import COMMIT_BYTES, FLAGS, crc_of, crc_of_spans, find_commit
from store.hdf5.file import read_map
from store.hdf5.home import GROUPS
from store.hdf5.layout import MAP
from store.io.checksummed_json import pack_record
from store.open import open_store
from store.repair import repair, verify_store
from store.store import Store
from tests.rows import append, embeddings, expected, filled_store, publish
from vnp.cli.main import main

pytestmark = pytest.mark.slow  # each look at a changed file is a process

ROWS, BLOCK = 40, 16
OPEN = 2  # block of model "small" that is not filled


def opened(path: Path) -> None:
    with h5py.File(path, "r+"):
        pass


def opened_to_append(path: Path) -> None:
    with h5py.File(path, "a", libver="latest"):
        pass


def killed_while_open(path: Path) -> None:
    code = f"import h5py, os; f = h5py.File({str(path)!r}, 'r+'); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes()[FLAGS[0]] == 1


def attribute_added(path: Path) -> None:
    with h5py.File(path, "r+") as tree:
        tree.attrs["note"] = "a note of ours " * 50


def column_added(path: Path) -> None:
    with h5py.File(path, "r+") as tree:
        anndata.io.write_elem(tree["obs"], "mine", np.arange(tree["obs/start"].shape[0]))
        listed = [*tree["obs"].attrs["column-order"], "mine"]
        tree["obs"].attrs["column-order"] = listed


def opened_by_anndata(path: Path) -> None:
    anndata.read_h5ad(path, backed="r+").file.close()


def written_by_anndata(path: Path) -> None:
    adata = anndata.read_h5ad(path, backed="r+")
    adata.obs["mine"] = 1.5
    adata.obsm["X_umap"] = np.ones((adata.n_obs, 2), np.float32)
    adata.uns["mine"] = "a note"
    adata.write()
    adata.file.close()


def obs_replaced(path: Path) -> None:
    obs = anndata.read_h5ad(path).obs.assign(mine=1.5)
    with h5py.File(path, "r+") as tree:
        anndata.io.write_elem(tree, "obs", obs)


def copied_object_by_object(path: Path) -> None:
    made = path.with_suffix(".copy")
    with h5py.File(path) as old, h5py.File(made, "w") as new:
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
    made.replace(path)


def repacked(path: Path) -> None:
    if shutil.which("h5repack") is None:
        pytest.skip("h5repack is not installed (Debian: hdf5-tools)")
    made = path.with_suffix(".copy")
    subprocess.run(["h5repack", str(path), str(made)], check=True)
    made.replace(path)


def map_damaged(path: Path) -> None:
    with h5py.File(path) as tree:
        at = tree[MAP].id.get_offset()
    with path.open("r+b") as file:
        file.seek(at + 20)
        file.write(b"\xff\xff\xff")


TOUCHED = (opened, opened_to_append, killed_while_open)
CHANGED = (
    attribute_added,
    column_added,
    opened_by_anndata,
    map_damaged,
    written_by_anndata,
    obs_replaced,
)
MOVED = (copied_object_by_object, repacked)


def without_map(store: Store) -> None:
    """Make the file one of those from before there was a map: an index beyond the end."""
    known = read_map(store.path)
    with store.path.open("r+b") as file:
        at, _ = find_commit(file.fileno())
        raw = store.path.read_bytes()
        spans = np.vstack([[FLAGS], known.places.spans])  # these files checked the flags too
        index = spans.astype("<i8").tobytes()
        record = {
            name: value
            for name, value in asdict(known.commit).items()
            if not name.startswith(("map_", "has_map"))
        }
        record |= {
            "end": len(raw) + len(index),
            "index_at": len(raw),
            "index_crc32c": crc_of(index),
            "metadata_crc32c": crc_of_spans(lambda first, size: raw[first : first + size], spans),
        }
        file.seek(at)
        file.write(pack_record(record, size=COMMIT_BYTES))
        file.seek(len(raw))
        file.write(index)


@pytest.fixture(params=["with a map", "of an earlier version"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    made = filled_store(tmp_path / "run.h5", rows=ROWS, block_rows=BLOCK)
    made.reopen("small", OPEN)
    scores = np.linspace(0, 1, 2 * ROWS, dtype=np.float32).reshape(ROWS, 2)
    made.save_scores("viral", digest="d", values=scores, rows=[(0, ROWS)], replace=False)
    if request.param != "with a map":
        without_map(made)
    return open_store(made.path)


def check_rows(path: Path, *, samples: tuple[str, ...] = ("first", "second")) -> Store:
    """Every row, block and score of the store that the fixture makes can be read."""
    store = open_store(path)
    assert tuple(sample.name for sample in store.schema.samples) == samples
    assert store.column("nucleotide").tolist()[:ROWS] == ORIGINAL["nucleotide"]
    assert store.column("id").tolist()[:ROWS] == ORIGINAL["id"]
    assert store.column("end").tolist()[:ROWS] == ORIGINAL["end"]
    assert store.column("contig_length").tolist()[:ROWS] == ORIGINAL["contig_length"]
    np.testing.assert_array_equal(store.read("wide", 0, ROWS), expected(store, "wide")[:ROWS])
    small = expected(store, "small")[: OPEN * BLOCK]
    np.testing.assert_array_equal(store.read("small", 0, OPEN * BLOCK), small)
    assert store.scores("viral")[:ROWS, 1].tolist() == ORIGINAL["scores"]
    return store


ORIGINAL: dict[str, list[object]] = {}


@pytest.fixture(autouse=True)
def _original(store: Store) -> None:
    names = ("id", "contig_length", "nucleotide", "end")
    ORIGINAL.update({name: store.column(name).tolist() for name in names})
    ORIGINAL["scores"] = store.scores("viral")[:, 1].tolist()


def findings_of(path: Path) -> list[Finding]:
    return [found for found in verify_store(open_store(path)) if found.path == "metadata"]


@pytest.mark.parametrize("touch", TOUCHED)
def test_a_file_that_was_only_opened_is_as_it_was(
    store: Store, touch: Callable[[Path], None]
) -> None:
    has_map = open_store(store.path)._backend._map.commit.has_map
    touch(store.path)
    check_rows(store.path)
    kinds = {found.kind for found in findings_of(store.path)}
    assert kinds == (set() if has_map else {Kind.CHANGED})


@pytest.mark.parametrize("touch", TOUCHED + CHANGED)
def test_a_changed_file_is_read_filled_and_appended_to(
    store: Store, touch: Callable[[Path], None]
) -> None:
    touch(store.path)
    after = check_rows(store.path)
    publish(after, "small", OPEN)
    assert after.open_blocks("small").tolist() == []
    append(after, "third", 20)
    after = check_rows(store.path, samples=("first", "second", "third"))
    assert after.open_blocks("wide").tolist() == [OPEN, OPEN + 1]
    assert findings_of(store.path) == [], "the append has adopted the change"


@pytest.mark.parametrize("touch", CHANGED)
def test_repair_adopts_a_change_and_keeps_it(store: Store, touch: Callable[[Path], None]) -> None:
    touch(store.path)
    found = findings_of(store.path)
    assert [each.is_damage for each in found] in ([], [False])
    repair(open_store(store.path), found)
    assert findings_of(store.path) == []
    check_rows(store.path)
    with h5py.File(store.path) as tree:
        assert ("note" in tree.attrs) == (touch is attribute_added)
        by_them = (column_added, written_by_anndata, obs_replaced)
        assert ("mine" in tree["obs"]) == (touch in by_them)


@pytest.mark.parametrize("touch", MOVED)
def test_a_file_that_was_written_anew_is_read(store: Store, touch: Callable[[Path], None]) -> None:
    touch(store.path)
    [found] = findings_of(store.path)
    assert (found.kind, found.is_damage) == (Kind.CHANGED, False)
    moved = check_rows(store.path)
    with pytest.raises(DamageError, match="verify --repair"):
        publish(moved, "small", OPEN)
    repair(moved, [found])
    publish(check_rows(store.path), "small", OPEN)
    assert list(verify_store(open_store(store.path))) == []


@pytest.mark.parametrize("touch", MOVED)
def test_an_append_makes_a_file_ours_again(store: Store, touch: Callable[[Path], None]) -> None:
    touch(store.path)
    append(open_store(store.path), "third", 20)
    after = check_rows(store.path, samples=("first", "second", "third"))
    publish(after, "small", OPEN)
    adata = anndata.read_h5ad(store.path)
    np.testing.assert_array_equal(adata.obsm["X_wide"][:ROWS], expected(after, "wide")[:ROWS])


def test_a_file_in_the_way_of_the_library_is_read_and_made_anew(store: Store) -> None:
    if not store._backend._map.commit.has_map:
        pytest.skip("only the library knows where the chunks of such a file are")
    with store.path.open("r+b") as file:
        file.seek(8)
        file.write(b"\xee" * 12)  # the superblock
    check = open_store(store.path)
    np.testing.assert_array_equal(check.read("wide"), expected(check, "wide"))
    assert check.column("nucleotide").tolist() == ORIGINAL["nucleotide"]
    [found] = findings_of(store.path)
    assert found.is_damage
    with pytest.raises(DamageError, match="verify --repair"):
        append(check, "third", 20)
    repair(check, [found])
    after = open_store(store.path)
    assert [each for each in verify_store(after) if each.is_damage] == []
    np.testing.assert_array_equal(after.read("wide"), expected(after, "wide"))
    assert after.open_blocks("small").tolist() == [OPEN]


def test_rows_that_cannot_be_read_keep_a_file_from_being_made_anew(store: Store) -> None:
    if not store._backend._map.commit.has_map:
        pytest.skip("only the library knows where the chunks of such a file are")
    at = int(store._backend._map.chunks["obs/start"][1])
    with store.path.open("r+b") as file:
        file.seek(8)
        file.write(b"\xee" * 12)
        file.seek(at)
        file.write(b"\x55")
    before = store.path.read_bytes()
    with pytest.raises(DamageError, match="obs/start block 1"):
        repair(open_store(store.path), findings_of(store.path))
    assert store.path.read_bytes() == before
    assert not any(store.sidecar.tmp.iterdir())


def test_a_file_is_not_made_anew_under_a_working_worker(store: Store) -> None:
    copied_object_by_object(store.path)
    with Participant(store.sidecar.path) as participant:
        claim = participant.claims.try_claim("small", OPEN)
        assert claim is not None
        with pytest.raises(BusyError, match="claimed by"):
            append(open_store(store.path), "third", 20)
        claim.release()
    append(open_store(store.path), "third", 20)


def test_a_worker_does_not_write_into_another_file_of_the_name(store: Store) -> None:
    values = embeddings(store, "small", OPEN)
    shutil.copy(store.path, store.path.with_suffix(".other"))
    store.path.with_suffix(".other").replace(store.path)
    before = store.path.read_bytes()
    with pytest.raises(DamageError, match="was replaced by another file"):
        publish(store, "small", OPEN)
    assert store.path.read_bytes() == before
    publish(open_store(store.path), "small", OPEN)
    np.testing.assert_array_equal(open_store(store.path).read("small", OPEN * BLOCK), values)


@pytest.mark.parametrize("touch", [written_by_anndata, obs_replaced])
def test_columns_that_anndata_wrote_stay(store: Store, touch: Callable[[Path], None]) -> None:
    touch(store.path)
    repair(open_store(store.path), findings_of(store.path))
    check_rows(store.path)
    assert not list(verify_store(open_store(store.path)))
    adata = anndata.read_h5ad(store.path)
    assert (adata.obs["mine"] == 1.5).all()
    if touch is written_by_anndata:
        assert adata.uns["mine"] == "a note"
        assert adata.obsm["X_umap"].shape == (ROWS, 2)
    append(open_store(store.path), "third", 5)
    adata = anndata.read_h5ad(store.path)
    assert adata.n_obs == ROWS + 5
    assert "mine" not in adata.obs, "it has no value for the new rows"
    assert list(adata.obsm) == ["X_merged", "X_small", "X_wide"]
    with h5py.File(store.path) as tree:
        assert (tree["obs/mine"][:] == 1.5).all()
        if touch is written_by_anndata:
            assert tree["obs/vnp/obsm_of_fewer_rows/X_umap"].shape == (ROWS, 2)


def test_what_anndata_writes_in_place_of_an_earlier_store_is_called_by_its_name(
    store: Store,
) -> None:
    with h5py.File(store.path, "r+") as tree:
        del tree.attrs["vnp_groups"]  # earlier versions had none, and counted links
        addresses = [h5py.h5o.get_info(tree[name].id).addr for name in GROUPS]
    with store.path.open("r+b") as file:
        for at in addresses:
            file.seek(at + 4)
            file.write((1).to_bytes(4, "little"))
    written_by_anndata(store.path)
    with pytest.raises(NotAStoreError, match="AnnData's write"):
        open_store(store.path)


def test_status_says_that_another_program_removed_data(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    if not read_map(store.path).commit.has_map:
        pytest.skip("only the library knows where the chunks of such a file are")
    with h5py.File(store.path, "r+") as tree:
        del tree["obsm/X_wide"]
    assert main(["status", str(store.path)]) == 0
    said = capsys.readouterr().out
    assert "warning: " in said
    assert "'vnp verify' says what that means" in said


def test_a_compressed_file_is_refused_with_the_command_that_helps(store: Store) -> None:
    if shutil.which("h5repack") is None:
        pytest.skip("h5repack is not installed (Debian: hdf5-tools)")
    made = store.path.with_suffix(".copy")
    subprocess.run(["h5repack", "-f", "GZIP=1", str(store.path), str(made)], check=True)
    made.replace(store.path)
    with pytest.raises(DataError, match="h5repack -f NONE"):
        open_store(store.path)


def test_what_anndata_writes_a_second_time_is_what_stays(store: Store) -> None:
    for value in (1.5, 2.5):
        adata = anndata.read_h5ad(store.path, backed="r+")
        adata.obs["mine"] = value
        adata.obsm["X_umap"] = np.full((adata.n_obs, 2), value, np.float32)
        adata.uns["mine"] = value
        adata.write()
        adata.file.close()
        repair(open_store(store.path), findings_of(store.path))
    check_rows(store.path)
    adata = anndata.read_h5ad(store.path)
    assert (adata.obs["mine"] == 2.5).all()
    assert (adata.obsm["X_umap"] == 2.5).all()
    assert adata.uns["mine"] == 2.5


def test_arrays_of_any_kind_stay_until_rows_are_appended(store: Store) -> None:
    adata = anndata.read_h5ad(store.path, backed="r+")
    adata.obsm["sparse"] = scipy.sparse.csr_matrix(np.eye(ROWS, dtype=np.float32))
    adata.obs.index.name = "record"
    adata.obsm["frame"] = adata.obs[["start"]].copy()
    adata.obsp["near"] = scipy.sparse.csr_matrix(np.eye(ROWS, dtype=np.float32))
    adata.layers["none"] = np.empty((ROWS, 0), np.float32)
    adata.write()
    adata.file.close()
    repair(open_store(store.path), findings_of(store.path))
    adata = anndata.read_h5ad(store.path)
    assert {"sparse", "frame"} <= set(adata.obsm)
    append(open_store(store.path), "third", 5)
    for adata in (anndata.read_h5ad(store.path), anndata.read_h5ad(store.path, backed="r")):
        assert adata.n_obs == ROWS + 5
        assert list(adata.obsm) == ["X_merged", "X_small", "X_wide"]
        assert not adata.obsp
        assert not adata.layers
    with h5py.File(store.path) as tree:
        assert "near" in tree["obs/vnp/obsp_of_fewer_rows"]
        assert "none" in tree["obs/vnp/layers_of_fewer_rows"]


def test_names_of_anndata_do_not_replace_the_ids(store: Store) -> None:
    adata = anndata.read_h5ad(store.path, backed="r+")
    adata.obs_names = [f"renamed{row}" for row in range(adata.n_obs)]
    adata.obs["contig"] = "another"  # AnnData writes it as a categorical: a group
    adata.write()
    adata.file.close()
    check_rows(store.path)
    append(open_store(store.path), "third", 20)
    check_rows(store.path, samples=("first", "second", "third"))


def test_readers_see_nothing_of_it(store: Store) -> None:
    append(store, "third", 5)
    with h5py.File(store.path) as tree:
        assert sorted(tree) == ["X", "obs", "obsm", "uns", "var"]
        assert anndata.experimental.read_lazy(tree).n_obs == ROWS + 5
    assert open_store(store.path).to_anndata().n_obs == ROWS + 5
