"""Each primitive of a file system that does not do what a store needs is found out."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.filesystem.primitives import System, try_primitives
from store.filesystem.trial import Trial


def tried(folder: Path, **calls: Any) -> dict[str, Trial]:
    return {trial.what: trial for trial in try_primitives(folder, system=System(**calls))}


def refusing(number: int) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return call


def test_a_local_file_system_does_all(tmp_path: Path) -> None:
    trials = tried(tmp_path)
    assert [trial.state for trial in trials.values()] == ["ok"] * 9


def test_what_does_not_fail_is_tried_all_the_same(tmp_path: Path) -> None:
    trials = tried(tmp_path, link=refusing(errno.EPERM), map=refusing(errno.ENODEV))
    states = {what: trial.state for what, trial in trials.items()}
    assert len(states) == 9
    assert {what for what, state in states.items() if state != "ok"} == {"link", "mmap"}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_hard_links(tmp_path: Path, number: int) -> None:
    trial = tried(tmp_path, link=refusing(number))["link"]
    assert trial.state == "problem"
    assert "Claims are made by link(): put the store elsewhere." in trial.found
    assert trial.values == {"errno": number}


def test_hard_links_within_a_folder_only(tmp_path: Path) -> None:
    def link(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        os.link(source, target)

    trial = tried(tmp_path, link=link)["link"]
    assert trial.state == "problem"
    assert "within a folder only" in trial.found
    assert "BeeGFS has them from 7.4 on" in trial.found


def test_links_that_replace_or_copy(tmp_path: Path) -> None:
    def replacing(source: Path, target: Path) -> None:
        target.unlink(missing_ok=True)
        os.link(source, target)

    def copying(source: Path, target: Path) -> None:
        with target.open("xb") as file:
            file.write(source.read_bytes())

    for number, link in enumerate((replacing, copying)):
        folder = tmp_path / str(number)
        folder.mkdir()
        trial = tried(folder, link=link)["link"]
        assert trial.state == "problem"
    assert trial.values == {"names": 1}


def test_names_that_are_not_exclusive(tmp_path: Path) -> None:
    def opened(path: Path, flags: int, *mode: int) -> int:
        return os.open(path, flags & ~os.O_EXCL, *mode)

    trial = tried(tmp_path, open=opened)["O_EXCL"]
    assert trial.state == "problem"


def test_a_rename_that_leaves_a_gap(tmp_path: Path) -> None:
    def replace(source: Path, target: Path) -> None:
        target.unlink(missing_ok=True)  # and whoever reads now finds nothing

    trial = tried(tmp_path, replace=replace)["rename"]
    assert trial.state == "problem"
    assert os.strerror(errno.ENOENT) in trial.found


def test_syncing(tmp_path: Path) -> None:
    def only_files(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    trials = tried(tmp_path, fsync=only_files)
    assert trials["fsync of files"].state == "ok"
    assert trials["fsync of folders"].state == "note", "vnp goes on without, too"
    (tmp_path / "again").mkdir()
    trials = tried(tmp_path / "again", fsync=refusing(errno.EIO))
    for what in ("fsync of files", "fsync of folders"):
        assert trials[what].state == "problem"
        assert "power cut" in trials[what].found


def test_a_mapping_with_another_content(tmp_path: Path) -> None:
    def mapped(_fd: int, length: int, **_: Any) -> mmap.mmap:
        return mmap.mmap(-1, length or 4096)

    assert tried(tmp_path, map=mapped)["mmap"].state == "problem"


def test_a_write_in_place_that_widens(tmp_path: Path) -> None:
    def pwrite(fd: int, data: bytes, at: int) -> int:
        return os.pwrite(fd, data + b"?", at)

    trial = tried(tmp_path, pwrite=pwrite)["writes in place"]
    assert trial.state == "problem"


def test_an_allocation_that_does_nothing(tmp_path: Path) -> None:
    assert tried(tmp_path, allocate=lambda *_: None)["allocation"].state == "problem"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_vnp_does_without_locks_and_says_what_does_not(tmp_path: Path, number: int) -> None:
    trial = tried(tmp_path, flock=refusing(number))["flock"]
    assert trial.state == "note"
    assert "HDF5_USE_FILE_LOCKING=FALSE" in trial.found


def test_locks_that_keep_nobody_out(tmp_path: Path) -> None:
    def flock(_fd: int, flags: int) -> None:
        assert flags == fcntl.LOCK_EX | fcntl.LOCK_NB

    assert tried(tmp_path, flock=flock)["flock"].state == "note"
