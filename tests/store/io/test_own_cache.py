"""A cache of what is run is used only where nobody else may write."""

from __future__ import annotations

import logging
import os

import pytest

from store.io import own_cache
from store.io.own_cache import close_empty, is_own, make_own, stranger, user_cache


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "code" / "__pycache__"
    found.mkdir(parents=True)
    for each in (found, found.parent):
        each.chmod(0o755)
    return found


def give_away(path, monkeypatch):
    """Make a path another user's."""
    if os.geteuid():
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    else:
        os.chown(path, 12345, -1)


def test_the_users_own_and_what_is_not_there(folder):
    assert stranger(folder) is None
    assert is_own(folder / "none" / "there")


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_others_may_write_only_where_they_may_change_the_code(folder, mode):
    folder.chmod(mode)
    assert "others may write to it" in stranger(folder)
    assert "others may write to it" in stranger(folder, code=folder.parent)
    folder.parent.chmod(mode)
    assert stranger(folder, code=folder.parent) is None
    assert "others may write to it" in stranger(folder)


def test_another_users_folder_is_named_once(folder, monkeypatch, caplog):
    monkeypatch.setattr(own_cache, "_said", set())
    give_away(folder, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert not is_own(folder)
        assert not is_own(folder)
    [said] = caplog.messages
    assert str(folder) in said
    assert "another user" in said


def test_the_owner_of_the_code_is_trusted_beside_it(folder, monkeypatch):
    give_away(folder, monkeypatch)
    if not os.geteuid():
        os.chown(folder.parent, 12345, -1)
    assert stranger(folder, code=folder.parent) is None
    assert stranger(folder) is not None


def test_where_the_users_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "vnp"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "vnp"


@pytest.fixture
def open_umask():
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_folders_are_made_closed_whatever_the_umask(tmp_path, folder):
    made = tmp_path / "cache" / "vnp" / "selftests"
    for _ in range(2):
        make_own(made)
    for each in (made, made.parent, made.parent.parent):
        assert each.stat().st_mode & 0o777 == 0o700
    assert is_own(made)
    folder.rmdir()
    make_own(folder, code=folder.parent)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_only_an_empty_folder_is_closed(folder, tmp_path):
    folder.chmod(0o775)
    close_empty(folder)
    assert folder.stat().st_mode & 0o777 == 0o755
    folder.chmod(0o775)
    (folder / "x").touch()
    close_empty(folder)
    assert folder.stat().st_mode & 0o777 == 0o775
    close_empty(tmp_path / "none")
