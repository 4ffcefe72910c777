"""Stores become stores of the other kind: whole, cut short, grown since, and only in part."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from store.convert import convert_store
from store.errors import UsageError
from store.io.ragged import Ragged
from store.open import create_store, open_store
from store.schema import Model
from store.store import Store
from tests.rows import MODELS, append, embeddings, expected, filled_store, publish
from vnp.cli.main import main

pytestmark = pytest.mark.slow

KINDS = [(".zarr", ".h5"), (".h5", ".zarr"), (".h5", ".h5ad")]


def assert_same(source: Store, copy: Store) -> None:
    assert copy.schema == source.schema
    names = ("id", "contig", "sample", "start", "twin", "digest", "nucleotide", "protein")
    for name in (*names, *(["contig_length"] if source.schema.contig_lengths else [])):
        ours, theirs = source.column(name), copy.column(name)
        if isinstance(ours, Ragged):
            assert ours.tolist() == theirs.tolist()
        else:
            np.testing.assert_array_equal(ours, theirs)
    for model in source.schema.models:
        np.testing.assert_array_equal(source.read(model.name), copy.read(model.name))
        np.testing.assert_array_equal(source.filled(model.name), copy.filled(model.name))
        assert copy.provenance(model.name) == source.provenance(model.name)
        for block in range(source.n_blocks):
            ours, theirs = (
                source.certificate(model.name, block),
                copy.certificate(model.name, block),
            )
            if ours is None:
                assert theirs is None
                continue
            for field in ("rows", "worker", "epoch", "published", "details"):
                assert getattr(ours, field) == getattr(theirs, field)
    assert list(copy.verify()) == []


@pytest.mark.parametrize(("from_", "to"), KINDS)
def test_a_copy_is_the_same_and_so_is_the_way_back(tmp_path: Path, from_: str, to: str) -> None:
    source = filled_store(tmp_path / f"run{from_}", rows=57)
    done = convert_store(source, tmp_path / f"copy{to}")
    assert done.complete
    assert (done.rows, done.samples, done.blocks) == (57, 2, 8)
    copy = open_store(tmp_path / f"copy{to}")
    assert_same(source, copy)
    convert_store(copy, tmp_path / f"back{from_}")
    assert_same(source, open_store(tmp_path / f"back{from_}"))


def test_unfilled_rows_come_open(tmp_path: Path) -> None:
    source = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(source, "a", 40)
    publish(source, "small", 1)
    done = convert_store(source, tmp_path / "copy.h5")
    assert done.complete
    assert done.missing == {"small": 24, "wide": 40}
    copy = open_store(tmp_path / "copy.h5")
    assert copy.open_blocks("small").tolist() == [0, 2]
    assert copy.provenance("wide") is None


class StopAfter(logging.Handler):
    """Interrupts when more than so many messages are logged."""

    def __init__(self, messages: int) -> None:
        super().__init__()
        self.left = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_a_copy_that_was_cut_short_is_carried_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = filled_store(tmp_path / "run.zarr", rows=57)
    target = tmp_path / "copy.h5"
    steps = 0
    while True:
        stop = StopAfter(steps)
        logging.getLogger("store.convert").addHandler(stop)
        try:
            convert_store(source, target)
            break
        except KeyboardInterrupt:
            target_rows = open_store(target).n_rows
            assert target_rows in (38, 57)
            steps = 0 if steps == 0 and target_rows == 38 else steps + 1
        finally:
            logging.getLogger("store.convert").removeHandler(stop)
    assert_same(source, open_store(target))
    assert convert_store(source, target).blocks == 0


def test_a_source_that_grew_brings_the_rest(tmp_path: Path) -> None:
    source = filled_store(tmp_path / "run.zarr", rows=57)
    target = tmp_path / "copy.h5"
    convert_store(source, target)
    append(source, "third", 10)
    source.add_model(Model("late", 4))
    for model in ("small", "wide", "late"):
        for block in source.open_blocks(model).tolist():
            publish(source, model, block)
    assert convert_store(source, target).samples == 1
    assert_same(source, open_store(target))


def test_only_certified_rows(tmp_path: Path) -> None:
    source = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(source, "a", 40)
    append(source, "b", 25)
    for block in (0, 2, 3):
        publish(source, "small", block)
    for block in (0, 1, 2, 3):
        publish(source, "wide", block)
    done = convert_store(source, tmp_path / "copy.h5", only_certified=True)
    assert done.complete
    kept = np.r_[0:16, 32:64]
    copy = open_store(tmp_path / "copy.h5")
    assert [sample.stop for sample in copy.schema.samples] == [24, 48]
    np.testing.assert_array_equal(copy.read("small"), expected(source, "small")[kept])
    np.testing.assert_array_equal(copy.read("wide"), expected(source, "wide")[kept])
    ids = source.column("id").tolist()
    assert copy.column("id").tolist() == [ids[row] for row in kept]
    moved = copy.certificate("small", 1)
    assert moved is not None
    assert moved.details["copied_from_blocks"] == [2]
    assert all(copy.certify(model.name).complete for model in MODELS)
    publish(source, "small", 1)
    with pytest.raises(UsageError, match="sample a is not the rows"):
        convert_store(source, tmp_path / "copy.h5", only_certified=True)


def test_another_store_is_refused(tmp_path: Path) -> None:
    source = filled_store(tmp_path / "run.zarr", rows=40)
    other = create_store(tmp_path / "other.h5", models=MODELS, segment_length=500, block_rows=16)
    append(other, "x", 3)
    with pytest.raises(UsageError, match="sample x is not the rows"):
        convert_store(source, other.path)
    create_store(tmp_path / "blocks.h5", models=MODELS, segment_length=500, block_rows=8)
    with pytest.raises(UsageError, match="other models, blocks"):
        convert_store(source, tmp_path / "blocks.h5")
    with pytest.raises(UsageError, match="itself"):
        convert_store(source, source.path)


def test_damaged_blocks_are_named_and_left_open(tmp_path: Path) -> None:
    source = filled_store(tmp_path / "run.zarr", rows=40)
    path = source.path / "obsm/X_small/c.1.0"
    path.write_bytes(bytes(path.stat().st_size))
    done = convert_store(source, tmp_path / "copy.h5")
    assert not done.complete
    assert [line.split(":")[0] for line in done.damaged] == ["small block 1"]
    copy = open_store(tmp_path / "copy.h5")
    assert copy.open_blocks("small").tolist() == [1]
    np.testing.assert_array_equal(copy.read("small", 0, 16), embeddings(source, "small", 0))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled_store(tmp_path / "run.zarr", rows=40)
    assert main(["convert", str(tmp_path / "run.zarr"), str(tmp_path / "run.h5"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["blocks"], report["complete"]) == (40, 6, True)
