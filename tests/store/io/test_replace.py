"""Output files and folders: whole or absent, old ones kept on failure, nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.errors import UsageError
from store.io.files import WriteError
from store.io.replace import refuse_existing, refuse_shared, replacing, write_whole
from store.open import create_store, open_store
from store.schema import Model


def make(part: Path, kind: str, content: str) -> None:
    if kind == "folder":
        part.mkdir()
        part = part / "inside"
    part.write_text(content)


def content(target: Path) -> str:
    return (target / "inside" if target.is_dir() else target).read_text()


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
def test_either_kind_takes_the_place_of_either(tmp_path, kind, before):
    target = tmp_path / "out"
    if before != "nothing":
        make(target, before, "old")
    with replacing(target, force=True) as part:
        make(part, kind, "new")
        assert not target.exists() or content(target) == "old"
    assert content(target) == "new"
    assert list(tmp_path.iterdir()) == [target]


def write(target: Path, fill, *, force: bool = True) -> None:
    with replacing(target, force=force) as part:
        fill(part)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_exists_is_replaced_only_by_force(tmp_path, kind):
    def slow(part):
        make(part, kind, "new")
        make(tmp_path / "b", kind, "somebody was faster")

    make(tmp_path / "out", kind, "old")
    with pytest.raises(UsageError, match="--force"):
        write(tmp_path / "out", pytest.fail, force=False)
    with pytest.raises(UsageError, match="--force"):
        write(tmp_path / "b", slow, force=False)
    assert content(tmp_path / "b") == "somebody was faster"
    with pytest.raises(UsageError, match="not a directory"):
        write(tmp_path / "nowhere" / "out", pytest.fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "out"]


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_store_is_never_replaced(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    create_store(path, models=[Model("m", 4)], segment_length=500)
    for force in (False, True):
        with pytest.raises(UsageError, match="is a store"), replacing(path, force=force):
            raise AssertionError
    assert open_store(path).n_rows == 0


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failing_body_leaves_the_old_one_and_nothing_else(tmp_path, kind):
    def interrupted(part):
        make(part, kind, "half")
        raise KeyboardInterrupt

    make(tmp_path / "out", kind, "old")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", interrupted)
    assert content(tmp_path / "out") == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_old_folder_comes_back_if_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    real = Path.rename

    def failing(source, target):
        if content(source) == "new":
            raise OSError("disk on fire")
        return real(source, target)

    make(tmp_path / "out", "folder", "old")
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="on fire"):
        write(tmp_path / "out", lambda part: make(part, "folder", "new"))
    assert content(tmp_path / "out") == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_written_at_once(tmp_path, monkeypatch):
    write_whole(tmp_path / "out", b"old")
    write_whole(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"new"
    with pytest.raises(WriteError, match="nowhere"):
        write_whole(tmp_path / "nowhere" / "out", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="folder"):
        write_whole(tmp_path / "folder", b"x")

    def failing(fd):
        raise OSError(5, "no")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(WriteError, match="out"):
        write_whole(tmp_path / "out", b"newer")
    assert (tmp_path / "out").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out"]


def spellings(path: Path, folder: Path) -> dict[str, Path]:
    """Other names of a file that is there."""
    (folder / "link").symlink_to(path)
    (folder / "hard").hardlink_to(path)
    return {
        "same": path,
        "relative": Path(os.path.relpath(path)),
        "roundabout": folder / ".." / folder.name / path.name,
        "symbolic": folder / "link",
        "hard": folder / "hard",
    }


def test_files_are_compared_by_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    refuse_shared([path, None, tmp_path / "b"], [tmp_path / "c", None])
    for other in spellings(path, tmp_path).values():
        with pytest.raises(UsageError, match="named for two outputs"):
            refuse_shared([path, other])
        with pytest.raises(UsageError, match="is one of the files to read"):
            refuse_shared([tmp_path / "b", other], [path])
    path.unlink()
    (tmp_path / "hard").unlink()
    for other in (Path(os.path.relpath(path)), tmp_path / "link"):  # not there yet
        with pytest.raises(UsageError, match="named for two outputs"):
            refuse_shared([path, other])
    with pytest.raises(UsageError, match="holds one"):
        refuse_shared([tmp_path], [tmp_path / "a"])


def test_what_is_no_file_is_not_replaced_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for target, kind in ((tmp_path / "pipe", "a named pipe"), (Path("/dev/null"), "a device")):
        for force in (True, False):
            with pytest.raises(UsageError, match=f"is {kind}"):
                refuse_existing(target, force=force)
        with pytest.raises(UsageError, match=f"is {kind}"):
            write_whole(target, b"x")


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_nothing_goes_into_a_sidecar_but_logs(tmp_path: Path, suffix: str) -> None:
    store = create_store(tmp_path / f"run{suffix}", models=[Model("m", 4)], segment_length=500)
    sidecar = store.sidecar.make().path
    for below in ("x", "claims/x", "tmp/x", "logs", "."):
        with pytest.raises(UsageError, match="keeps its own files"):
            refuse_existing(sidecar / below, force=True)
    (tmp_path / "link").symlink_to(sidecar)
    with pytest.raises(UsageError, match="keeps its own files"):
        refuse_existing(tmp_path / "link" / "x", force=True)
    with pytest.raises(UsageError, match="outputs are files; write one here and copy it"):
        refuse_existing(Path("s3://bucket/x"), force=True)
    refuse_existing(sidecar / "logs" / "x", force=False)
    refuse_existing(tmp_path / "other.zarr.vnp" / "x", force=False)


@pytest.mark.parametrize("name", ["/dev/none", "/dev/fd/1", "/proc/self/fd/1", "/proc/none"])
def test_names_of_the_system_are_no_outputs(name: str) -> None:
    with pytest.raises(UsageError, match="choose another name"):
        refuse_existing(Path(name), force=True)
    with pytest.raises(UsageError, match="choose another name"):
        write_whole(Path(name), b"x")
    assert not os.path.lexists("/dev/none")
    refuse_existing(Path("/dev/shm/none"), force=False)


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_not_replaced_in_the_place_of_its_target(tmp_path, exists) -> None:
    target, link = tmp_path / "target.html", tmp_path / "link.html"
    if exists:
        target.write_text("old")
    link.symlink_to(target)
    with pytest.raises(UsageError, match="exists already"):
        refuse_existing(link, force=False)
    with (
        pytest.raises(UsageError, match="is a symbolic link"),
        replacing(link, force=True) as part,
    ):
        part.write_text("new")
    assert link.is_symlink()
    assert target.exists() == exists
    assert (
        sorted(path.name for path in tmp_path.iterdir())
        == ["link.html", "target.html"][: 1 + exists]
    )
