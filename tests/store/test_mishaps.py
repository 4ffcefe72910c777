"""Mishaps that once lost or invented rows; each must stay harmless."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store.claims.claims import APPEND
from store.claims.participant import Participant
from store.errors import AfterCommitError, ClaimLostError, DamageError, NotAStoreError, UsageError
from store.io.files import DiskFullError, publish_replace
from store.open import create_store
from store.repair import reopen_damaged, repair, verify_store
from store.schema import Model, from_attribute, to_attribute
from store.store import Store
from store.zarr import transaction
from store.zarr.metadata import ROOT_DOCUMENT
from tests.rows import MODELS, append, batch, commit, filled_store
from tests.vnp.embed.test_worker import assert_whole, work
from vnp.embed.encoders import ModelMismatchError

pytestmark = pytest.mark.slow


def contents(path: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 40)
    return store


@contextmanager
def failing_root(
    monkeypatch: pytest.MonkeyPatch, *, after: bool, error: BaseException
) -> Iterator[None]:
    """Let the renaming of the root fail, before it is done or right after."""

    def fail(tmp_dir: Path, target: Path, data: list[bytes], **options: Any) -> None:
        if target.name == ROOT_DOCUMENT and target.parent.name == "run.zarr":
            if after:
                publish_replace(tmp_dir, target, data, **options)
            raise error
        publish_replace(tmp_dir, target, data, **options)

    with monkeypatch.context() as patched:
        patched.setattr(transaction, "publish_replace", fail)
        yield


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left")])
def test_an_append_that_fails_at_the_commit_leaves_every_byte(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before = contents(store.path)
    kind = DiskFullError if isinstance(error, OSError) else KeyboardInterrupt
    with failing_root(monkeypatch, after=False, error=error), pytest.raises(kind) as raised:
        append(store, "b", 50)
    if kind is DiskFullError:
        assert "run.zarr could not be written: No space left" in str(raised.value)
        assert str(raised.value).endswith("The store is as it was.")
    assert contents(store.path) == before
    append(store, "b", 50)
    assert list(store.verify()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_an_error_right_after_the_commit_loses_no_row(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    kind = AfterCommitError if isinstance(error, OSError) else KeyboardInterrupt
    with failing_root(monkeypatch, after=True, error=error), pytest.raises(kind) as raised:
        append(store, "b", 50)
    if kind is AfterCommitError:
        assert "is committed: do not repeat it" in str(raised.value)
    assert store.snapshot().n_rows == 90
    assert list(store.snapshot().verify()) == []
    assert store.snapshot().column("id", 40).tolist() == batch("b", 0, 50).id.tolist()


def test_an_appender_that_lost_its_lock_spoils_nothing(store: Store) -> None:
    with store.appending() as frozen:
        frozen.write(batch("b", 0, 100))
        # Another appender finds it dead, takes the lock over and commits.
        (store.sidecar.path / "claims" / APPEND / "1.2").unlink(missing_ok=True)
        thief = store.snapshot()
        claims = store.sidecar.path / "claims" / APPEND
        epoch = max(int(p.name.split(".")[1]) for p in claims.glob("0.*"))
        (claims / f"0.{epoch}.released").write_bytes(b"")
        append(thief, "c", 60)
        after = contents(store.path)
        with pytest.raises((ClaimLostError, OSError, DamageError)):
            commit(frozen, "b", 100)
    assert contents(store.path) == after
    assert [sample.name for sample in store.snapshot().schema.samples] == ["a", "c"]
    assert list(store.snapshot().verify()) == []


@pytest.mark.slow
def test_repair_leaves_an_append_alone(store: Store) -> None:
    (store.path / "obs/start/c.9").write_bytes(b"left by a crash of long ago")
    with store.appending() as appending:
        appending.write(batch("b", 0, 100))
        done = repair(store.snapshot(), list(verify_store(store.snapshot())))
        assert any("nothing was removed" in line for line in done)
        commit(appending, "b", 100)
    kinds = [finding.path for finding in store.snapshot().verify()]
    assert kinds == ["obs/start/c.9"]
    repair(store.snapshot(), list(verify_store(store.snapshot())))
    assert list(store.snapshot().verify()) == []


def test_repair_leaves_what_is_not_ours(store: Store) -> None:
    mine = store.path / "obsm/X_umap/c.0.0"
    mine.parent.mkdir()
    mine.write_bytes(b"a user's own array")
    repair(store, list(verify_store(store)))
    assert mine.read_bytes() == b"a user's own array"


def test_a_damaged_filled_chunk_is_not_certified(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    path = store.path / "obs/filled_small/c.0"  # of a block that never was the tail
    path.write_bytes(path.read_bytes()[:3])
    assert [block for block, _ in store.certify("small").failed] == [0]
    with pytest.raises(DamageError, match="small block 0"):
        store.read("small")


def test_a_chunk_of_another_block_is_never_taken_over(tmp_path: Path) -> None:
    """Repair is killed half way through opening a block whose chunk is another block's."""
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 40)
    work(store)
    shutil.copyfile(store.path / "obsm/X_small/c.0.0", store.path / "obsm/X_small/c.1.0")
    (store.path / "obs/filled_small/c.1").unlink()  # and here it was killed
    work(store)
    assert_whole(store)


