"""Compiled loops whose kept code is damaged."""

import importlib.util
import os

import pytest

pytest.importorskip("numba")

CODE = """
from vnp.models.compiled import compiled

@compiled()
def more(x):
    return x + 1
"""


def loaded(path):
    spec = importlib.util.spec_from_file_location("loops_of_a_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_damaged_code_is_compiled_anew(tmp_path, suffix, content):
    path = tmp_path / "loops_of_a_test.py"
    path.write_text(CODE)
    assert loaded(path).more(1) == 2
    (kept,) = (tmp_path / "__pycache__").glob(f"*{suffix}")
    kept.write_bytes(kept.read_bytes()[:50] if content is None else content)
    assert loaded(path).more(1) == 2
    assert loaded(path).more(2) == 3


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_code_is_kept_only_where_nobody_else_may_write(tmp_path, mode):
    folder = tmp_path / "__pycache__"
    folder.mkdir()
    folder.chmod(mode)
    path = tmp_path / "loops_of_a_test.py"
    path.write_text(CODE)
    assert loaded(path).more(1) == 2
    assert bool(list(folder.glob("*.nbi"))) == (mode == 0o755)


@pytest.mark.parametrize("place", ["beside the code", "the user's cache"])
def test_code_is_kept_whatever_the_umask(tmp_path, monkeypatch, place):
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    tmp_path.chmod(0o755)
    if place != "beside the code":
        (tmp_path / "__pycache__").write_text("not a folder")
    path = tmp_path / "loops_of_a_test.py"
    path.write_text(CODE)
    before = os.umask(0o002)
    try:
        assert loaded(path).more(1) == 2
    finally:
        os.umask(before)
    (kept,) = tmp_path.rglob("*.nbi")
    assert kept.is_relative_to(cache) == (place != "beside the code")
    assert not kept.parent.stat().st_mode & 0o022
