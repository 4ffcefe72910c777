"""Bytes of an HDF5 store are flipped and zeroed all over; each damaged range is named."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from store.errors import DamageError, DataError
from store.findings import Finding, Kind
from store.open import create_store, open_store
from store.repair import repair, verify_store
from store.store import Store
from tests.rows import MODELS, HeldClaim, append, expected, filled_store, publish

pytestmark = pytest.mark.slow

ROWS, BLOCK = 40, 16


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("pristine") / "run.h5"
    return filled_store(path, rows=ROWS, block_rows=BLOCK).path.read_bytes()


def data_bytes(path: Path) -> np.ndarray:
    """Whether each byte of the file is in use; the rest is room that nothing is written in yet.

    In use is everything but the ends of chunks beyond the rows, certificates and checksums there
    are.
    """
    used = np.ones(path.stat().st_size, dtype=bool)

    def visit(name: str, node: object) -> None:
        if not isinstance(node, h5py.Dataset) or node.is_virtual or node.chunks is None:
            return
        row = node.id.get_type().get_size() * int(np.prod(node.chunks[1:], dtype=int))
        for number in range(node.id.get_num_chunks()):
            chunk = node.id.get_chunk_info(number)
            rows = min(node.shape[0] - chunk.chunk_offset[0], node.chunks[0])
            used[chunk.byte_offset + rows * row : chunk.byte_offset + chunk.size] = False

    with h5py.File(path, "r") as tree:
        tree.visititems(visit)
    return used


def damage_of(path: Path) -> list[Finding] | None:
    """What is found; None if the file is refused, with its name in the message."""
    try:
        return list(open_store(path).verify())
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017 - either way it is named
        return None


@pytest.mark.slow
def test_every_damaged_range_is_named_or_the_file_refused(pristine: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(pristine)
    assert damage_of(path) == []
    used = data_bytes(path)
    random = np.random.default_rng(7)
    places = random.permutation(np.flatnonzero(used))[:500].tolist()
    seen = 0
    for number, at in enumerate(places):
        raw = bytearray(pristine)
        if number % 3:
            raw[at] ^= 1 << number % 8
        else:
            stop = at + (1, 64, 512, 4096)[number % 4]
            raw[at:stop] = bytes(len(raw[at:stop]))
        changed = np.frombuffer(bytes(raw), np.uint8) != np.frombuffer(pristine, np.uint8)
        if not (changed & used).any():
            continue
        path.write_bytes(raw)
        found = damage_of(path)
        assert found is None or found, f"byte {at} ({number}) is not named"
        seen += 1
    assert seen > 250


def test_a_truncated_file_is_refused(pristine: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    for size in (len(pristine) - 1, len(pristine) // 2, 5000, 8, 3, 0):
        path.write_bytes(pristine[:size])
        assert damage_of(path) is None


def place(store: Store, model: str, block: int) -> int:
    return store.values_file(model, block)[1]


def test_a_damaged_block_is_named_reopened_and_filled_again(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.h5", rows=ROWS)
    with store.path.open("r+b") as file:
        file.seek(place(store, "small", 1) + 5)
        file.write(b"\x55")
    with pytest.raises(DamageError, match="small block 1"):
        store.read("small", 16, 17)
    [finding] = findings = list(verify_store(store))
    assert (finding.kind, finding.model, finding.block) == (Kind.DAMAGED, "small", 1)
    assert finding.path == "obsm/X_small[16:32]"
    repair(store, findings)
    assert store.open_blocks("small").tolist() == [1]
    with h5py.File(store.path, "r") as tree:
        assert not tree["obsm/X_small"][16:32].any(), "rows that do not count read as zeros"
    publish(store, "small", 1)
    assert list(verify_store(store)) == []
    np.testing.assert_array_equal(store.read("small"), expected(store, "small"))


def test_a_damaged_provenance_is_pinned_again(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.h5", rows=ROWS)
    with h5py.File(store.path, "r") as tree:
        at = tree["uns/vnp/wide"].id.get_offset()
    with store.path.open("r+b") as file:
        file.seek(at)
        file.write(b"#")
    findings = list(verify_store(store))
    assert [finding.path for finding in findings] == ["uns/vnp/wide"]
    repair(store, findings)
    assert store.provenance("wide") is None
    assert store.pin_provenance("wide", {"name": "other"}) == {"name": "other"}


def test_rows_that_are_not_finite_are_named(tmp_path: Path) -> None:
    store = create_store(tmp_path / "run.h5", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 20)
    values = expected(store, "small")[:16].copy()
    values[4, 2] = np.nan
    from store import blocks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "check_values", lambda *_, **__: (0, 16))
        store.publish(HeldClaim("small", 0), values)
    store.pin_provenance("small", {"name": "small"})
    [finding] = store.verify()
    assert (finding.kind, finding.model, finding.block) == (Kind.NOT_FINITE, "small", 0)


def test_what_a_killed_worker_left_is_told_apart_from_damage(tmp_path: Path) -> None:
    store = create_store(tmp_path / "run.h5", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 20)
    assert list(store.verify()) == []
    with store.path.open("r+b") as file:
        file.seek(place(store, "small", 0))
        file.write(b"left")
    [finding] = store.verify()
    assert (finding.kind, finding.is_damage) == (Kind.UNCERTIFIED, False)


def test_damage_gets_no_new_checksum_from_the_next_append(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.h5", rows=ROWS)
    with h5py.File(store.path, "r") as tree:
        at = tree["obs/start"].id.get_chunk_info(2).byte_offset
    with store.path.open("r+b") as file:
        file.seek(at + 3)
        file.write(b"\x55")
    with pytest.raises(DamageError, match="obs/start.*block 2"):
        append(store, "third", 20)
    assert open_store(store.path).n_rows == ROWS
