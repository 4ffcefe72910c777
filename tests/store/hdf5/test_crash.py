"""Appenders of an HDF5 store that are killed, fail, freeze or fill the disk."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from store.claims.claims import APPEND
from store.claims.participant import Participant
from store.errors import BusyError, DamageError, NotAStoreError
from store.hdf5 import file as hdf5_file
from store.hdf5 import overlay as hdf5_overlay
from store.hdf5.journal import SIGNATURE, journal_path
from store.io.files import DiskFullError
from store.open import open_store
from tests.rows import append, batch, expected, filled_store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def test_kills_at_many_operations_lose_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tools.kill_append", "--stride", "6"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    assert "nothing was lost" in run.stdout


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path / "run.h5", rows=57)
    before = store.path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    def write_much() -> None:
        with store.appending() as appending:
            monkeypatch.setattr(hdf5_overlay, "write_all", full)
            for first in range(0, 400, 40):
                appending.write(batch("b", first, 40))

    with pytest.raises(DiskFullError, match=r"run.h5 could .* No space .* is as it was"):
        write_much()
    monkeypatch.undo()
    assert store.path.read_bytes() == before
    append(store, "b", 40)
    assert open_store(store.path).n_rows == 97


def stopped_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Append, and stop after the journal is in place and the signature blanked."""

    def stop(fd: int, sidecar: Path, journal: object) -> None:
        os.pwrite(fd, b"vnp\0" + journal.to_bytes()[-4:], 0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("store.hdf5.transaction.apply_journal", stop)
        with pytest.raises((KeyboardInterrupt, BusyError)):
            append(open_store(path), "third", 40)


def test_a_transaction_that_was_cut_short_is_finished_by_whoever_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path / "run.h5", rows=57)
    monkeypatch.setattr(hdf5_file, "_PATIENCE", 0.0)
    stopped_transaction(store.path, monkeypatch)
    with pytest.raises(OSError, match="signature"):
        h5py.File(store.path, "r")
    again = open_store(store.path)
    assert again.n_rows == 97
    assert list(again.verify()) == []
    assert not journal_path(store.sidecar.path).exists()
    with h5py.File(store.path, "r") as tree:
        assert tree["obsm/X_merged"].shape == (97, 28)


def test_a_lost_journal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled_store(tmp_path / "run.h5", rows=57)
    with store.path.open("r+b") as file:
        file.write(b"vnp\0abcd")
    with pytest.raises(DamageError, match="journal .* is gone"):
        open_store(store.path)


def test_the_journal_of_another_file_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path / "run.h5", rows=57)
    older = store.path.read_bytes()
    append(store, "second_last", 5)
    with monkeypatch.context() as patch:
        patch.setattr("store.hdf5.transaction.apply_journal", lambda *_: None)
        append(store, "third", 40)
    assert journal_path(store.sidecar.path).exists()
    store.path.write_bytes(older)  # somebody restores a copy
    again = open_store(store.path)
    assert again.n_rows == 57
    assert not journal_path(store.sidecar.path).exists()
    assert list(again.verify()) == []


def test_readers_are_told_while_a_living_appender_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path / "run.h5", rows=57)
    monkeypatch.setattr(hdf5_file, "_PATIENCE", 0.0)
    with Participant(store.sidecar.path, interval=0.01) as other, other.claims.acquire(APPEND):
        with store.path.open("r+b") as file:
            file.write(b"vnp\0abcd")
        with pytest.raises(BusyError, match="append is locked by process"):
            open_store(store.path)
        restored = threading.Timer(0.05, lambda: restore(store.path))
        monkeypatch.setattr(hdf5_file, "_PATIENCE", 60.0)
        restored.start()
        assert open_store(store.path).n_rows == 57
        restored.join()


def restore(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(SIGNATURE)


def test_a_frozen_appender_that_lost_its_lock_keeps_the_file(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.h5", rows=57)
    append(store, "third", 3)
    lock = os.open(store.sidecar.path / "journal" / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(BusyError, match="an appender that was frozen"):
        append(store, "fourth", 3)
    os.close(lock)
    append(store, "fourth", 3)


def test_rows_and_sequences_are_read_through_every_append(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.h5", rows=57)
    over = threading.Event()
    troubles: list[str] = []
    looks = 0

    def read_on() -> None:
        nonlocal looks
        old = open_store(store.path)
        while not over.is_set():
            now = old.snapshot()
            if not np.array_equal(now.read("wide", 0, 57), expected(old, "wide")):
                troubles.append("embeddings")
            if now.column("protein", 0, 57).tolist() != old.column("protein").tolist():
                troubles.append("protein")
            if old.sequences(3)[0].tolist() != now.sequences(3)[0].tolist()[:9]:
                troubles.append("sequences")
            looks += 1

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        for number in range(12):
            append(store, f"more{number}", 7)
    finally:
        over.set()
        reader.join()
    assert troubles == []
    assert looks > 0
    assert store.n_rows == 57 + 84


def test_other_files_are_no_stores(tmp_path: Path) -> None:
    plain = tmp_path / "plain.h5"
    with h5py.File(plain, "w") as tree:
        tree["x"] = 1
    with pytest.raises(NotAStoreError, match="is not a vnp store"):
        open_store(plain)
    plain.write_bytes(b"text")
    with pytest.raises(NotAStoreError, match="not an HDF5 file"):
        open_store(plain)
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(NotAStoreError, match="directory"):
        open_store(tmp_path / "folder.h5")