def test_a_block_healed_meanwhile_is_not_opened(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    before = contents(store.path)
    with Participant(store.sidecar.path) as participant:
        said = reopen_damaged(store, model="small", block=1, claims=participant.claims)
    assert "repaired meanwhile" in said
    assert contents(store.path) == before


def test_a_lost_provenance_is_recorded_again_by_the_certified_model_only(
    store: Store,
) -> None:
    from tests.vnp.embed.stub_worker import StubEncoder
    from vnp.inference.encoder import Provenance

    class Other(StubEncoder):
        def provenance(self) -> Provenance:
            return Provenance({"model": self.name, "weights": "others"}, {})

    work(store)
    blocks = contents(store.path / "obsm")
    (store.path / "uns/vnp/small/c").write_bytes(b"\0" * 40)
    repair(store, list(verify_store(store)))
    append(store, "b", 10)
    with pytest.raises(ModelMismatchError, match="provenance is lost"):
        work(store, encoder=Other)
    work(store)
    assert_whole(store)
    assert (
        contents(store.path / "obsm").items()
        >= {p: raw for p, raw in blocks.items() if p.name in ("c.0.0", "c.1.0")}.items()
    ), "only the tail, which grew, was embedded again"


def test_a_provenance_without_identity_accepts_no_model(store: Store) -> None:
    store.pin_provenance("small", {})
    with pytest.raises(ModelMismatchError, match="None in the store"):
        work(store)


def test_imported_embeddings_are_added_to_with_a_word(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    origin = {"identity": {}, "environment": {"imported": "VirNucPro result files"}}
    store.pin_provenance("small", origin)
    store.pin_provenance("wide", origin)
    report = work(store)
    assert any("were imported" in line for line in caplog.messages)
    assert any("were imported" in line for line in report.fallbacks)
    assert_whole(store)


HOSTILE = {
    "rows run away": lambda v: v["samples"][0].update(stop=10**30),
    "rows run backwards": lambda v: v["samples"][0].update(stop=-3),
    "rows have a gap": lambda v: v["samples"][0].update(start=7),
    "block of text": lambda v: v.update(block_rows="16"),
    "endless block": lambda v: v.update(block_rows=float("inf")),
    "huge block": lambda v: v.update(block_rows=10**12),
    "path as model": lambda v: v["models"][0].update(name="../../etc"),
    "the lock as model": lambda v: v["models"][0].update(name="append"),
    "huge model": lambda v: v["models"][0].update(dim=10**15),
    "path as sample": lambda v: v["samples"][0].update(name="../x"),
    "samples of one name": lambda v: v["samples"].append({**v["samples"][0], "start": 40}),
    "no list": lambda v: v.update(models=7),
    "format 3: rows run away": lambda v: v["samples"].update(rows=10**30),
    "format 3: fewer than none": lambda v: v["samples"].update(count=-1),
    "format 3: half a sample": lambda v: v["samples"].update(count=0.5),
    "format 3: samples without end": lambda v: v["samples"].update(count=10**30),
    "format 3: no chain": lambda v: v["samples"].update(chain=7),
    "format 3: a list": lambda v: v.update(samples=[]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_schema_is_one_clear_error(store: Store, what: str) -> None:
    schema = store.schema
    if not what.startswith("format 3"):  # in formats 1 and 2 the samples are in the root
        schema = replace(schema, samples=tuple(schema.samples))
    value = json.loads(json.dumps(to_attribute(schema)))
    del value["crc32c"]
    HOSTILE[what](value)
    from store.schema import _checksum

    value["crc32c"] = _checksum({k: v for k, v in value.items() if k != "crc32c"})
    with pytest.raises(NotAStoreError, match="wrong form"):
        from_attribute(value, where="run.zarr")


@pytest.mark.parametrize("place", ["root", "claim", "heartbeat", "certificate"])
def test_json_nested_without_end_is_no_traceback(store: Store, place: str) -> None:
    deep = "[" * 100_000
    work(store)
    if place == "root":
        (store.path / "zarr.json").write_text(deep)
        with pytest.raises(NotAStoreError, match="nested too deeply"):
            store.refresh()
        return
    if place == "claim":
        claims = store.sidecar.path / "claims/small"
        (claims / "0.7").write_text(deep)
    elif place == "heartbeat":
        (store.sidecar.path / "workers" / ("a" * 32)).write_text(deep[:4000])
    else:
        from store.io.ragged import from_items
        from store.layout import certificate_column
        from store.zarr.codec import encode_strings

        column = certificate_column(store.schema, store.schema.model("small"))
        (store.path / column.chunk_key(0)).write_bytes(
            encode_strings(from_items([deep.encode()]), column=column)
        )
        assert [block for block, _ in store.certify("small").failed] == [0]
    from vnp.embed.status import read_status

    assert read_status(store).rows == 40
    assert isinstance(list(verify_store(store)), list)


def test_limits_of_models_and_blocks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="append"):
        Model("append", 3)
    with pytest.raises(UsageError, match="block_rows"):
        create_store(tmp_path / "x.zarr", models=MODELS, segment_length=500, block_rows=10**12)


def test_a_folder_with_our_module_names_is_not_run(tmp_path: Path) -> None:
    """``vnp embed`` starts workers in the user's folder; a file there is data, not code."""
    from vnp.embed.config import WorkerConfig
    from vnp.embed.supervisor import _start, environment

    planted = tmp_path / "queue.py"
    planted.write_text("raise SystemExit('this code ran')")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        process = _start(tmp_path / "none.zarr", WorkerConfig(device="cpu", threads=1))
    finally:
        os.chdir(here)
    _, errors = process.communicate(timeout=60)
    assert "this code ran" not in errors
    assert "is not a vnp store" in errors
    assert environment()["PYTHONPATH"]
