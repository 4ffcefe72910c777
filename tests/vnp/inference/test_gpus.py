"""GPUs are counted as torch counts them, but without it where its build and the driver tell."""

import ctypes
import sys
from types import SimpleNamespace

import pytest
import torch

from vnp.inference import gpus


def version_of(folder, text, monkeypatch):
    (folder / "version.py").write_text(text)
    spec = SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(gpus, "find_spec", lambda _: spec)


CUDA = "cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"


@pytest.mark.parametrize(
    ("text", "built"),
    [
        (CUDA, "cuda"),
        ("cuda = '11.8'\n", "cuda"),
        ("debug = False\ncuda: Optional[str] = None\nhip: Optional[str] = None\n", "cpu"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.2'\n", None),
        ("__version__ = '9'\n", None),
    ],
)
def test_what_torch_was_built_for(tmp_path, monkeypatch, text, built):
    version_of(tmp_path, text, monkeypatch)
    assert gpus._built_for() == built


class Driver:
    def __init__(self, count, *, code=0):
        self.count, self.code = count, code

    def cuInit(self, _flags):  # noqa: N802 - the driver's name
        return self.code

    def cuDeviceGetCount(self, found):  # noqa: N802
        found._obj.value = self.count
        return self.code


def test_the_driver_counts(tmp_path, monkeypatch):
    version_of(tmp_path, CUDA, monkeypatch)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(3))
    assert gpus.count_gpus() == 3
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(3, code=100))
    assert gpus.count_gpus() == 0
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert gpus.count_gpus() == 0
    monkeypatch.undo()
    assert gpus._devices("libnothing-of-that-name.so") == 0


def test_torch_counts_if_it_is_there_already(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    assert gpus.count_gpus() == 5


def test_the_installed_torch_says_what_it_is_for():
    assert gpus._built_for() == ("cpu" if torch.version.cuda is None else "cuda")
