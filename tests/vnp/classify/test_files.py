"""Classifier files: the published form is read as data, all else is refused unexecuted."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from store.errors import UsageError
from tests.vnp.classify.classify_files import MLPClassifier, as_main, publish, trained
from vnp.classify.files import load_classifier, save_classifier
from vnp.classify.mlp import ClassifierError
from vnp.classify.pickled import UnsafeClassifierError
from vnp.cli.main import main

INPUTS = 12


class Runs:
    """Pickles as a call of a function that would leave a mark."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def scores(module: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.softmax(module(x), dim=1).numpy()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(7, INPUTS, generator=torch.Generator().manual_seed(1))


def test_a_published_file_gives_the_same_scores(tmp_path: Path, x: torch.Tensor) -> None:
    original = publish(tmp_path / "500_model.pth", INPUTS)
    found = load_classifier(tmp_path / "500_model.pth")
    np.testing.assert_array_equal(found.module.probabilities(x).numpy(), scores(original, x))
    assert (found.card.inputs, found.card.hidden) == (INPUTS, 512)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_read_too(tmp_path: Path, x: torch.Tensor, zipped: bool) -> None:
    original = trained(INPUTS)
    path = tmp_path / "state.pth"
    torch.save(original.state_dict(), path, _use_new_zipfile_serialization=zipped)
    found = load_classifier(path)
    np.testing.assert_array_equal(found.module.probabilities(x).numpy(), scores(original, x))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda module: {"state_dict": module.state_dict(), "epoch": 3},
        lambda module: {"model_state_dict": module.state_dict(), "optimizer_state_dict": {}},
        lambda module: torch.nn.DataParallel(module).state_dict(),
        lambda module: {"state_dict": torch.nn.DataParallel(module).state_dict()},
        torch.nn.DataParallel,
        lambda module: {"model": module},
        lambda module: {f"_orig_mod.module.{k}": v for k, v in module.state_dict().items()},
        lambda module: module,
    ],
    ids=[
        "state_dict",
        "model_state_dict",
        "parallel state",
        "both",
        "parallel",
        "model",
        "compiled",
        "module",
    ],
)
def test_files_of_the_ports_give_the_same_scores(
    tmp_path: Path, x: torch.Tensor, wrap: Callable[[MLPClassifier], object]
) -> None:
    module = trained(12)
    # Saved under the module's own path, here that of this test, and not __main__.
    torch.save(wrap(module), tmp_path / "port.pth")  # DataParallel moves it to a GPU
    assert torch.equal(load_classifier(tmp_path / "port.pth").module(x), module.cpu()(x))


def test_the_epsilon_of_the_file_is_used(tmp_path: Path, x: torch.Tensor) -> None:
    original = trained(INPUTS)
    original.bn1.eps = 0.5
    with as_main(MLPClassifier):
        torch.save(original, tmp_path / "m.pth")
    found = load_classifier(tmp_path / "m.pth")
    np.testing.assert_array_equal(found.module.probabilities(x).numpy(), scores(original, x))
    card = save_classifier(found.module, found.card, tmp_path / "m.safetensors")
    assert card.eps == 0.5
    again = load_classifier(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.module.probabilities(x).numpy(), scores(original, x))


def test_a_whole_module_of_old_torch_is_named(tmp_path: Path) -> None:
    with as_main(MLPClassifier), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(trained(INPUTS), tmp_path / "m.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ClassifierError, match="torch before 1.6"):
        load_classifier(tmp_path / "m.pth")


def test_hostile_files_are_refused_by_name_and_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = f"touch {mark}"
    module = trained(INPUTS)
    nested = trained(INPUTS)
    nested.bn1.note = [{"deep": (Runs(os.system, command),)}]
    cases = {
        "posix.system": Runs(os.system, command),
        "builtins.eval": Runs(builtins.eval, f"open({str(mark)!r}, 'w')"),
        "builtins.exec": {**module.state_dict(), "x": Runs(builtins.exec, f"open({str(mark)!r})")},
        "torch.hub.load": Runs(torch.hub.load, "a/b", "c"),
        "builtins.getattr": Runs(getattr, "text", "upper"),
        "posix.system ": nested,
    }
    for number, (name, content) in enumerate(cases.items()):
        for zipped in (True, False):
            path = tmp_path / f"{number}{zipped}.pth"
            with as_main(MLPClassifier), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # no source is found for a class of no script
                torch.save(content, path, _use_new_zipfile_serialization=zipped)
            wanted = name.strip().replace("builtins", "(builtins|__builtin__)")
            with pytest.raises(UnsafeClassifierError, match=wanted):
                load_classifier(path)
    assert not mark.exists()


def test_plain_pickles_and_indirect_names_are_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        raw = pickle.dumps(Runs(os.system, f"touch {mark}"), protocol)
        (tmp_path / "plain.pth").write_bytes(raw)
        with pytest.raises(ClassifierError):
            load_classifier(tmp_path / "plain.pth")
        with zipfile.ZipFile(tmp_path / "z.pth", "w") as archive:
            archive.writestr("z/data.pkl", raw)
            archive.writestr("z/version", "3\n")
        with pytest.raises(UnsafeClassifierError, match="posix.system|STACK_GLOBAL|posix system"):
            load_classifier(tmp_path / "z.pth")
    assert not mark.exists()


def test_another_class_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "m.pth")
    with pytest.raises(UnsafeClassifierError, match=r"torch\.nn\.modules\.container\.Sequential"):
        load_classifier(tmp_path / "m.pth")


