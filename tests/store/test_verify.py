"""Every file of a store is deleted, truncated, zeroed and bit-flipped in turn; each is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from store.backend import Cell
from store.errors import NotAStoreError
from store.findings import Finding, Kind, Remedy
from store.open import create_store, open_store
from store.zarr.backend import ZarrBackend
from tests.rows import MODELS, append, filled_store


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip_first_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(bytes(raw))


def flip_middle_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(bytes(raw))


def flip_last_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 0x80
    path.write_bytes(bytes(raw))


DAMAGES = [delete, truncate, empty, zero, flip_first_bit, flip_middle_bit, flip_last_bit]


def findings_of(path: Path) -> list[Finding]:
    return list(open_store(path).verify())


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled_store(tmp_path_factory.mktemp("pristine") / "run.zarr", rows=40).path


def test_a_sound_store_has_no_findings(pristine: Path) -> None:
    assert findings_of(pristine) == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damaged_file_is_named(
    pristine: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    names = sorted(p.relative_to(pristine).as_posix() for p in pristine.rglob("*") if p.is_file())
    assert len(names) > 50
    copy = tmp_path / "run.zarr"
    shutil.copytree(pristine, copy)
    for name in names:
        damage(copy / name)
        if name == "zarr.json":
            try:
                assert any(finding.path == name for finding in findings_of(copy)), name
            except NotAStoreError as error:
                assert str(copy) in str(error)  # noqa: PT017 - either way it is named
        else:
            findings = findings_of(copy)
            block = name.rpartition("/c.")[2].split(".")[0]
            unfilled = damage is delete and "obs/filled" in name
            named = [f for f in findings if f.path == name or unfilled]
            assert named, f"{name} is not named after {damage.__name__}"
            assert all(f.path == name or str(f.block) == block for f in findings), findings
        shutil.copyfile(pristine / name, copy / name)
    assert findings_of(copy) == []


def test_rows_that_are_not_finite_are_named(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    from store.certificate import Certificate
    from store.io.ragged import from_items
    from store.layout import certificate_column, embedding_column
    from store.zarr.codec import encode_numbers, encode_strings, stored_crc

    model = store.schema.model("small")
    embedding = embedding_column(store.schema, model)
    certificates = certificate_column(store.schema, model)
    values = np.ones((16, 8), dtype=np.float16)
    values[4, 2] = np.nan
    raw = encode_numbers(values, column=embedding)
    (store.path / embedding.chunk_key(1, 0)).write_bytes(raw)
    certificate = Certificate(16, stored_crc(raw), "0" * 32, 1, "", {})
    (store.path / certificates.chunk_key(1)).write_bytes(
        encode_strings(from_items([certificate.to_json()]), column=certificates)
    )
    [finding] = store.verify()
    assert (finding.kind, finding.model, finding.block) == (Kind.NOT_FINITE, "small", 1)
    assert finding.remedy is Remedy.REOPEN


def test_a_chunk_swapped_with_another_block_is_named(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    folder = store.path / "obsm/X_small"
    shutil.copyfile(folder / "c.0.0", folder / "c.1.0")
    [finding] = store.verify()
    assert (finding.model, finding.block) == ("small", 1)
    assert "checksum" in finding.detail


def test_orphans_are_named(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    strays = ["obs/start/c.7", "obsm/X_small/c.9.0", "notes.txt", "obs/filled_small/c.1.part"]
    for name in strays:
        (store.path / name).write_bytes(b"stray")
    found = {finding.path: finding for finding in store.verify()}
    assert set(found) == set(strays)
    kinds = [found[name].kind for name in strays]
    assert kinds == [Kind.ORPHAN, Kind.ORPHAN, Kind.FOREIGN, Kind.FOREIGN]


def test_an_unfinished_block_is_told_apart_from_damage(tmp_path: Path) -> None:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 20)
    assert list(store.verify()) == []
    (store.path / "obsm/X_small/c.0.0").write_bytes(b"left by a killed worker")
    [finding] = store.verify()
    assert finding.kind is Kind.UNCERTIFIED
    assert not finding.is_damage


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_threads_find_the_same_in_the_same_order(tmp_path: Path, suffix: str) -> None:
    store = filled_store(tmp_path / f"run{suffix}", rows=900, block_rows=4)
    for block in range(3, store.n_blocks, 7):
        path, offset = store.values_file("small", block)
        raw = bytearray(path.read_bytes())
        if suffix == ".zarr":
            raw[-1] ^= 1
        else:
            raw[offset] ^= 1
        path.write_bytes(bytes(raw))
    alone, together = (list(store.verify(threads=threads)) for threads in (1, 8))
    assert [found.block for found in alone] == list(range(3, store.n_blocks, 7))
    assert together == alone == list(store.verify())
    certified = store.certify("small", threads=1)
    assert store.certify("small", threads=8) == certified == store.certify("small")
    if suffix == ".zarr":
        assert [block for block, _ in certified.failed] == [found.block for found in alone]
        assert certified.certified == certified.rows - 4 * len(alone)


def test_an_error_of_one_block_ends_the_certification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=900, block_rows=4)
    checksum = ZarrBackend.checksum

    def refuse(backend: ZarrBackend, cell: Cell, rows: int) -> str | None:
        if cell.block == 150:
            raise PermissionError(13, "not for you")
        return checksum(backend, cell, rows)

    monkeypatch.setattr(ZarrBackend, "checksum", refuse)
    for threads in (1, 8):
        with pytest.raises(PermissionError, match="not for you"):
            store.certify("small", threads=threads)
