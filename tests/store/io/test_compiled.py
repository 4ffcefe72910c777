"""Compiled loops: kept as files, made once, and done without where they cannot be had."""

from __future__ import annotations

import builtins
import hashlib
import os
import shutil
from typing import Any

import numpy as np
import pytest

from store.io import compiled
from store.io.compiled import Loops


def twice(values: Any, n: int, out: Any) -> int:
    for at in range(n):
        out[at] = 2 * values[at]
    return n


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Make a new set of the loop in a folder of its own."""
    monkeypatch.setattr(compiled, "_allowed", 0)
    source = tmp_path / "loops.py"
    source.write_text("# as if the loop was here")

    def make():
        loops = Loops("test", str(source))
        loops.loop("i64*", "i64", "i64*")(twice)
        return loops

    return make


def check(functions):
    values = np.arange(5)
    out = np.empty(5, np.int64)
    assert functions.twice(values, 5, out) == 5
    assert out.tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(AssertionError):
        functions.twice(values[::2], 2, out)
    with pytest.raises(AssertionError):
        functions.twice(values.astype(np.int32), 2, out)


def test_they_are_compiled_when_that_is_allowed_and_loaded_without_numba(
    made, tmp_path, monkeypatch
):
    assert made().get() is None
    compiled.allow(compiling=False)
    waiting = made()
    assert waiting.get() is None
    compiled.allow(compiling=True)
    check(waiting.get())
    [file] = (tmp_path / "__pycache__").iterdir()

    imported = builtins.__import__

    def without_numba(name, *arguments, **options):
        assert name.partition(".")[0] != "numba"
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_numba)
    monkeypatch.setattr(Loops, "_compiled", None)
    check(made().get())
    # A damaged file is not run.
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    assert made().get() is None


def test_without_a_linker_the_object_code_is_kept(made, tmp_path, monkeypatch):
    compiled.allow(compiling=True)
    check(made().get())
    [library] = (tmp_path / "__pycache__").iterdir()
    if shutil.which("ld") is None:
        pytest.skip("there is no linker: what is kept is object code anyway")
    assert library.suffix == ".so"
    library.unlink()
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    check(made().get())
    [code] = (tmp_path / "__pycache__").iterdir()
    assert code.suffix == ".o"
    monkeypatch.setattr(Loops, "_compiled", None)
    check(made().get())


def test_a_library_that_does_not_open_is_not_kept(made, tmp_path, monkeypatch):
    compiled.allow(compiling=True)

    def refused(_name):
        raise OSError("failed to map segment from shared object")

    monkeypatch.setattr(compiled.ctypes, "CDLL", refused)
    check(made().get())
    [code] = (tmp_path / "__pycache__").iterdir()
    assert code.suffix == ".o"


def test_other_code_is_compiled_anew(made, tmp_path):
    compiled.allow(compiling=True)
    check(made().get())
    (tmp_path / "loops.py").write_text("# other code")
    check(made().get())
    assert len(list((tmp_path / "__pycache__").iterdir())) == 2


@pytest.mark.parametrize("which", ["folder", "file"])
def test_code_that_others_could_write_is_not_run(made, tmp_path, monkeypatch, which):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compiled.allow(compiling=True)
    check(made().get())
    [file] = (tmp_path / "__pycache__").iterdir()
    content = b"code of somebody else"
    file.unlink()  # not written into: the library in it is mapped
    file.write_bytes(content + hashlib.sha256(content).digest())  # the loader would crash
    (file if which == "file" else file.parent).chmod(0o777)
    check(made().get())
    kept = [file, *(tmp_path / "cache" / "vnp").glob("*")]
    assert len(kept) == (1 if which == "file" else 2)


@pytest.mark.parametrize("place", ["beside the code", "the user's cache"])
def test_what_is_kept_is_used_whatever_the_umask(made, tmp_path, monkeypatch, place):
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    if place != "beside the code":
        (tmp_path / "__pycache__").write_text("not a folder")
    tmp_path.chmod(0o755)
    compiled.allow(compiling=True)
    before = os.umask(0o002)
    try:
        check(made().get())
    finally:
        os.umask(before)
    monkeypatch.setattr(Loops, "_compiled", None)
    check(made().get())
    assert (cache / "vnp").exists() == (place != "beside the code")


def test_without_a_place_to_write_they_work_all_the_same(made, tmp_path, monkeypatch):
    (tmp_path / "__pycache__").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    compiled.allow(compiling=True)
    check(made().get())
    assert [path.name for path in tmp_path.iterdir()] == ["loops.py", "__pycache__"]


def test_without_the_library_there_are_none(made, monkeypatch):
    import importlib

    real = importlib.import_module

    def absent(name):
        if name.startswith("llvmlite"):
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    compiled.allow(compiling=True)
    assert made().get() is None