def test_what_is_not_a_classifier_is_named(tmp_path: Path) -> None:
    state = trained(INPUTS).state_dict()
    wrong = {
        "lacks the tensor bn1.weight": {k: v for k, v in state.items() if k != "bn1.weight"},
        r"shape \(3, 512\), not \(2, 512\)": {**state, "output_layer.weight": torch.zeros(3, 512)},
        "holds NaN": {**state, "bn1.bias": torch.full((512,), torch.nan)},
        "has a tensor extra": {**state, "extra": torch.zeros(1)},
        "no matrix hidden_layer.weight": {"a": torch.zeros(1)},
        "not a state dict": {"hidden_layer.weight": 3},
        "holds several models, state_dict and model_state_dict": {
            "state_dict": state,
            "model_state_dict": state,
        },
    }
    for message, content in wrong.items():
        torch.save(content, tmp_path / "m.pth")
        with pytest.raises(ClassifierError, match=message):
            load_classifier(tmp_path / "m.pth")
    (tmp_path / "m.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ClassifierError, match="git lfs pull"):
        load_classifier(tmp_path / "m.pth")
    for raw in (b"", b"\0" * 100, b"PK\x03\x04 cut", b"no pickle at all"):
        (tmp_path / "m.pth").write_bytes(raw)
        with pytest.raises(ClassifierError):
            load_classifier(tmp_path / "m.pth")
    with pytest.raises(ClassifierError, match="is not a file"):
        load_classifier(tmp_path / "none.pth")


@pytest.mark.parametrize("suffix", [".json", ".md"])
def test_the_card_in_place_of_the_weights_is_named(tmp_path: Path, suffix: str) -> None:
    card = tmp_path / f"demo{suffix}"
    card.write_text("{}")
    with pytest.raises(ClassifierError, match=r"is the card .*: name .*/demo\.safetensors$"):
        load_classifier(card)


def test_converting_keeps_every_bit_and_the_card_belongs_to_its_weights(
    tmp_path: Path, x: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    original = publish(tmp_path / "m.pth", INPUTS)
    target = tmp_path / "m.safetensors"
    convert = ["classifier", "convert", str(tmp_path / "m.pth"), str(target)]
    assert main([*convert, "--segment-length", "300", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)["card"]
    assert (card["inputs"], card["segment_length"], card["source"]) == (INPUTS, 300, "m.pth")
    assert card == json.loads((tmp_path / "m.json").read_text())
    found = load_classifier(target)
    np.testing.assert_array_equal(found.module.probabilities(x).numpy(), scores(original, x))
    assert main(convert) == 2
    assert "exists already" in capsys.readouterr().err
    publish(tmp_path / "other.pth", INPUTS, seed=1)
    other = tmp_path / "o.safetensors"
    assert main(["classifier", "convert", str(tmp_path / "other.pth"), str(other)]) == 0
    other.replace(target)
    with pytest.raises(ClassifierError, match="belongs to other weights"):
        load_classifier(target)
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        save_classifier(found.module, found.card, tmp_path / "m.pt")


def test_a_published_width_names_the_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path / "m.pth", 3328)
    main(["classifier", "convert", str(tmp_path / "m.pth"), str(tmp_path / "m.safetensors")])
    assert load_classifier(tmp_path / "m.safetensors").card.models == (
        ("dnabert_s", 768),
        ("esm2_3b", 2560),
    )
