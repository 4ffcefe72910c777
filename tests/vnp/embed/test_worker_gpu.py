"""Whole commands on a GPU: the engine in a worker, fp8 and its check, fallbacks, the bench."""

import json

import numpy as np
import pytest
import torch

from store.open import open_store
from tests.vnp.models.checkpoints import random_state, write_checkpoint
from vnp.cli.main import main
from vnp.inference import kernels
from vnp.models import registry

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: no worker is tested on one", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed")

pytestmark = pytest.mark.gpu

HAS_FP8 = torch.cuda.get_device_capability() >= (8, 9)
needs_fp8 = pytest.mark.skipif(not HAS_FP8, reason="fp8 needs compute capability 8.9")
MODEL = "esm2_8m"


def coding_reads(path):
    """400 reads of 500 bases without a stop in their first frame."""
    codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
    codons = np.array([codon for codon in codons if codon not in ("TAA", "TAG", "TGA")])
    chosen = codons[np.random.default_rng(0).integers(0, len(codons), (400, 167))]
    path.write_text("".join(f">r{n}\n{''.join(row)[:500]}\n" for n, row in enumerate(chosen)))
    return path


def store_of(path, *models):
    names = [part for model in models for part in ("--model", model)]
    assert main(["init", str(path), "--block-rows", "64", *names]) == 0
    assert main(["append", str(path), str(coding_reads(path.with_suffix(".fasta")))]) == 0
    return path


def weights_of(folder, *, change):
    """A checkpoint whose layers change the residual stream so much, 1 being a lot."""
    spec = registry.model(MODEL)
    state = random_state(spec, prefix=True)
    for name, tensor in state.items():
        if name.endswith("output.dense.weight"):
            tensor *= change
    write_checkpoint(folder / spec.repo.rpartition("/")[2], spec, state)
    return folder


def rows_of(path, model):
    store = open_store(path)
    return store.read(model).astype(np.float64)


def environment_of(path, model):
    return open_store(path).provenance(model)["environment"]


