"""A disk that fills up inside the HDF5 library: an error with the path, no crash, the old store."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from store.errors import AfterCommitError, StoreError
from store.hdf5 import journal, overlay
from store.io.files import DiskFullError
from store.open import create_store, open_store
from store.repair import verify_store
from store.schema import Model
from store.store import Store
from tests.rows import MODELS, append, filled_store

pytestmark = pytest.mark.slow

ROWS = 40


def save_scores(store: Store) -> None:
    scores = np.linspace(0, 1, 2 * ROWS, dtype=np.float32).reshape(ROWS, 2)
    store.save_scores("viral", digest="d", values=scores, rows=[(0, ROWS)], replace=False)


def add_model(store: Store) -> None:
    store.add_model(Model("third", 300))


def add_rows(store: Store) -> None:
    append(store, "third", 300)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "run.h5", rows=ROWS)


@pytest.mark.parametrize("change", [save_scores, add_model, add_rows])
def test_a_write_that_fails_inside_the_library_is_an_error_with_its_path(
    store: Store, change: Callable[[Store], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.path.read_bytes()
    write = overlay.write_all
    for failing in range(1, 200):
        calls = 0

        def full(fd: int, data: bytes, offset: int, at: int = failing) -> None:
            nonlocal calls
            calls += 1
            if calls >= at and len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(fd, data, offset)

        monkeypatch.setattr(overlay, "write_all", full)
        try:
            change(store)
        except DiskFullError as error:
            assert str(store.path) in str(error)  # noqa: PT017 - the last turn raises nothing
            assert "Free some space" in str(error)  # noqa: PT017
        else:
            break
        finally:
            monkeypatch.setattr(overlay, "write_all", write)
        assert store.path.read_bytes() == before
    assert failing > 1
    assert list(verify_store(open_store(store.path))) == []


def test_an_error_after_the_commit_says_that_the_change_is_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(fd: int, data: bytes, offset: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_all", failing)
        with pytest.raises(AfterCommitError, match="is committed: do not repeat it"):
            append(store, "third", 20)
    assert [sample.name for sample in open_store(store.path).schema.samples][-1] == "third"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.slow
def test_processes_on_a_full_disk_end_with_an_error(small_disk: Path) -> None:
    store = filled_store(small_disk / "run.h5", rows=ROWS)
    fill(small_disk / "ballast")
    for change in ("save_scores", "add_model", "add_rows"):
        code = (
            "from store.open import open_store\n"
            f"from tests.store.hdf5.test_full_disk import {change}\n"
            f"{change}(open_store({str(store.path)!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert "could not be written: No space left on device" in done.stderr
    (small_disk / "ballast").unlink()
    assert list(verify_store(open_store(store.path))) == []
    save_scores(open_store(store.path))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_a_store_that_cannot_be_made_leaves_nothing(small_disk: Path, suffix: str) -> None:
    fill(small_disk / "ballast")
    with pytest.raises((OSError, StoreError), match="No space left on device"):
        create_store(small_disk / f"run{suffix}", models=MODELS, segment_length=500)
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
