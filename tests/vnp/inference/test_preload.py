"""torch's libraries are loaded beside other imports, and nothing depends on it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from vnp.embed.supervisor import environment
from vnp.inference import preload

_SCRIPT = """
import sys
from pathlib import Path
from vnp.inference.preload import preload_torch
thread = preload_torch()
thread.join()
assert "torch" not in sys.modules
assert "libtorch_cpu.so" in Path("/proc/self/maps").read_text()
import torch
assert torch.ones(3).sum().item() == 3
print("ready")
"""


def test_the_libraries_are_there_before_the_import_and_torch_works():
    settings = {k: v for k, v in environment().items() if k != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _SCRIPT], env=settings, text=True, capture_output=True
    )
    assert (done.stdout, done.stderr) == ("ready\n", "")


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    return monkeypatch


def test_nothing_is_begun_where_it_could_do_harm_or_no_good(without_torch):
    without_torch.setitem(sys.modules, "torch", object())
    assert preload.preload_torch() is None
    without_torch.delitem(sys.modules, "torch")
    without_torch.setenv("LD_LIBRARY_PATH", "/opt/cuda/lib64")
    assert preload.preload_torch() is None
    without_torch.delenv("LD_LIBRARY_PATH")
    for found in (None, SimpleNamespace(origin=None)):
        without_torch.setattr(preload, "find_spec", lambda _, found=found: found)
        assert preload.preload_torch() is None


def test_a_library_that_cannot_be_loaded_is_left_to_torch(without_torch, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libtorch_global_deps.so").write_bytes(b"not a library")
    without_torch.setattr(
        preload, "find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    )
    preload.preload_torch().join()
