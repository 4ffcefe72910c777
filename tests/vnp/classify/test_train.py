"""Training: labels, division without straddling, mini-batches, metrics, and the whole run."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from store.open import open_store
from store.store import Store
from tests.rows import filled_store
from vnp.classify.batches import STRIPE, Rows
from vnp.classify.fit import Schedule, computing_on, fit, threads_for
from vnp.classify.labels import UNLABELLED, LabelsError, RowLabels, label_rows, read_labels
from vnp.classify.metrics import all_metrics, rounded
from vnp.classify.split import Part, group_split, random_split, without_known
from vnp.cli.main import main

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[3] / "vnp/data/lambda_phage.fa.gz"


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=60).filter(
        lambda pairs: len({truth for truth, _ in pairs}) == 2
    )
)
def test_metrics_are_those_of_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    truth = np.array([int(a) for a, _ in pairs])
    score = np.array([b / 20 for _, b in pairs])
    found = all_metrics(truth, score)
    called = score > 0.5
    reference = {
        "accuracy": sklearn.metrics.accuracy_score(truth, called),
        "f1": sklearn.metrics.f1_score(truth, called, zero_division=0.0),
        "auroc": sklearn.metrics.roc_auc_score(truth, score),
        "auprc": sklearn.metrics.average_precision_score(truth, score),
        "brier": sklearn.metrics.brier_score_loss(truth, score),
    }
    for name, value in reference.items():
        assert found[name] == pytest.approx(value), name
    if called.any():
        assert found["precision"] == pytest.approx(sklearn.metrics.precision_score(truth, called))
    assert found["recall"] == pytest.approx(sklearn.metrics.recall_score(truth, called))


def test_calibration_error_by_hand() -> None:
    truth, score = np.array([1, 0, 1, 1]), np.array([0.95, 0.95, 0.1, 1.0])
    # Bins of 1/15: {0.95, 0.95, 1.0} with two viruses of three, {0.1} with one of one.
    expected = (abs(2.9 - 2) + abs(0.1 - 1)) / 4
    assert all_metrics(truth, score)["ece"] == pytest.approx(expected)
    assert all_metrics(np.array([1, 1]), np.array([0.2, 0.9]))["auroc"] is None


def test_a_metric_has_the_digits_that_its_records_support() -> None:
    assert [rounded(6 / 7, records) for records in (7, 70, 700, 7_000, 700_000)] == [
        "0.9", "0.86", "0.857", "0.8571", "0.8571"
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path / "run.zarr")


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.tsv"
    path.write_text(text)
    return path


def test_labels_of_samples_contigs_and_records(tmp_path: Path, store: Store) -> None:
    path = table(tmp_path, "sample\tlabel\nfirst\tvirus\nsecond\tothers\n")
    rows = label_rows(store, read_labels(path), by_sample=False)
    assert rows.label.tolist() == [1] * 67 + [0] * 33
    assert len(set(rows.group.tolist())) == 100, "every contig is a group"
    assert rows.new_window.all()
    by_sample = label_rows(store, read_labels(path), by_sample=True)
    assert by_sample.group.tolist() == [0] * 67 + [1] * 33

    path = table(tmp_path, "contig\tlabel\tgroup\nfirst_3\t1\tg\nsecond_5\t0\t\nfirst_4\t1\tg\n")
    rows = label_rows(store, read_labels(path), by_sample=False)
    assert np.flatnonzero(rows.label != UNLABELLED).tolist() == [3, 4, 67 + 5]
    assert rows.group[3] == rows.group[4] != rows.group[72]

    path = table(
        tmp_path,
        "sample\trecord\tlabel\nfirst\tfirst_8_chunk_1F1\tvirus\nsecond\tsecond_0_chunk_1F1\tothers\n",
    )
    rows = label_rows(store, read_labels(path), by_sample=False)
    assert np.flatnonzero(rows.label == 1).tolist() == [8]
    assert np.flatnonzero(rows.label == 0).tolist() == [67]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the header"),
        ("sample\tkind\n", "line 1: the header"),
        ("sample\tlabel\nfirst\tbug\n", "line 2: the label is 'bug'"),
        ("sample\tlabel\nfirst\n", "line 2: 1 column where the header has 2"),
        ("sample\tlabel\nfirst\tvirus\nfirst\tothers\n", "line 3: first has another label"),
        ("sample\tlabel\nfirst\tvirus\n", "both labels"),
        (
            "sample\tlabel\nfirst\tvirus\nthird\tothers\n",
            "1 sample that .* does not hold, such as 'third'",
        ),
        ("record\tlabel\na\tvirus\nb\tothers\n", "2 records that"),
        ("contig\tlabel\na\tvirus\nb\tothers\n", "2 contigs that"),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, store: Store, text: str, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        label_rows(store, read_labels(table(tmp_path, text)), by_sample=False)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 12)), min_size=2, max_size=40).filter(
        lambda groups: len({label for label, _ in groups}) == 2
    ),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 5),
)
def test_no_group_straddles_and_both_classes_are_everywhere(
    groups: list[tuple[int, int]], test: float, seed: int
) -> None:
    label = np.repeat([label for label, _ in groups], [n for _, n in groups]).astype(np.int8)
    group = np.repeat(np.arange(len(groups)), [n for _, n in groups]).astype(np.int32)
    rows = RowLabels(label, group, np.ones(len(label), bool))
    try:
        split = group_split(rows, held_out=0.2, test=test, seed=seed, stretch=False)
    except LabelsError:
        needed = 3 if test else 2
        assert min(sum(a == code for a, _ in groups) for code in (0, 1)) < needed
        return
    for number in range(len(groups)):
        assert len(set(split.part[group == number].tolist())) == 1
    for code in (0, 1):
        parts = set(split.part[label == code].tolist())
        assert {Part.TRAIN, Part.HELD_OUT} <= parts
        assert (Part.TEST in parts) == (test > 0)


def test_stretches_of_one_contig_do_not_overlap_across_a_boundary() -> None:
    windows = np.repeat(np.arange(200), 3)  # three records a window
    label = np.concatenate([np.ones(300, np.int8), np.zeros(300, np.int8)])
    group = np.where(label == 1, 0, np.arange(600)).astype(np.int32)
    new_window = np.diff(windows, prepend=-1) > 0
    split = group_split(RowLabels(label, group, new_window), held_out=0.2, test=0.0, seed=1)
    assert split.stretched == ("virus",)
    assert split.left_out > 0
    virus = [set(split.part[windows == w].tolist()) for w in range(100)]
    assert all(len(parts) == 1 for parts in virus)
    parts = [next(iter(found)) for found in virus]
    for a, b in pairwise(parts):
        assert a == b or Part.UNUSED in (a, b)


def test_random_split_and_repeated_sequences() -> None:
    label = np.array([0, 1] * 50 + [UNLABELLED] * 10, np.int8)
    split = random_split(label, held_out=0.1, test=0.2, seed=3)
    assert np.bincount(split.part).tolist() == [10, 70, 10, 20]
    digest = np.arange(110, dtype=np.uint64)
    trained = int(np.flatnonzero(split.part == Part.TRAIN)[0])
    held = int(np.flatnonzero(split.part == Part.HELD_OUT)[0])
    digest[held] = digest[trained]
    part, repeated = without_known(split.part, digest)
    assert (repeated, part[held], part[trained]) == (1, Part.UNUSED, Part.TRAIN)


@pytest.mark.parametrize("memory", [1 << 20, 1])
def test_every_row_comes_once_an_epoch_with_its_label(tmp_path: Path, memory: int) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=250)  # all rows differ
    view = store.merged()
    picked = np.flatnonzero(np.arange(250) % 3)
    label = picked % 2
    rows = Rows(view, picked, label, memory=memory)
    assert (rows._held is not None) == (memory > 1)
    assert len(picked) > 2 * STRIPE
    whole = {values.tobytes(): int(y) for values, y in zip(view[picked], label, strict=True)}
    orders = []
    for seed in (0, 1, 0):
        seen = []
        sizes = []
        for x, y in rows.shuffled(batch=32, rng=np.random.default_rng(seed)):
            sizes.append(len(y))
            for values, code in zip(x.numpy().astype(np.float16), y.tolist(), strict=True):
                assert whole[values.tobytes()] == code
                seen.append(values.tobytes())
        assert sorted(seen) == sorted(values.tobytes() for values in view[picked])
        assert set(sizes[:-1]) == {32}
        orders.append(seen)
    assert orders[0] == orders[2] != orders[1]
    x, y = zip(*rows.in_order(), strict=True)
    np.testing.assert_array_equal(torch.cat(x).numpy(), view[picked].astype("f4"))
    np.testing.assert_array_equal(torch.cat(y).numpy(), label)


def test_fitting_is_seeded_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=300)
    view = store.merged()
    label = np.random.default_rng(0).integers(0, 2, 300)  # nothing to learn: it must stop
    train, held = np.arange(0, 200), np.arange(200, 300)
    runs = []
    state = torch.get_rng_state()
    for _ in range(2):
        told: list[int] = []
        module, history, best = fit(
            Rows(view, train, label[train]),
            Rows(view, held, label[held]),
            inputs=view.shape[1],
            schedule=Schedule(learning_rate=0.05, epochs=60, patience=3),
            device=torch.device("cpu"),
            tell=lambda epoch, told=told: told.append(epoch.epoch),
        )
        losses = [epoch.held_out_loss for epoch in history]
        assert best == int(np.argmin(losses)) + 1
        assert len(history) == best + 3
        assert told == list(range(1, len(history) + 1))
        runs.append((module.state_dict(), losses))
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is left alone"
    assert runs[0][1] == runs[1][1]
    for name, tensor in runs[0][0].items():
        assert torch.equal(tensor, runs[1][0][name])


def test_a_small_set_is_trained_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert threads_for(10_000, 3328) == 1
    assert threads_for(100_000, 3328) == 4
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3})
    assert threads_for(100_000, 3328) == 1
    before = torch.get_num_threads()
    with computing_on(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def open_frames(path: Path, *, contigs: int, codons: int) -> None:
    """Random DNA without a stop in its first frame."""
    rng = random.Random(5)
    sense = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
    sense = [codon for codon in sense if codon not in ("TAA", "TAG", "TGA")]
    with path.open("w") as file:
        for number in range(contigs):
            sequence = "".join(rng.choice(sense) for _ in range(codons))
            file.write(f">open{number}\n{sequence}\n")


def test_the_bundled_example_trains_a_classifier_that_predict_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.zarr"
    open_frames(tmp_path / "open.fa", contigs=8, codons=1000)
    for arguments in (
        ["init", path, "--recipe", "demo", "--block-rows", 64],
        ["append", path, EXAMPLE],
        ["append", path, tmp_path / "open.fa"],
        ["worker", path, "--threads", 1],
    ):
        assert main([str(argument) for argument in arguments]) == 0
    capsys.readouterr()
    labels = table(tmp_path, "sample\tlabel\nlambda_phage\tvirus\nopen\tothers\n")
    output = tmp_path / "demo.safetensors"
    train = ["train", path, "--labels", labels, "-o", output, "--json", "--learning-rate", "0.01"]
    train += ["--epochs", "15", "--held-out", "0.25"]
    assert main([str(argument) for argument in train]) == 0
    output_text = capsys.readouterr()
    report = json.loads(output_text.out)
    training = report["card"]["training"]
    assert "stretches of them are held out" in output_text.err
    assert training["split"]["stretched"] == ["virus"]
    assert training["metrics"]["held_out"]["auroc"] > 0.7
    assert report["card"]["models"] == [
        {"name": "demo_dnabert_s", "dim": 96},
        {"name": "demo_esm2", "dim": 128},
    ]
    assert "means nothing" in (tmp_path / "demo.md").read_text()
    first = output.read_bytes()
    assert main([*(str(argument) for argument in train), "--force"]) == 0
    assert output.read_bytes() == first, "the same seed gives the same classifier"
    capsys.readouterr()
    predict = ["predict", path, "--classifier", output, "-o", tmp_path / "out", "--json"]
    assert main([str(argument) for argument in predict]) == 0
    told = capsys.readouterr()
    assert "demo_dnabert_s and demo_esm2 are demo models with random weights" in told.err
    assert "mean nothing" in json.loads(told.out)["warning"]
    samples = {found["sample"]: found for found in json.loads(told.out)["samples"]}
    share = {name: s["viral_segments"] / s["segments"] for name, s in samples.items()}
    assert share["lambda_phage"] > 0.6 > 0.3 > share["open"]


def test_a_published_split_and_one_by_sample(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = table(tmp_path, "sample\tlabel\nfirst\tvirus\nsecond\tothers\n")
    base = ["train", str(store.path), "--labels", str(labels), "--epochs", "2"]
    out = ["-o", str(tmp_path / "m.safetensors"), "--force"]
    assert main([*base, *out, "--split", "random", "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "overlapping segments are on both sides" in told.err
    assert "training on the CPU with 1 thread\n" in told.err
    assert re.search(r"held-out \(10 records\): \d+ right, accuracy \d\.\d\d, ", told.out)
    assert "| Records | 10 |\n| Accuracy | " in (tmp_path / "m.md").read_text()
    assert main([*base, *out, "--split", "sample"]) == 1
    assert "has 1 group with records" in capsys.readouterr().err
    assert main([*base, *out, "--held-out", "0"]) == 2
    assert main([*base, "-o", "m.pth"]) == 2


def test_rows_that_are_not_certified_are_left_out_and_counted(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.path / "obs/filled_wide/c.2").unlink()
    labels = table(tmp_path, "sample\tlabel\nfirst\tvirus\nsecond\tothers\n")
    arguments = ["train", str(store.path), "--labels", str(labels), "--epochs", "1"]
    assert main([*arguments, "-o", str(tmp_path / "m.safetensors")]) == 3
    assert "16 labelled records are not certified" in capsys.readouterr().err
    assert open_store(store.path).n_rows == 100