def nearness(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_both_demo_models_in_one_worker_are_near_the_cpu(tmp_path):
    models = ("demo_dnabert_s", "demo_esm2")
    stores = {}
    for device in ("cuda", "cpu"):
        stores[device] = store_of(tmp_path / f"{device}.zarr", *models)
        assert main(["embed", str(stores[device]), "--device", device]) == 0
    for model in models:
        assert environment_of(stores["cuda"], model)["engine"].startswith("fused, Triton")
        near = nearness(rows_of(stores["cuda"], model), rows_of(stores["cpu"], model))
        assert near.min() > 0.999


@needs_fp8
def test_fp8_is_checked_on_the_stores_records_and_recorded(tmp_path):
    weights = str(weights_of(tmp_path / "weights", change=0.05))
    stores = {}
    for precision in ("fp8", "bfloat16"):
        stores[precision] = store_of(tmp_path / f"{precision}.zarr", MODEL)
        command = ["embed", str(stores[precision]), "--device", "cuda", "--weights", weights]
        assert main([*command, "--precision", precision]) == 0
    environment = environment_of(stores["fp8"], MODEL)
    assert open_store(stores["fp8"]).provenance(MODEL)["identity"]["precision"] == "fp8"
    assert int(environment["fp8_check_records"]) >= 300
    lowest = float(environment["fp8_cosine_lowest"])
    assert 0.995 <= lowest <= float(environment["fp8_cosine_median"]) <= 1
    near = nearness(rows_of(stores["fp8"], MODEL), rows_of(stores["bfloat16"], MODEL))
    print(f"\nfp8 through a worker: lowest cosine {near.min():.5f}, checked {lowest:.5f}")
    assert near.min() > 0.99


@needs_fp8
def test_fp8_that_is_too_far_off_is_refused_and_nothing_written(tmp_path, capsys):
    weights = str(weights_of(tmp_path / "weights", change=2.0))
    path = store_of(tmp_path / "run.zarr", MODEL)
    capsys.readouterr()
    command = ["embed", str(path), "--device", "cuda", "--weights", weights]
    assert main([*command, "--precision", "fp8"]) not in (0, None)
    assert "--precision bfloat16" in capsys.readouterr().err
    store = open_store(path)
    assert store.rows_filled(MODEL).sum() == 0
    assert store.provenance(MODEL) is None


def test_int8_is_measured_once_checked_and_the_same_bits_again(tmp_path):
    weights = str(weights_of(tmp_path / "weights", change=0.05))
    stores = {}
    for precision in ("int8", "bfloat16"):
        stores[precision] = store_of(tmp_path / f"{precision}.zarr", MODEL)
        command = ["embed", str(stores[precision]), "--device", "cuda", "--weights", weights]
        assert main([*command, "--precision", precision]) == 0
    recorded = open_store(stores["int8"]).provenance(MODEL)
    assert recorded["identity"]["precision"] == "int8"
    assert recorded["identity"]["calibration"]
    assert float(recorded["environment"]["int8_cosine_lowest"]) > 0.999
    first = rows_of(stores["int8"], MODEL)
    near = nearness(first, rows_of(stores["bfloat16"], MODEL))
    print(f"\nint8 through a worker: lowest cosine {near.min():.5f}")
    assert near.min() > 0.999
    store = open_store(stores["int8"])
    for block in range(store.n_blocks):
        store.reopen(MODEL, block)
    again = ["embed", str(stores["int8"]), "--device", "cuda", "--weights", weights]
    assert main(again) == 0  # in the precision and with the scales of the store
    assert np.array_equal(rows_of(stores["int8"], MODEL), first)
    assert open_store(stores["int8"]).provenance(MODEL) == recorded


@pytest.mark.parametrize(("bound", "taken"), [("0.99", "int8"), ("0.9999999", "bfloat16")])
def test_auto_takes_what_passes(tmp_path, bound, taken):
    weights = str(weights_of(tmp_path / "weights", change=0.05))
    path = store_of(tmp_path / "run.zarr", MODEL)
    command = ["embed", str(path), "--device", "cuda", "--weights", weights]
    assert main([*command, "--precision", "auto", "--precision-bound", bound]) == 0
    recorded = open_store(path).provenance(MODEL)
    assert recorded["identity"]["precision"] == taken
    assert "int8 0.99" in recorded["environment"]["auto"]


def test_without_triton_plain_torch_says_so_and_is_recorded(tmp_path, capsys, monkeypatch):
    fused = store_of(tmp_path / "fused.zarr", "demo_esm2")
    assert main(["embed", str(fused), "--device", "cuda"]) == 0
    monkeypatch.setattr(kernels, "why_not", lambda name: f"is not installed: pip install {name}")
    plain = store_of(tmp_path / "plain.zarr", "demo_esm2")
    capsys.readouterr()
    assert main(["worker", str(plain), "--device", "cuda"]) == 0
    assert "Triton is not installed" in capsys.readouterr().err
    assert "Triton is not installed" in environment_of(plain, "demo_esm2")["engine"]
    assert nearness(rows_of(plain, "demo_esm2"), rows_of(fused, "demo_esm2")).min() > 0.999
    if HAS_FP8:
        refused = ["worker", str(store_of(tmp_path / "fp8.zarr", "demo_esm2"))]
        assert main([*refused, "--device", "cuda", "--precision", "fp8"]) not in (0, None)
        assert "Triton is not installed" in capsys.readouterr().err


def test_an_old_gpu_runs_in_float16_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 0))
    path = store_of(tmp_path / "run.zarr", "demo_esm2")
    capsys.readouterr()
    assert main(["worker", str(path), "--device", "cuda"]) == 0
    assert "compute capability 7.0 is below 8.0" in capsys.readouterr().err
    environment = environment_of(path, "demo_esm2")
    assert "compute capability 7.0 is below 8.0" in environment["engine"]
    assert "has no bfloat16" in environment["chosen"]
    assert open_store(path).provenance("demo_esm2")["identity"]["precision"] == "float16"


def test_bench_tells_rates_and_what_the_store_will_take(tmp_path, capsys):
    path = store_of(tmp_path / "run.zarr", "demo_dnabert_s", "demo_esm2")
    capsys.readouterr()
    assert main(["bench", str(path), "--device", "cuda", "--seconds", "2", "--json"]) == 0
    speeds = json.loads(capsys.readouterr().out)
    assert [speed["model"] for speed in speeds] == ["demo_dnabert_s", "demo_esm2"]
    for speed in speeds:
        assert speed["device"] == torch.cuda.get_device_name()
        assert speed["records_per_second"] > 0
        assert 0 < speed["busy_share"] <= 1
        assert speed["rows_left"] == open_store(path).n_rows
        assert speed["seconds_left"] > 0
