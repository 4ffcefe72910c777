"""scikit-learn's classifiers: the same answers from our files, and files that are no such thing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import vnp.classify.fit_estimators as fit_estimators
from store.open import open_store
from store.store import Store
from tests.rows import filled_store
from vnp import api
from vnp.classify.batches import Rows
from vnp.classify.estimators import Trees, estimator_from_tensors
from vnp.classify.files import Card, load_classifier, save_classifier
from vnp.classify.fit_estimators import LOGISTIC, TREES, fit_logistic, fit_trees, trees_of
from vnp.classify.labels import LabelsError, RowLabels
from vnp.classify.mlp import ClassifierError
from vnp.classify.split import fold_split
from vnp.cli.main import main
from vnp.embed.function import embed

pytestmark = pytest.mark.slow

KINDS = ("logistic", "hist-gradient-boosting")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "run.zarr", rows=240)


def rows_of(store: Store) -> Rows:
    """Rows whose class depends on two features, with some labels wrong."""
    view = store.merged()
    x = np.asarray(view[0 : store.n_rows]).astype("f8")
    label = (x[:, 3] * x[:, 12] > 0).astype(np.int64)
    label[::11] = 1 - label[::11]
    return Rows(view, np.arange(store.n_rows), label)


def features(rows: Rows) -> np.ndarray:
    return torch.cat([x for x, _ in rows.in_order()]).numpy()


def through_file(module: Any, path: Path) -> Any:
    save_classifier(module, Card(0, 0, ""), path)
    return load_classifier(path).module


def test_logistic_regression_answers_as_scikit_learn_does(tmp_path: Path, store: Store) -> None:
    rows = rows_of(store)
    x = features(rows)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(**LOGISTIC, random_state=1))
    expected = theirs.fit(x.astype("f8"), rows.label).predict_proba(x)
    module, settings = fit_logistic(rows, seed=1)
    found = through_file(module, tmp_path / "m.safetensors").probabilities(torch.from_numpy(x))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert settings["C"] == 1.0
    assert settings["seed"] == 1


def test_a_feature_that_never_changes_does_not_matter(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(80, 3)).astype("f4")
    x[:, 1] = 4.25
    module, _ = fit_logistic(held(x, (x[:, 0] > 0).astype(np.int64)), seed=0)
    assert torch.isfinite(module.weight).all()
    assert (module.probabilities(torch.from_numpy(x))[:, 1].numpy() > 0.5)[x[:, 0] > 0.5].all()


def held(x: np.ndarray, label: np.ndarray) -> Any:
    """What `Rows` offers, of an array."""

    class Held:
        width = x.shape[1]

        def __len__(self) -> int:
            return len(x)

        def in_order(self) -> Any:
            yield torch.from_numpy(x), torch.from_numpy(label)

    found = Held()
    found.label = label  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"max_iter": 60},
        {"max_iter": 1},
        {"max_leaf_nodes": 2, "max_iter": 7},
        {"max_depth": 9, "max_leaf_nodes": None, "min_samples_leaf": 1, "max_iter": 20},
        {"min_samples_leaf": 10_000, "max_iter": 3},  # trees that are a leaf each
    ],
)
@pytest.mark.parametrize("missing", [False, True])
def test_boosted_trees_answer_as_scikit_learn_does(
    tmp_path: Path, settings: dict[str, Any], missing: bool
) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 9)).astype("f4")
    y = ((x[:, 0] * x[:, 1] > 0) ^ (rng.random(500) < 0.1)).astype(int)
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    theirs = HistGradientBoostingClassifier(**{**TREES, **settings}, random_state=0).fit(x, y)
    module = through_file(trees_of(theirs), tmp_path / "m.safetensors")
    # Others too, and values that lie exactly on a threshold.
    edges = trees_of(theirs).tensors()["trees.threshold"].reshape(-1)[:64]
    more = rng.normal(size=(64, 9))
    more[: len(edges), 0] = edges.numpy()
    for some in (x.astype("f8"), more):
        found = module.probabilities(torch.from_numpy(some)).numpy()
        np.testing.assert_allclose(found, theirs.predict_proba(some), atol=1e-6)
    assert module.probabilities(torch.empty(0, 9)).shape == (0, 2)


def test_many_rows_are_walked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 4)).astype("f4")
    theirs = HistGradientBoostingClassifier(max_iter=5).fit(x, x[:, 0] > 0)
    module = trees_of(theirs)
    whole = module.probabilities(torch.from_numpy(x))
    monkeypatch.setattr("vnp.classify.estimators._MOST_CELLS", 37)
    assert torch.equal(module.probabilities(torch.from_numpy(x)), whole)


def test_trees_of_another_form_are_never_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Any) -> Trees:
        module = trees_of(model)
        module.baseline += 0.01
        return module

    def absent(model: Any) -> Trees:
        raise AttributeError("_predictors")

    for instead in (wrong, absent):
        monkeypatch.setattr(fit_estimators, "trees_of", instead)
        with pytest.raises(fit_estimators.UsageError, match="another form than is known here"):
            fit_trees(rows_of(store), seed=0)


def test_more_rows_than_memory_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    with pytest.raises(fit_estimators.UsageError, match="240 training records of 28 numbers"):
        fit_logistic(rows_of(store), seed=0)


def change(name: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return lambda tensors: {**tensors, name: value(tensors[name])}


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "trees.value"}, "lacks the tensor"),
        (lambda t: {**t, "extra": torch.zeros(1)}, "has a tensor extra"),
        (change("trees.left", lambda t: t * 0), "do not make a tree"),  # a circle
        (change("trees.right", lambda t: t + 1), "do not make a tree"),
        (change("trees.right", lambda t: t - 10_000), "do not make a tree"),
        (change("trees.feature", lambda t: t + 1000), "feature that does not exist"),
        (change("trees.feature", lambda t: t - 1000), "feature that does not exist"),
        (change("trees.value", lambda t: t * torch.nan), "NaN or infinity"),
        (change("trees.threshold", lambda t: t * torch.nan), "NaN"),
        (change("trees.left", lambda t: t.int()), "holds torch.int32"),
        (change("trees.missing_left", lambda t: t.double()), "holds torch.float64"),
        (change("trees.value", lambda t: t[:, 1:].contiguous()), "of one shape"),
        (
            lambda t: {k: v.repeat(1, 1 << 14) if v.dim() == 2 else v for k, v in t.items()},
            "more than any here",
        ),
        (change("trees.baseline", lambda t: t.repeat(2)), "not a number each"),
        (change("trees.inputs", lambda t: t.double()), "not a number each"),
    ],
)
def test_files_that_are_no_trees_are_refused(
    tmp_path: Path, of: Callable[[Any], Any], message: str
) -> None:
    x = np.random.default_rng(0).normal(size=(100, 5))
    theirs = HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=5).fit(x, x[:, 0] > 0)
    save_file(of(trees_of(theirs).tensors()), tmp_path / "m.safetensors")
    with pytest.raises(ClassifierError, match=message):
        load_classifier(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.zeros(2, 3).double(), torch.zeros(1).double(), "one number for each input"),
        (torch.zeros(1, 0).double(), torch.zeros(1).double(), "one number for each input"),
        (torch.zeros(1, 3), torch.zeros(1).double(), "not float64"),
        (torch.full((1, 3), torch.inf).double(), torch.zeros(1).double(), "NaN or infinity"),
    ],
)
def test_files_that_are_no_regression_are_refused(
    weight: torch.Tensor, bias: torch.Tensor, message: str
) -> None:
    with pytest.raises(ClassifierError, match=message):
        estimator_from_tensors({"logistic.weight": weight, "logistic.bias": bias}, source="m")


def labels_of(tmp_path: Path) -> Path:
    path = tmp_path / "labels.tsv"
    path.write_text("sample\tlabel\nfirst\tvirus\nsecond\tothers\n")
    return path


def train(store: Store, tmp_path: Path, *more: str) -> int:
    arguments = ["train", str(store.path), "--labels", str(labels_of(tmp_path)), "--json"]
    return main([*arguments, "-o", str(tmp_path / "m.safetensors"), *more])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_with_its_cards_and_predicts(
    kind: str,
    tmp_path: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(TREES, "max_iter", 20)
    assert train(store, tmp_path, "--classifier", kind, "--folds", "3", "--test", "0.2") == 0
    told = json.loads(capsys.readouterr().out)["card"]
    assert told == json.loads((tmp_path / "m.json").read_text())
    training = told["training"]
    assert (told["kind"], told["inputs"], told["hidden"]) == (kind, 28, 0)
    assert training["classifier"] == kind
    assert training["schedule"]["seed"] == 42
    assert set(training["metrics"]) == {"held_out", "test"}
    assert len(training["cross_validation"]["metrics"]) == 3
    text = (tmp_path / "m.md").read_text()
    assert "3-fold cross-validation by contig" in text
    assert "| 1 | 2 | 3 | mean |" in text
    assert "had no part in the training" in text
    assert "Best of" not in text
    first = load_file(tmp_path / "m.safetensors")
    assert train(store, tmp_path, "--classifier", kind, "--test", "0.2", "--force") == 0
    again = load_file(tmp_path / "m.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first), "seeded"
    capsys.readouterr()
    predict = ["predict", str(store.path), "--classifier", str(tmp_path / "m.safetensors")]
    assert main([*predict, "-o", str(tmp_path / "out"), "--save", "kind"]) == 0
    module = load_classifier(tmp_path / "m.safetensors").module
    x = torch.from_numpy(np.asarray(store.merged()[0:240]).astype("f4"))
    np.testing.assert_array_equal(
        open_store(store.path).scores("kind"), module.probabilities(x).numpy()
    )
    convert = ["classifier", "convert", str(tmp_path / "m.safetensors")]
    assert main([*convert, str(tmp_path / "copy.safetensors")]) == 0
    assert "on 28 numbers, small (8) + wide (20)" in capsys.readouterr().out


def test_a_card_of_another_kind_is_refused(tmp_path: Path, store: Store) -> None:
    assert train(store, tmp_path, "--classifier", "logistic") == 0
    card = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.json").write_text(json.dumps({**card, "kind": "mlp"}))
    with pytest.raises(ClassifierError, match="says mlp, and m.safetensors holds logistic"):
        load_classifier(tmp_path / "m.safetensors")


def test_an_mlp_is_cross_validated_too(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(store, tmp_path, "--folds", "2", "--epochs", "2") == 0
    cross = json.loads(capsys.readouterr().out)["card"]["training"]["cross_validation"]
    metrics = cross["metrics"]
    assert sum(fold["records"] for fold in metrics) == 240
    assert cross["mean"]["accuracy"] == pytest.approx(np.mean([m["accuracy"] for m in metrics]))


def test_folds_that_leave_a_class_one_short_or_repeated_contig(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two contigs a class, of one class a part of the other: each fold holds out stretches."""
    letters = "".join(random.Random(2).choices("ACGT", weights=(15, 35, 35, 15), k=30_000))
    host = ["".join(random.Random(n).choices("ACGT", (15, 35, 35, 15), k=15_000)) for n in (3, 4)]
    (tmp_path / "all.fa").write_text(
        f">whole\n{letters}\n>part\n{letters[5000:17_000]}\n>h0\n{host[0]}\n>h1\n{host[1]}\n"
    )
    (tmp_path / "labels.tsv").write_text(
        "contig\tlabel\nwhole\tvirus\npart\tvirus\nh0\tothers\nh1\tothers\n"
    )
    api.create(tmp_path / "run.zarr", recipe="demo")
    api.append(tmp_path / "run.zarr", tmp_path / "all.fa")
    assert embed(tmp_path / "run.zarr", in_process=True, device="cpu").complete
    words = ("--labels", str(tmp_path / "labels.tsv"), "-o", str(tmp_path / "m.safetensors"))
    folds = ("--folds", "2", "--epochs", "2", "--device", "cpu", "--json")
    assert main(["train", str(tmp_path / "run.zarr"), *words, *folds]) == 0
    card = json.loads(capsys.readouterr().out)["card"]["training"]
    assert [each["records"] > 0 for each in card["cross_validation"]["metrics"]] == [True, True]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--classifier", "logistic", "--epochs", "3"], 2, "--epochs is of the training of an mlp"),
        (["--classifier", "logistic", "--threads", "1"], 2, "--threads is of the training of an"),
        (["--folds", "3", "--split", "random"], 2, "--split random does not: choose one"),
        (["--folds", "3", "--split", "sample"], 1, "has 1 group with records"),
        (["--folds", "100"], 1, "has 80 groups with records, and 100 folds need 100"),
    ],
)
def test_what_does_not_go_together_is_refused(
    more: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(store, tmp_path, *more) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()


def test_no_more_threads_than_processors(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train(store, tmp_path, "--threads", "100000")
    assert "argument --threads: 100000: this process may use" in capsys.readouterr().err


def test_without_scikit_learn_the_extra_is_named(
    tmp_path: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    assert train(store, tmp_path, "--classifier", "logistic") == 2
    assert "--classifier logistic needs sklearn, which" in capsys.readouterr().err


def test_no_group_is_in_two_folds_and_folds_are_alike() -> None:
    rng = np.random.default_rng(0)
    size = rng.integers(1, 40, 60)
    group = np.repeat(np.arange(60), size).astype(np.int32)
    label = np.repeat(rng.integers(-1, 2, 60), size).astype(np.int8)
    mixed = np.flatnonzero(group == 7)  # a contig of records of both classes
    label[mixed] = np.arange(len(mixed)) % 2
    fold = fold_split(RowLabels(label, group, np.ones(len(label), bool)), folds=5, seed=3)
    np.testing.assert_array_equal(fold == -1, label == -1)
    for number in range(60):
        assert len(set(fold[group == number].tolist())) == 1
    for code in (0, 1):
        counts = np.bincount(fold[label == code], minlength=5)
        assert counts.min() > 0.8 * counts.max()
    again = fold_split(RowLabels(label, group, np.ones(len(label), bool)), folds=5, seed=3)
    np.testing.assert_array_equal(fold, again)
    with pytest.raises(LabelsError, match="50 folds need 50"):
        fold_split(RowLabels(label, group, np.ones(len(label), bool)), folds=50, seed=3)
