"""Durable files: whole or absent, one winner, nothing left behind."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import StoreError
from store.io.files import (
    DiskFullError,
    WriteError,
    fsync_dir,
    make_dir,
    mapped_file,
    publish_new,
    publish_replace,
    remove_durable,
)


@pytest.fixture
def tmp_dir(tmp_path):
    path = tmp_path / "tmp"
    path.mkdir()
    return path


@pytest.mark.parametrize("publish", [publish_new, publish_replace])
def test_buffers_of_any_kind_end_to_end(tmp_path, tmp_dir, publish):
    array = np.arange(12, dtype=np.float16).reshape(3, 4)
    parts = [array, b"", np.empty((0, 4), np.float16), memoryview(b"crc!"), bytearray(b"x")]
    publish(tmp_dir, tmp_path / "f", parts)
    assert (tmp_path / "f").read_bytes() == array.tobytes() + b"crc!x"
    assert list(tmp_dir.iterdir()) == []


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    parts=st.lists(st.binary(max_size=40), max_size=12),
    shortest=st.integers(1, 30),
)
def test_short_writes_lose_nothing(tmp_path_factory, parts, shortest):
    directory = tmp_path_factory.mktemp("short")
    real = os.writev

    def short(fd, views):
        return real(fd, [b"".join(views)[:shortest]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", short)
        publish_new(directory, directory / "f", parts)
    assert (directory / "f").read_bytes() == b"".join(parts)


def test_more_buffers_than_one_call_takes(tmp_path, tmp_dir):
    parts = [b"%d," % i for i in range(5000)]
    publish_new(tmp_dir, tmp_path / "f", parts)
    assert (tmp_path / "f").read_bytes() == b"".join(parts)


def test_new_never_replaces(tmp_path, tmp_dir):
    assert publish_new(tmp_dir, tmp_path / "f", [b"first"]) is True
    assert publish_new(tmp_dir, tmp_path / "f", [b"second"]) is False
    assert (tmp_path / "f").read_bytes() == b"first"
    assert list(tmp_dir.iterdir()) == []
    assert (tmp_path / "f").stat().st_nlink == 1


def test_replace_leaves_open_readers_the_old_file(tmp_path, tmp_dir):
    publish_replace(tmp_dir, tmp_path / "f", [b"old"])
    with (tmp_path / "f").open("rb") as reader:
        publish_replace(tmp_dir, tmp_path / "f", [b"new"])
        assert reader.read() == b"old"
    assert (tmp_path / "f").read_bytes() == b"new"


def test_one_of_many_threads_wins(tmp_path, tmp_dir):
    wins: list[int] = []
    start = threading.Barrier(8)

    def race(number):
        start.wait()
        if publish_new(tmp_dir, tmp_path / "f", [b"%d" % number]):
            wins.append(number)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert (tmp_path / "f").read_bytes() == b"%d" % wins[0]


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EIO, errno.ETIMEDOUT])
def test_link_that_was_made_though_it_reports_an_error_counts(tmp_path, tmp_dir, number):
    def lost_reply(source, target):
        os.link(source, target)
        raise OSError(number, os.strerror(number))

    assert publish_new(tmp_dir, tmp_path / "f", [b"mine"], link=lost_reply) is True
    assert (tmp_path / "f").read_bytes() == b"mine"
    assert list(tmp_dir.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_link_that_failed_is_an_error_with_the_path(tmp_path, tmp_dir, number):
    def failing(source, target):
        raise OSError(number, os.strerror(number))

    with pytest.raises(WriteError, match=r"/f: ") as caught:
        publish_new(tmp_dir, tmp_path / "f", [b"x"], link=failing)
    assert caught.value.errno == number
    assert not (tmp_path / "f").exists()
    assert list(tmp_dir.iterdir()) == []


def test_rename_whose_reply_was_lost_counts(tmp_path, tmp_dir, monkeypatch):
    real = os.replace

    def lost_reply(source, target):
        real(source, target)
        raise FileNotFoundError(errno.ENOENT, "no such file", str(source))

    monkeypatch.setattr(os, "replace", lost_reply)
    publish_replace(tmp_dir, tmp_path / "f", [b"mine"])
    assert (tmp_path / "f").read_bytes() == b"mine"


@pytest.mark.parametrize("publish", [publish_new, publish_replace])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["writev", "fsync", "close"])
def test_full_disk_is_named_and_leaves_nothing(
    tmp_path, tmp_dir, monkeypatch, publish, number, step
):
    """Wherever the file system says so: NFS may only do it at fsync or close."""
    real = getattr(os, step)

    def full(fd, *rest):
        if step == "writev":
            real(fd, [b"half"])  # the first part still went in
        else:
            real(fd)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(DiskFullError, match=r"/f \(1,000 bytes\).*[Ff]ree some space"):
            publish(tmp_dir, tmp_path / "f", [bytes(600), bytes(400)])
    assert not (tmp_path / "f").exists()
    assert list(tmp_dir.iterdir()) == []


def test_full_disk_keeps_the_old_file(tmp_path, tmp_dir, monkeypatch):
    publish_replace(tmp_dir, tmp_path / "f", [b"old"])

    def full(source, target):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(DiskFullError):
            publish_replace(tmp_dir, tmp_path / "f", [b"new"])
    assert (tmp_path / "f").read_bytes() == b"old"
    assert list(tmp_dir.iterdir()) == []


def test_interrupt_leaves_no_temporary_file(tmp_path, tmp_dir):
    def interrupted(source, target):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_new(tmp_dir, tmp_path / "f", [b"x"], link=interrupted)
    assert list(tmp_dir.iterdir()) == []


@pytest.mark.parametrize("publish", [publish_new, publish_replace])
def test_missing_directory_is_an_error(tmp_path, tmp_dir, publish):
    with pytest.raises(WriteError, match="nowhere/f"):
        publish(tmp_dir, tmp_path / "nowhere" / "f", [b"x"])
    with pytest.raises(WriteError):
        publish(tmp_path / "nowhere", tmp_path / "f", [b"x"])
    assert list(tmp_dir.iterdir()) == []


def test_make_dir_makes_all_and_is_content_with_what_is_there(tmp_path):
    make_dir(tmp_path / "a" / "b" / "c")
    make_dir(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match="file"):
        make_dir(tmp_path / "file" / "below")


def test_remove_says_whether_it_was_there(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    assert remove_durable(tmp_path / "f") is True
    assert remove_durable(tmp_path / "f") is False


def test_directory_that_cannot_be_synced_is_fine_but_a_failing_disk_is_not(tmp_path, monkeypatch):
    def fails(number):
        def fsync(fd):
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", fails(errno.EINVAL))
    fsync_dir(tmp_path)
    monkeypatch.setattr(os, "fsync", fails(errno.EIO))
    with pytest.raises(StoreError, match=str(tmp_path)):
        fsync_dir(tmp_path)


def test_a_mapped_file_has_its_space_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mapped_file(tmp_path / "a", dtype=np.float32, shape=(1000, 2))
    assert made.shape == (1000, 2)
    assert not made.any()
    assert (tmp_path / "a").stat().st_blocks * 512 >= 8000

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskFullError, match="b could not be written: No space left"):
        mapped_file(tmp_path / "b", dtype=np.float32, shape=(1000, 2))
