"""int8 in a store: scales are measured once, pinned, and the same for every worker."""

import time
from pathlib import Path

import numpy as np
import pytest

from store.errors import DamageError, NoRoomError, UsageError
from store.hdf5 import layout
from store.io.ragged import from_items
from store.open import create_store, open_store
from store.schema import Model
from store.store import Store
from tests.vnp.inference.engine_setup import PLAIN_FUSED, cosines, placed
from vnp.cli.main import main
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import Encoders, ModelMismatchError
from vnp.inference.calibrate import calibrate
from vnp.inference.calibrated import Int8Encoder
from vnp.inference.calibration import PRODUCTS, Calibration, LayerScales
from vnp.inference.load import engine_of, load_encoder, naming_of
from vnp.inference.ops import torch as plain
from vnp.inference.pipeline import EngineEncoder
from vnp.inference.quality import QualityError
from vnp.models import demo, registry, weights
from vnp.models.tokens import ResidueTokenizer

EXAMPLE = Path(__file__).parents[3] / "vnp/data/lambda_phage.fa.gz"
MODEL = "demo_esm2"

pytestmark = pytest.mark.slow  # it embeds


def store_of(path, *options):
    assert main(["init", str(path), "--model", MODEL, *options]) == 0
    assert main(["append", str(path), str(EXAMPLE)]) == 0
    return path


def load(source, *, precision, spoiled=False, measured=None, **_):
    """An encoder in int8 as on a GPU, in plain torch."""
    assert precision == "int8"
    spec = registry.model(source)
    tensors = weights.select(demo.tensors_of(spec, naming_of(spec)), naming_of(spec), source="demo")

    def settings(precision):
        return {
            "placement": placed("cpu", precision), "token_budget": 512, "warn": print,
            "identity": {"model": source, "precision": precision}, "environment": {},
        }  # fmt: skip

    def measure(tokens):
        if measured is not None:
            measured.append(len(tokens))
        return calibrate(
            spec, tensors, tokens, placement=placed("cpu", "bfloat16"), ops=plain, token_budget=512
        )

    def build(calibration):
        if spoiled:
            tensors["encoder.layer.0.output.dense.weight"] = tensors[
                "encoder.layer.0.output.dense.weight"
            ].flip(0)
        return engine_of(
            spec, tensors, placement=placed("cpu", "int8"), ops=plain, fused=PLAIN_FUSED,
            calibration=calibration,
        )  # fmt: skip

    def reference():
        exact = engine_of(spec, dict(original), placement=placed("cpu", "bfloat16"), ops=plain)
        return EngineEncoder(spec, exact, ResidueTokenizer(), **settings("bfloat16"))

    original = dict(tensors)
    encoder = Int8Encoder(
        spec, ResidueTokenizer(), build=build, measure=measure, **settings("int8")
    )
    encoder.reference = reference
    return encoder


def encoders_of(path, **options):
    return Encoders(
        open_store(path),
        config=WorkerConfig(precision="int8"),
        load=lambda *source, **settings: load(*source, **settings, **options),
        clock=time.monotonic,
    )


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_measured_once_pinned_and_checked(tmp_path, suffix):
    path = store_of(tmp_path / f"run{suffix}")
    measured = []
    encoders = encoders_of(path, measured=measured)
    first = encoders.get(MODEL)
    [(began, ended)] = encoders.loads
    assert 0 < encoders.measuring_seconds < ended - began
    recorded = open_store(path).provenance(MODEL)
    assert recorded["identity"]["precision"] == "int8"
    spec = registry.model(MODEL)
    pinned = Calibration.from_dict(
        recorded["calibration"], layers=range(spec.layers, spec.layers + 1), dim=spec.dim,
        ffn=spec.ffn,
    )  # fmt: skip
    assert recorded["identity"]["calibration"] == pinned.digest()
    assert float(recorded["environment"]["int8_cosine_lowest"]) > 0.999
    assert recorded["environment"]["int8_kept_in_bfloat16"] == "none"
    second = encoders_of(path, measured=measured).get(MODEL)
    assert len(measured) == 1
    assert second.provenance().identity_hash() == first.provenance().identity_hash()
    store = open_store(path)
    tokens = first.tokenise(*store.sequences(0))
    assert np.array_equal(first.embed(tokens), second.embed(tokens))
    exact = load_encoder(MODEL, device="cpu", precision="float32", threads=1).embed(tokens)
    assert cosines(first.embed(tokens), exact).min() > 0.999


