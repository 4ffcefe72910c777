"""The precision of a store that CPUs fill: the first one's instructions choose it, once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store.open import open_store
from vnp.cli.main import main
from vnp.embed.config import WorkerConfig
from vnp.embed.worker import Worker
from vnp.inference.load import load_encoder

pytestmark = pytest.mark.slow  # it embeds

EXAMPLE = Path(__file__).parents[3] / "vnp/data/lambda_phage.fa.gz"
MODELS = ("demo_dnabert_s", "demo_esm2")


def vnp(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def processor(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """One with these instructions for bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags, True))


def new(path: Path) -> Path:
    """A store with two blocks of each model to fill."""
    assert vnp("init", path, "--recipe", "demo", "--block-rows", 24) == 0
    assert vnp("append", path, EXAMPLE) == 0
    return path


def pinned(path: Path) -> set[str]:
    """In which precisions the models of a store are pinned."""
    store = open_store(path)
    return {(store.provenance(model) or {})["identity"]["precision"] for model in MODELS}


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize(
    ("first", "second", "precision"),
    [
        (["avx512_bf16"], [], "bfloat16"),
        (["amx_bf16"], ["avx512_bf16"], "bfloat16"),
        ([], ["avx512_bf16"], "float32"),
    ],
)
def test_the_first_worker_chooses_and_others_follow(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: list[str],
    second: list[str],
    precision: str,
    suffix: str,
) -> None:
    path = new(tmp_path / f"run{suffix}")
    processor(monkeypatch, *first)
    assert vnp("worker", path, "--threads", 1, "--device", "cpu") == 0
    assert pinned(path) == {precision}
    before = {model: open_store(path).read(model) for model in MODELS}
    for model in MODELS:
        open_store(path).reopen(model, 1)
    processor(monkeypatch, *second)
    assert vnp("worker", path, "--threads", 1, "--device", "cpu") == 0
    store = open_store(path)
    assert pinned(path) == {precision}
    for model in MODELS:
        assert store.certify(model).complete
        np.testing.assert_array_equal(store.read(model), before[model])


def test_a_worker_that_loaded_while_another_began_the_store_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = new(tmp_path / "run.zarr"), new(tmp_path / "other.zarr")
    processor(monkeypatch)
    assert vnp("worker", other, "--threads", 1, "--device", "cpu") == 0
    processor(monkeypatch, "avx512_bf16")
    asked = []

    def slow(name: str, **options: Any) -> Any:
        asked.append((name, options["precision"]))
        encoder = load_encoder(name, **options)
        began = open_store(other).provenance(name)
        assert began is not None
        open_store(path).pin_provenance(name, began)
        return encoder

    config = WorkerConfig(device="cpu", threads=1)
    Worker(path, config=config, stop=threading.Event(), load=slow).run()
    assert sorted(asked) == [(name, how) for name in MODELS for how in ("auto", "float32")]
    assert pinned(path) == {"float32"}
    for model in MODELS:
        np.testing.assert_array_equal(open_store(path).read(model), open_store(other).read(model))


def test_without_provenance_the_first_block_says_in_which_precision_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = new(tmp_path / "run.zarr")
    processor(monkeypatch)
    assert vnp("worker", path, "--threads", 1, "--device", "cpu") == 0
    before = {model: open_store(path).read(model) for model in MODELS}
    for model in MODELS:
        open_store(path).reopen(model, 1)
        open_store(path).drop_provenance(model)
    processor(monkeypatch, "avx512_bf16")
    assert vnp("worker", path, "--threads", 1, "--device", "cpu") == 0
    assert pinned(path) == {"float32"}
    for model in MODELS:
        np.testing.assert_array_equal(open_store(path).read(model), before[model])


def test_a_precision_that_is_asked_for_is_not_bent_to_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = new(tmp_path / "run.zarr")
    processor(monkeypatch, "avx512_bf16")
    assert vnp("worker", path, "--threads", 1, "--device", "cpu") == 0
    open_store(path).reopen("demo_esm2", 1)
    capsys.readouterr()
    assert vnp("worker", path, "--threads", 1, "--precision", "float32") == 1
    assert "precision is float32 here and bfloat16 in the store" in capsys.readouterr().err
