"""The table of contigs without a record cannot be written: before the commit, and after it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from store.errors import AfterCommitError
from store.io.files import DiskFullError, WriteError
from store.open import create_store, open_store
from store.store import Store
from tests.rows import MODELS
from vnp.sequence import append as module
from vnp.sequence.append import append_file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "a.fa"
    path.write_text(f">a\n{'ATGGCC' * 100}\n>stops\n{'TAACTAACTAA' * 60}\n")
    return path


def test_a_full_disk_under_the_table_names_it_and_leaves_the_store(
    store: Store, fasta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def full(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink().name.endswith(".tsv.part"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(fd)

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "fsync", full)
        with pytest.raises(DiskFullError, match="append-a.no-records.tsv.part.* is as it was"):
            append_file(store, str(fasta))
    assert open_store(store.path).n_rows == 0
    assert list(store.sidecar.logs.iterdir()) == []


def test_a_table_that_cannot_get_its_name_says_that_the_rows_are_in(
    store: Store, fasta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise WriteError("logs/append-a.no-records.tsv: Input/output error.", errno=errno.EIO)

    with monkeypatch.context() as patched:
        patched.setattr(module, "rename_over", fail)
        with pytest.raises(AfterCommitError, match="is committed: do not repeat it"):
            append_file(store, str(fasta))
    assert open_store(store.path).schema.samples[0].name == "a"
