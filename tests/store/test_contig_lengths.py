"""The column of contigs' lengths: in stores of format 4, absent in earlier ones."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

from store import schema as schemas
from store.convert import convert_store
from store.errors import DamageError, UsageError
from store.findings import Kind
from store.open import create_store, open_store
from store.repair import repair, verify_store
from store.store import Store
from tests.rows import MODELS, append, batch, commit, publish

KINDS = pytest.mark.parametrize("kind", ["zarr", "h5"])
ROWS = 21


def made(path: Path, *, lengths: bool = True) -> Store:
    store = create_store(
        path, models=MODELS, segment_length=500, block_rows=16, contig_lengths=lengths
    )
    append(store, "a", ROWS)
    return store


def lengths_of(store: Store, start: int = 0, stop: int | None = None) -> list[int]:
    return np.asarray(store.column("contig_length", start, stop)).tolist()


def of_rows(count: int, first: int = 0) -> list[int]:
    found = batch("x", first, count).contig_length
    assert found is not None
    return found.tolist()


def obs(store: Store) -> list[str]:
    read = anndata.read_zarr if store.path.suffix == ".zarr" else anndata.read_h5ad
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(read(store.path).obs)


@KINDS
def test_appends_go_on_with_them(tmp_path: Path, kind: str) -> None:
    store = made(tmp_path / f"run.{kind}")
    before = open_store(store.path)
    append(store, "b", 0)
    append(store, "c", 40)
    store = open_store(store.path)
    assert lengths_of(store) == of_rows(ROWS) + of_rows(40)
    assert lengths_of(store, 15, 23) == of_rows(ROWS)[15:] + of_rows(2)
    assert lengths_of(before) == of_rows(ROWS), "of its own commit"
    assert list(store.verify()) == []
    assert "contig_length" in store.to_pandas(slice(0, 3))
    assert obs(store)[:4] == ["sample", "contig", "contig_length", "segment"]


@KINDS
def test_rows_without_them_are_refused(tmp_path: Path, kind: str) -> None:
    store = made(tmp_path / f"run.{kind}")

    def lacking() -> None:
        with store.appending() as appending:
            appending.write(replace(batch("b", 0, 9), contig_length=None))

    with pytest.raises(UsageError, match=f"run.{kind} keeps contig_length, and these rows"):
        lacking()
    assert open_store(store.path).n_rows == ROWS
    assert list(store.verify()) == []


@KINDS
def test_a_store_without_them_stays_without(tmp_path: Path, kind: str) -> None:
    store = made(tmp_path / f"run.{kind}", lengths=False)
    append(store, "b", 13)
    with store.appending() as appending:
        appending.write(replace(batch("c", 0, 9), contig_length=None))
        commit(appending, "c", 9)
    store = open_store(store.path)
    assert store.n_rows == ROWS + 13 + 9
    assert schemas.to_attribute(store.schema)["format"] == (3 if kind == "zarr" else 1)
    with pytest.raises(UsageError, match="no column 'contig_length'"):
        store.column("contig_length")
    assert list(store.verify()) == []
    assert "contig_length" not in [*store.to_pandas(slice(0, 3)), *obs(store)]


@KINDS
def test_damage_is_named_and_not_read(tmp_path: Path, kind: str) -> None:
    store = made(tmp_path / f"run.{kind}")
    if kind == "zarr":
        path = store.path / "obs/contig_length/c.0"
        at = 9
    else:
        path = store.path
        with h5py.File(path) as file:
            at = file["obs/contig_length"].id.get_chunk_info(0).byte_offset + 9
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    store = open_store(store.path)
    with pytest.raises(DamageError, match="run 'vnp verify'"):
        store.column("contig_length")
    found = [each for each in store.verify() if "contig_length" in each.path]
    assert [each.kind for each in found] == [Kind.DAMAGED]
    assert store.column("start").tolist() == batch("a", 0, ROWS).start.tolist()


def test_an_index_that_is_damaged_hides_none(tmp_path: Path) -> None:
    """The map says where they lie, not the structures of the HDF5 library."""
    store = made(tmp_path / "run.h5")
    with h5py.File(store.path) as file:
        header = h5py.h5o.get_info(file["obs/contig_length"].id).addr
    content = bytearray(store.path.read_bytes())
    content[header + 0x58] ^= 1  # the byte order of the numbers, to the library
    store.path.write_bytes(content)
    store = open_store(store.path)
    assert lengths_of(store) == of_rows(ROWS)
    assert [found.is_damage for found in verify_store(store)] == [True]
    repair(store, list(verify_store(store)))
    store = open_store(store.path)
    assert lengths_of(store) == of_rows(ROWS)
    assert list(verify_store(store)) == []


@pytest.mark.slow
def test_a_file_that_another_program_took_them_out_of_is_rebuilt(tmp_path: Path) -> None:
    store = made(tmp_path / "run.h5")
    publish(store, "small", 0)
    with h5py.File(store.path, "r+") as file:
        del file["obs/contig_length"]
    store = open_store(store.path)
    assert repair(store, list(verify_store(store)))
    store = open_store(store.path)
    assert lengths_of(store) == of_rows(ROWS)
    assert not [found for found in verify_store(store) if found.is_damage]
    append(store, "b", 13)
    assert open_store(store.path).n_rows == ROWS + 13


@pytest.mark.slow
@pytest.mark.parametrize(("from_", "to"), [("zarr", "h5"), ("h5", "zarr")])
def test_conversions_keep_what_there_is(tmp_path: Path, from_: str, to: str) -> None:
    store = made(tmp_path / f"run.{from_}")
    without = made(tmp_path / f"without.{from_}", lengths=False)
    for source in (store, without):
        target = tmp_path / f"of-{source.path.stem}.{to}"
        convert_store(source, target)
        assert open_store(target).schema.contig_lengths is source.schema.contig_lengths
        append(source, "b", 19)
        convert_store(source, target)  # continued
        assert list(open_store(target).verify()) == []
    assert lengths_of(open_store(tmp_path / f"of-run.{to}")) == of_rows(ROWS) + of_rows(19)
    with pytest.raises(UsageError, match="keeps the lengths of contigs"):
        convert_store(without, tmp_path / f"of-run.{to}")