def test_of_two_that_measure_at_once_one_yields(tmp_path):
    path = store_of(tmp_path / "run.zarr")
    other = encoders_of(path)
    late = encoders_of(path)
    theirs = []

    def measure_late(*source, **settings):
        encoder = load(*source, **settings)
        measure = encoder.measure

        def measured(tokens):
            ours = measure(tokens)
            if not theirs:  # while this worker measures, another is done
                theirs.append(other.get(MODEL))
            first = ours.layers[0]
            changed = type(first)(first.qkv + 1, first.out, first.up, first.down)
            return Calibration((changed, *ours.layers[1:]))

        encoder.measure = measured
        return encoder

    late._load = measure_late
    mine = late.get(MODEL)
    assert mine.provenance().identity_hash() == theirs[0].provenance().identity_hash()


@pytest.mark.parametrize("change", [{"calibration": None}, {"calibration": "x"}, {"bfloat16": []}])
def test_recorded_scales_that_are_not_those_are_named(tmp_path, monkeypatch, change):
    path = store_of(tmp_path / "run.zarr")
    encoders_of(path).get(MODEL)
    recorded = open_store(path).provenance(MODEL)
    if "bfloat16" in change:
        change = {"calibration": recorded["calibration"] | {"bfloat16": ["0.up"]}}
    monkeypatch.setattr(Store, "provenance", lambda *_: recorded | change)
    with pytest.raises(DamageError, match="int8"):
        encoders_of(path).get(MODEL)


def test_auto_goes_on_without_int8_where_a_file_has_no_room_for_it(tmp_path, monkeypatch, caplog):
    path = store_of(tmp_path / "run.h5")
    pin = Store.pin_provenance

    def small(store, model, provenance):
        if "calibration" in provenance:
            raise NoRoomError("the file has room for 16,384 bytes")
        return pin(store, model, provenance)

    monkeypatch.setattr(Store, "pin_provenance", small)
    _, encoders = choosing(path, monkeypatch, bound=0.999)
    encoders.get(MODEL)
    recorded = open_store(path).provenance(MODEL)
    assert recorded["identity"]["precision"] == "bfloat16"
    assert recorded["environment"]["auto"].endswith("no room for the scales of int8")
    assert "room for 16,384 bytes" in caplog.text


def test_a_file_of_an_earlier_version_says_that_it_has_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "_PROVENANCE_LEAST", 600)
    monkeypatch.setattr(layout, "_PROVENANCE_PER_NUMBER", 0)
    path = store_of(tmp_path / "run.h5")
    with pytest.raises(NoRoomError, match=r"has room for 600 bytes .*'vnp convert'"):
        open_store(path).pin_provenance(MODEL, {"identity": {}, "calibration": "x" * 600})
    assert open_store(path).provenance(MODEL) is None


@pytest.mark.parametrize("source", ["esm2_8m", "esm2_650m", "esm2_3b", "esm2_15b"])
def test_a_new_file_has_room_for_any_scales(tmp_path, source):
    spec = registry.model(source)
    generator = np.random.default_rng(0)

    def scales(width):
        return generator.integers(-128, 128, width, dtype=np.int8)  # they do not compress

    layers = (
        LayerScales(*(scales(spec.dim) for _ in range(3)), scales(spec.ffn), frozenset(PRODUCTS))
        for _ in range(spec.layers)
    )
    content = Calibration(tuple(layers)).as_dict()
    path = tmp_path / "run.h5"
    store = create_store(path, models=[Model(source, spec.dim)], segment_length=500)
    text = {"environment": {"note": "x" * 2_000}, "identity": {"calibration": "0" * 16}}
    store.pin_provenance(source, text | {"calibration": content})
    assert open_store(path).provenance(source)["calibration"] == content


def test_a_store_of_mixed_precision_refuses_it(tmp_path):
    path = store_of(tmp_path / "run.zarr", "--mixed-precision")
    with pytest.raises(UsageError, match="has no place for them"):
        encoders_of(path).get(MODEL)
    assert open_store(path).provenance(MODEL) is None


