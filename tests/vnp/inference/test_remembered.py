"""What is remembered of self-tests: passes alone, of the same machine, versions and kernels."""

import contextlib
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.vnp.inference.engine_setup import PLAIN_FUSED
from vnp.inference import kernels, remembered
from vnp.inference.linear import FP8


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_pass_holds_for_the_same_facts_alone(monkeypatch, cache):
    facts = remembered.facts_of("a GPU", what="products")
    assert not remembered.was_passed(facts)
    remembered.note_passed(facts)
    remembered.note_passed(facts)
    assert remembered.was_passed(remembered.facts_of("a GPU", what="products"))
    assert not remembered.was_passed(remembered.facts_of("another GPU", what="products"))
    assert not remembered.was_passed(remembered.facts_of("a GPU", what="others"))
    with monkeypatch.context() as other:
        driver = cache / "version"
        driver.write_text("NVRM version: NVIDIA 999.1\n")
        other.setattr(remembered, "_DRIVER", driver)
        assert not remembered.was_passed(remembered.facts_of("a GPU", what="products"))
        driver.unlink()
    for name, value in (("_version", lambda _: "9.9"), ("_source", lambda: "0" * 64)):
        with monkeypatch.context() as other:
            other.setattr(remembered, name, value)
            assert not remembered.was_passed(remembered.facts_of("a GPU", what="products"))
    [path] = files(cache)
    assert path.parent == cache / "vnp" / "selftests"


def test_kernels_that_change_are_tested_again(monkeypatch, tmp_path):
    folder = tmp_path / "ops"
    folder.mkdir()
    (folder / "hopper.py").write_text("a = 1\n")
    monkeypatch.setattr(remembered, "_TESTED", (folder,))
    facts = remembered.facts_of("a GPU", what="products")
    remembered.note_passed(facts)
    (folder / "hopper.py").write_text("a = 2\n")
    assert not remembered.was_passed(remembered.facts_of("a GPU", what="products"))


@pytest.mark.parametrize("damage", ["", "short", "flipped", "other", "longer"])
def test_a_damaged_file_is_not_trusted(cache, damage):
    facts = remembered.facts_of("a GPU", what="products")
    remembered.note_passed(facts)
    [path] = files(cache)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[content.index(b"a GPU")] ^= 1
    elif damage == "other":  # whole, but of other facts: copied here by hand
        other = remembered.facts_of("another GPU", what="products")
        remembered.note_passed(other)
        [source] = [each for each in files(cache) if each != path]
        content = bytearray(source.read_bytes())
    elif damage == "longer":
        content += b"\0"
    else:
        content = content[: len(content) // 2] if damage else bytearray()
    path.write_bytes(content)
    assert not remembered.was_passed(facts)
    remembered.note_passed(facts)
    assert remembered.was_passed(facts)


def test_without_a_place_nothing_is_remembered_and_nothing_fails(monkeypatch, cache):
    facts = remembered.facts_of("a GPU", what="products")
    (cache / "vnp").write_text("in the way")
    remembered.note_passed(facts)
    assert not remembered.was_passed(facts)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    remembered.note_passed(facts)
    assert not remembered.was_passed(facts)
    assert files(cache) == [cache / "vnp"]


def test_the_compiler_is_hashed_beside_the_weights_and_may_fail(monkeypatch):
    hashed = []
    cache = SimpleNamespace(triton_key=lambda: hashed.append(threading.current_thread()))
    monkeypatch.setitem(sys.modules, "triton.runtime.cache", cache)
    monkeypatch.setattr(kernels.importlib, "import_module", lambda name: sys.modules[name])
    thread = kernels.hash_compiler()
    thread.join()
    assert hashed == [thread]
    monkeypatch.setitem(sys.modules, "triton.runtime.cache", SimpleNamespace())
    kernels.hash_compiler().join()  # of a version that has none


def test_the_doctor_tests_anew(monkeypatch):
    tested = []
    monkeypatch.setattr(
        kernels,
        "check_products",
        lambda *_, narrow, activation: tested.append((narrow, activation)),
    )
    monkeypatch.setattr(kernels, "why_not", lambda _: None)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    hopper = SimpleNamespace(fits=PLAIN_FUSED.fits)
    monkeypatch.setitem(sys.modules, "vnp.inference.ops.hopper", hopper)
    device = torch.device("cuda", 0)
    assert kernels.retest(device)
    assert kernels.retest(device)
    kinds = [(None, "gelu"), (None, "swiglu"), (None, "geglu"), (FP8, "gelu"), (torch.int8, "gelu")]
    assert tested == 2 * kinds
    assert remembered.was_passed(kernels._facts("a GPU", narrow=torch.int8, activation="gelu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert not kernels.retest(device)
