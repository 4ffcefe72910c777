"""Workers of unlike precisions in one store: refused, unless the store was made for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from store.open import open_store
from tests.vnp.report.packing import part_of
from vnp.cli.main import main

pytestmark = pytest.mark.slow  # it embeds

EXAMPLE = Path(__file__).parents[3] / "vnp/data/lambda_phage.fa.gz"


def vnp(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def begun(path: Path, *options: str) -> Path:
    """A store with a block of each model filled in float32, and one open."""
    assert vnp("init", path, "--recipe", "demo", "--block-rows", 24, *options) == 0
    assert vnp("append", path, EXAMPLE) == 0
    assert vnp("worker", path, "--threads", 1, "--precision", "float32") == 0
    store = open_store(path)
    for model in store.schema.models:
        store.reopen(model.name, 1)
    return path


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_store_of_mixed_precision_takes_any_and_says_which(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = begun(tmp_path / f"mixed{suffix}", "--mixed-precision")
    assert vnp("worker", path, "--threads", 1, "--precision", "bfloat16") == 0
    assert vnp("worker", path, "--threads", 1) == 0, "auto takes what suits the device"
    store = open_store(path)
    assert store.schema.mixed_precision
    for model in store.schema.models:
        assert store.certify(model.name).complete
        found = [store.certificate(model.name, block) for block in (0, 1)]
        assert [each.details["precision"] for each in found if each] == ["float32", "bfloat16"]
        provenance = store.provenance(model.name)
        assert provenance is not None
        assert provenance["identity"]["precision"] == "mixed"
    capsys.readouterr()
    assert vnp("status", path) == 0
    assert capsys.readouterr().out.count("24 rows in float32, 21 rows in bfloat16") == 2
    assert vnp("verify", path, "--json") == 0
    counts = {"float32": 24, "bfloat16": 21}
    found = json.loads(capsys.readouterr().out)["precisions"]
    assert found == {model.name: counts for model in store.schema.models}
    page = tmp_path / "page.html"
    assert vnp("report", path, "-o", page) == 0
    models = part_of(page.read_text(), "overview")["models"]
    assert json.dumps(models).count("float32 (1 block); bfloat16 (1 block)") == len(models)
    plain = begun(tmp_path / f"plain{suffix}")
    assert vnp("embed", plain) == 0
    capsys.readouterr()
    assert vnp("compare", path, plain, "--json") == 0
    for model in json.loads(capsys.readouterr().out)["models"]:
        exact, rounded = sorted(model["by_precision"], key=lambda part: -part["lowest"])
        assert (exact["here"], exact["there"], exact["rows"]) == ("float32", "float32", 24)
        assert exact["lowest"] == pytest.approx(1, abs=1e-6)
        assert (rounded["here"], rounded["there"]) == ("bfloat16", "float32")
        assert 0.99 < rounded["lowest"] < 1
        assert exact["rows"] + rounded["rows"] == model["rows"]
    copy = tmp_path / "copy.zarr" if suffix == ".h5" else tmp_path / "copy.h5"
    assert vnp("convert", path, copy) == 0
    assert open_store(copy).schema.mixed_precision
    np.testing.assert_array_equal(open_store(copy).read("demo_esm2"), store.read("demo_esm2"))


def test_any_other_store_refuses_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = begun(tmp_path / "plain.zarr")
    capsys.readouterr()
    assert vnp("worker", path, "--threads", 1, "--precision", "bfloat16") == 1
    said = capsys.readouterr().err
    assert "precision is bfloat16 here and float32 in the store" in said
    assert "--precision float32" in said
    assert "vnp init --mixed-precision" in said
    assert vnp("worker", path, "--threads", 1) == 0, "auto takes the store's"
    again = ("init", path, "--recipe", "demo", "--if-missing")
    assert vnp(*again) == 0
    assert vnp(*again, "--mixed-precision") == 2


def test_only_the_precision_may_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vnp.models import weights

    path = begun(tmp_path / "mixed.zarr", "--mixed-precision")
    monkeypatch.setattr(weights, "digest", lambda _: "sha256:other")
    assert vnp("worker", path, "--threads", 1) == 1
    said = capsys.readouterr().err
    assert "weights is sha256:other here" in said
    assert "in another type, as float16" in said
