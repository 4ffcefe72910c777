"""What faster precisions would change: on a CPU, with int8 as on a GPU in plain torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vnp
from store.errors import UsageError
from store.open import open_store
from store.store import Store
from tests.vnp.classify.classify_files import publish
from tests.vnp.embed.test_int8_store import encoders_of, load
from vnp.classify.features import FeaturesError
from vnp.classify.files import load_classifier
from vnp.classify.precisions import compare_precisions
from vnp.cli.main import main
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import ModelMismatchError
from vnp.inference import kernels
from vnp.inference import load as loading
from vnp.inference.load import load_encoder

EXAMPLE = Path(__file__).parents[3] / "vnp/data/lambda_phage.fa.gz"
DNA, PROTEIN = "demo_dnabert_s", "demo_esm2"
INPUTS = 224  # of both

pytestmark = pytest.mark.slow  # it embeds


class _Spoiled:
    """An encoder whose rows differ from what they should be."""

    def __init__(self, encoder: Any, spoil: Any) -> None:
        self._encoder, self._spoil = encoder, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def embed(self, tokens: Any) -> Any:
        return self._spoil(self._encoder.embed(tokens))


class Loader:
    """Loads int8 in plain torch, "fp8" as float32 that is spoilt, and the rest as it is."""

    def __init__(self, spoil: Any = lambda rows: -rows) -> None:
        self.asked: list[tuple[str, str]] = []
        self.measured: list[int] = []
        self.spoil = spoil

    def __call__(self, source: str, *, precision: Any, **settings: Any) -> Any:
        self.asked.append((source, precision))
        if precision == "int8":
            return load(source, precision=precision, measured=self.measured)
        if precision == "fp8":
            settings |= {"precision": "float32"}
            return _Spoiled(load_encoder(source, **settings), self.spoil)
        return load_encoder(source, precision=precision, **settings)


def faster(name: str, *, device: str) -> tuple[str, ...]:
    """As on a GPU: eight bits for ESM-2 alone."""
    return ("int8", "fp8") if name == PROTEIN else ()


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "faster_precisions", faster)
    monkeypatch.setattr(loading, "bfloat16_instructions", lambda: None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    path = tmp_path / "run.zarr"
    vnp.create(path, recipe="demo")
    vnp.append(path, EXAMPLE)
    return open_store(path)


def settings() -> WorkerConfig:
    return WorkerConfig(device="cpu", threads=1)


def classifier(tmp_path: Path, inputs: int = INPUTS) -> Path:
    path = tmp_path / f"c{inputs}.pth"
    publish(path, inputs)
    return path


def files(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def test_cosines_and_calls_by_precision(store: Store, tmp_path: Path) -> None:
    before = files(Path(str(store.path)))
    loader = Loader()
    found = compare_precisions(
        store, classifier=load_classifier(classifier(tmp_path)), config=settings(), load=loader
    )
    assert loader.asked == [
        (PROTEIN, "bfloat16"), (DNA, "auto"), (PROTEIN, "int8"), (PROTEIN, "fp8")
    ]  # fmt: skip
    assert found.features == (DNA, PROTEIN)
    assert found.records == store.n_rows
    dna, protein = found.models
    assert (dna.model, dna.precision, dna.faster) == (DNA, None, ())
    assert (protein.model, protein.precision) == (PROTEIN, "bfloat16")
    int8, fp8 = protein.faster
    assert (int8.precision, fp8.precision) == ("int8", "float32")  # what came of it
    assert 0.999 < int8.lowest <= int8.median <= 1
    assert int8.passes == (int8.lowest >= found.bound == 0.9995)
    assert fp8.median < -0.99
    assert not fp8.passes
    assert min(int8.records_per_second, fp8.records_per_second) > 0
    assert fp8.calls_changed is not None
    assert fp8.calls_changed_share == fp8.calls_changed / found.records
    # Nothing was pinned, and no row is filled.
    assert store.provenance(PROTEIN) is None
    assert files(Path(str(store.path))) == before


def test_the_calls_are_those_of_the_features_that_a_store_would_hold(
    store: Store, tmp_path: Path
) -> None:
    import torch

    file = load_classifier(classifier(tmp_path))
    loader = Loader()
    found = compare_precisions(store, classifier=file, config=settings(), load=loader)
    bands = {}
    for model, precision in ((DNA, "auto"), (PROTEIN, "bfloat16")):
        encoder = load_encoder(model, device="cpu", precision=precision, threads=1)
        rows = encoder.embed(encoder.tokenise(*store.sequences(0)))
        bands[model] = rows.astype(np.float16).astype(np.float32)
    exact = load_encoder(PROTEIN, device="cpu", precision="float32", threads=1)
    other = -exact.embed(exact.tokenise(*store.sequences(0))).astype(np.float16).astype(np.float32)

    def viral(protein: Any) -> Any:
        scores = file.module.probabilities(
            torch.from_numpy(np.concatenate([bands[DNA], protein], axis=1))
        )
        return (scores[:, 1] >= scores[:, 0]).numpy()

    assert found.viral == viral(bands[PROTEIN]).sum()
    changed = int((viral(bands[PROTEIN]) != viral(other)).sum())
    assert changed > 0, "or this tests nothing"
    assert found.models[1].faster[1].calls_changed == changed


def test_rows_that_a_store_cannot_hold_count_as_changed(store: Store, tmp_path: Path) -> None:
    def spoil(rows: Any) -> Any:
        rows = rows.copy()
        rows[0], rows[1] = np.nan, 1e6
        return rows

    file = load_classifier(classifier(tmp_path))
    found = compare_precisions(store, classifier=file, config=settings(), load=Loader(spoil))
    fp8 = found.models[1].faster[1]
    assert fp8.calls_changed is not None
    assert fp8.calls_changed >= 2
    assert fp8.lowest <= 0
    assert not fp8.passes


def test_one_model_and_no_classifier(store: Store) -> None:
    loader = Loader()
    found = compare_precisions(store, models=[PROTEIN], config=settings(), load=loader)
    assert [model.model for model in found.models] == [PROTEIN]
    assert {source for source, _ in loader.asked} == {PROTEIN}
    assert found.viral is found.classifier is found.models[0].faster[0].calls_changed is None


def test_a_classifier_of_other_models_has_no_say(store: Store, tmp_path: Path) -> None:
    file = load_classifier(classifier(tmp_path))
    loader = Loader()
    found = compare_precisions(store, models=[DNA], classifier=file, config=settings(), load=loader)
    assert loader.asked == []
    assert found.viral is None
    assert found.features == (DNA, PROTEIN)


def test_a_store_in_int8_lends_its_scales(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders_of(store.path).get(PROTEIN)
    recorded = open_store(store.path).provenance(PROTEIN)
    loader = Loader()
    compare_precisions(open_store(store.path), models=[PROTEIN], config=settings(), load=loader)
    assert loader.measured == []
    assert open_store(store.path).provenance(PROTEIN) == recorded


def test_a_store_of_mixed_precision_has_no_int8(tmp_path: Path) -> None:
    path = tmp_path / "mixed.zarr"
    vnp.create(path, recipe="demo", mixed_precision=True)
    vnp.append(path, EXAMPLE)
    loader = Loader()
    compare_precisions(open_store(path), models=[PROTEIN], config=settings(), load=loader)
    assert [precision for _, precision in loader.asked] == ["bfloat16", "fp8"]


def test_a_cpu_with_bfloat16_is_compared_with_float32(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(kernels, "faster_precisions", lambda *_, **__: ())
    monkeypatch.setattr(loading, "bfloat16_instructions", lambda: "AVX512-BF16")
    file = classifier(tmp_path)
    options = ["--classifier", str(file), "--device", "cpu", "-q"]
    assert main(["precisions", str(store.path), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for model in told["models"]:
        assert model["precision"] == "float32"
        [only] = model["faster"]
        assert only["precision"] == "bfloat16"
        assert only["lowest"] > 0.999
        assert only["calls_changed"] in range(store.n_rows + 1)
    assert main(["precisions", str(store.path), *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 7
    assert said[0].startswith(f"{DNA} on ")
    assert ", 45 records: float32 " in said[0]
    assert said[1].startswith("  bfloat16 ")
    assert "(passes: at least 0.9995)" in said[1]
    assert "calls that change: " in said[1]
    assert said[2] == "  without int8: only ESM-2 has a form in eight bits"
    assert said[5] == "  without int8: a demo model is too small to gain by eight bits"
    assert said[6] == f"{file} calls {told['viral']} of 45 records viral, by {DNA} + {PROTEIN}"


def test_a_token_budget_is_taken(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def note(*_: Any, config: WorkerConfig, **__: Any) -> Any:
        given.append(config.token_budget)
        raise UsageError("enough")

    monkeypatch.setattr("vnp.classify.precisions.try_precision", note)
    assert main(["precisions", str(store.path), "--device", "cpu", "--token-budget", "512"]) == 2
    with pytest.raises(UsageError, match="enough"):
        vnp.precisions(store, device="cpu", token_budget=256)
    assert given == [512, 256]


def test_where_nothing_is_faster_nothing_is_loaded(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(kernels, "faster_precisions", lambda *_, **__: ())
    monkeypatch.setattr("vnp.classify.precisions.try_precision", None)
    path, file = str(store.path), str(classifier(tmp_path))
    assert main(["precisions", path, "--classifier", file, "--device", "cpu"]) == 0
    nothing = "nothing faster than its usual precision runs on this device"
    assert capsys.readouterr().out.splitlines() == [
        f"{DNA}: {nothing}", "  without int8: only ESM-2 has a form in eight bits",
        f"{PROTEIN}: {nothing}", "  without int8: a demo model is too small to gain by eight bits",
        f"{file}: none of its models was compared, so no call can change",
    ]  # fmt: skip


def test_what_does_not_fit_is_one_line(store: Store, tmp_path: Path, capsys: Any) -> None:
    empty = tmp_path / "empty.zarr"
    vnp.create(empty, recipe="demo")
    other = str(classifier(tmp_path, 5))
    junk = tmp_path / "junk.pth"
    junk.write_bytes(b"junk")
    capsys.readouterr()
    for words, code, said in (
        ([empty], 2, "empty.zarr has no rows yet: append a sample"),
        ([store.path, "--model", "esm2_3b"], 2, "the store has no model 'esm2_3b'"),
        ([store.path, "--classifier", other], 2, "takes 5 numbers a row, but demo_dnabert_s (96)"),
        ([store.path, "--classifier", junk], 1, "junk.pth"),
    ):
        assert main(["precisions", *map(str, words), "--device", "cpu"]) == code
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
    with pytest.raises(FeaturesError, match="give a classifier that was trained on models of"):
        vnp.precisions(store, classifier=other)
    with pytest.raises(UsageError, match="no rows"):
        vnp.precisions(empty)


def test_other_weights_than_the_store_has_are_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vnp.embed(store, in_process=True, device="cpu", models=PROTEIN).complete

    def others(source: str, **settings: Any) -> Any:
        encoder = Loader()(source, **settings)
        encoder._identity["weights"] = "sha256:other"
        return encoder

    with pytest.raises(ModelMismatchError, match="are not those that the store was made with"):
        compare_precisions(open_store(store.path), models=[PROTEIN], config=settings(), load=others)