def test_what_is_too_far_off_is_refused_and_nothing_pinned(tmp_path):
    path = store_of(tmp_path / "run.zarr")
    with pytest.raises(QualityError, match=r"in int8 is too far .* use --precision bfloat16"):
        encoders_of(path, spoiled=True).get(MODEL)
    assert open_store(path).provenance(MODEL) is None


def choosing(path, monkeypatch, *, bound=0.9995, faster=("int8", "fp8"), **options):
    """Encoders that choose, where int8 runs as above and fp8 is bad."""
    asked = []

    def load_any(source, *, precision, **settings):
        asked.append(precision)
        if precision == "fp8":
            raise QualityError("fp8 is too far from bfloat16", 0.99)
        if precision == "auto":
            return load_encoder(source, device="cpu", precision="bfloat16", threads=1)
        return load(source, precision=precision, **options)

    monkeypatch.setattr("vnp.inference.kernels.faster_precisions", lambda *_, **__: faster)
    config = WorkerConfig(precision="auto", precision_bound=bound)
    return asked, Encoders(open_store(path), config=config, load=load_any, clock=time.monotonic)


def test_auto_takes_the_fastest_that_passes_and_says_so(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "vnp")
    path = store_of(tmp_path / "run.zarr")
    asked, encoders = choosing(path, monkeypatch, bound=0.999)
    encoders.get(MODEL)
    assert asked == ["int8"]
    recorded = open_store(path).provenance(MODEL)
    assert recorded["identity"]["precision"] == "int8"
    assert recorded["environment"]["auto"].startswith("int8 0.99")
    assert "precision auto takes int8 (lowest cosine: int8 0.99" in caplog.text
    # Whoever comes later takes what is recorded, and tries nothing.
    asked, encoders = choosing(path, monkeypatch, faster=())
    encoders.get(MODEL)
    assert asked == ["int8"]


def test_auto_falls_back_to_the_usual_precision(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "vnp")
    path = store_of(tmp_path / "run.zarr")
    asked, encoders = choosing(path, monkeypatch, bound=0.9999999)
    encoders.get(MODEL)
    assert asked == ["int8", "fp8", "auto"]
    recorded = open_store(path).provenance(MODEL)
    assert recorded["identity"]["precision"] == "bfloat16"
    assert "calibration" not in recorded
    found = recorded["environment"]["auto"]
    assert found.startswith("int8 0.99")
    assert found.endswith("fp8 0.99000; at least 1 was asked for")
    assert "precision auto takes bfloat16" in caplog.text


def test_who_says_nothing_is_told_of_auto_once(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "vnp")
    path = store_of(tmp_path / "run.zarr")
    monkeypatch.setattr("vnp.inference.kernels.faster_precisions", lambda *_, **__: ("int8", "fp8"))
    for _ in range(2):  # the store is begun by the first
        config = WorkerConfig(device="cpu", threads=1)
        Encoders(open_store(path), config=config, load=load_encoder, clock=time.monotonic).get(
            MODEL
        )
    assert caplog.text.count("--precision auto would try int8 and fp8") == 1
    assert "auto" not in open_store(path).provenance(MODEL)["environment"]


@pytest.mark.parametrize("bound", [0, -1, 1.5, float("nan")])
def test_a_bound_is_a_cosine(bound):
    with pytest.raises(UsageError, match="is not a cosine"):
        WorkerConfig(precision="auto", precision_bound=bound)


def test_a_store_begun_in_another_precision_stays_in_it(tmp_path):
    path = store_of(tmp_path / "run.zarr")
    assert main(["embed", str(path), "--precision", "float32", "--device", "cpu"]) == 0
    with pytest.raises(ModelMismatchError, match="precision is int8 here and float32 in the store"):
        encoders_of(path).get(MODEL)


def test_without_a_store_it_says_what_is_missing():
    encoder = load(MODEL, precision="int8")
    with pytest.raises(UsageError, match="measured on the records of a store"):
        encoder.embed(encoder.tokenise(from_items([b"ACGT"]), from_items([b"MKV"])))
