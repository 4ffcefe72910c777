"""What an export selects, and what it refuses."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from store.errors import DataError, UsageError
from store.io.files import DiskFullError
from store.open import create_store
from store.store import Store
from tests.vnp.exchange.stores import DEMO
from vnp.exchange.export import FORMATS, export_store
from vnp.exchange.selection import select

pytestmark = pytest.mark.slow


def test_rows_that_are_not_certified_are_refused_skipped_or_nan(gappy: Store) -> None:
    with pytest.raises(
        DataError, match="16 of the 40 rows .* for demo_dnabert_s: .* export demo_esm2 alone"
    ):
        select(gappy)
    skipped = select(gappy, incomplete="skip")
    assert (skipped.runs, skipped.left_out, len(skipped)) == (((0, 16), (32, 40)), 16, 24)
    assert select(gappy, incomplete="nan").runs == ((0, 40),)
    assert select(gappy, models=["demo_esm2"]).runs == ((0, 40),)
    assert select(gappy, samples=["second"], incomplete="skip").runs == ((32, 40),)
    assert select(gappy, samples=["second"], incomplete="skip").left_out == 2


def test_batches_keep_to_blocks_and_carry_ids(full: Store) -> None:
    selection = select(full)
    assert [(part.start, part.stop) for part in selection.batches()] == [
        (0, 16),
        (16, 32),
        (32, 40),
    ]
    assert selection.qualified
    named = [name for part in selection.batches() for name in part.ids]
    assert named[0] == "first:first_0_chunk_1F1"
    assert named[-1] == "second:second_9_chunk_1F1"
    one = select(full, samples=["second"])
    assert next(one.batches()).ids[0] == "second_0_chunk_1F1"


def test_a_selection_of_nothing(full: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sample 'x' .*first, second"):
        select(full, samples=["x"])
    with pytest.raises(UsageError, match="no model"):
        select(full, models=["x"])
    with pytest.raises(UsageError, match="no row"):
        select(create_store(tmp_path / "a.zarr", models=DEMO, segment_length=500))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("out.txt", {}, "must end in"),
        ("out.csv", {"sequences": True}, "no place for sequences"),
        ("out", {}, "must end in"),
        ("out.npy", {"layout": "merged"}, "--layout is for .pt"),
        ("out.pt", {"dtype": "float16"}, "hold float32"),
        ("out.faiss", {"dtype": "float16"}, "hold float32"),
        ("out.pt", {"sequences": True}, "no place for sequences"),
        ("out.npy", {"ids": "plain"}, "column for the sample"),
        ("out.faiss", {"ids": "plain"}, "row numbers"),
        ("out.pt", {"layout": "ESM", "models": ["demo_dnabert_s"]}, "one model of protein"),
        ("no/out.npy", {}, "not a directory"),
    ],
)
def test_options_that_do_not_fit(
    full: Store, tmp_path: Path, name: str, options: dict, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        export_store(full, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_nothing_is_replaced_unless_forced(full: Store, tmp_path: Path, suffix: str) -> None:
    for kind, package in ((".faiss", "faiss"), (".lance", "lance")):
        if suffix == kind:
            pytest.importorskip(package)
    target = tmp_path / f"out{suffix}"
    target.write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        export_store(full, target)
    assert target.read_text() == "precious"
    export_store(full, target, force=True)
    export_store(full, target, force=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {target.name, "out.rows.tsv"}


def test_a_store_is_never_replaced(full: Store) -> None:
    with pytest.raises(UsageError, match="is a store"):
        export_store(full, full.path, force=True)


def test_an_export_that_fails_leaves_what_was_there(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.npy"
    target.write_text("precious")
    calls = []

    def fail(self: object, dtype: str = "float16") -> np.ndarray:
        calls.append(dtype)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return np.zeros((16, 11), dtype)

    monkeypatch.setattr("vnp.exchange.selection.Batch.values", fail)
    with pytest.raises(DiskFullError, match=r"out.npy could not be written: No space"):
        export_store(full, target, force=True)
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


def test_pickle_of_ours_holds_no_surprises(full: Store, tmp_path: Path) -> None:
    import pickletools
    import zipfile

    export_store(full, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        names = {
            argument
            for code, argument, _ in pickletools.genops(archive.read("archive/data.pkl"))
            if code.name == "GLOBAL"
        }
    allowed = {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"}
    assert names == allowed
    assert pickle.format_version >= "2"
