"""Training, residues, imports and exports of a store in S3, on moto."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import vnp
from store.location import S3Location
from store.open import open_store
from tests.rows import expected, filled_store
from tests.vnp.exchange.stores import ids
from tests.vnp.exchange.test_import_compare import Case, check, new_store
from tests.vnp.s3.test_s3_commands import EXAMPLE, answer
from vnp.cli.main import main

pytestmark = pytest.mark.usefixtures("moto")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_what_is_trained_on_a_store_in_s3_scores_it(
    place: S3Location, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled_store(place)
    (here / "labels.tsv").write_text("sample\tlabel\nfirst\tvirus\nsecond\tothers\n")
    made = ("--labels", "labels.tsv", "-o", "made.safetensors", "--epochs", "2")
    report = answer(capsys, "train", str(place), *made)
    assert report["uncertified"] == 0
    answer(capsys, "predict", str(place), "--classifier", "made.safetensors", "-o", "calls")
    assert {path.name for path in Path("calls").iterdir()} >= {"first", "second"}


@pytest.mark.slow
def test_residues_of_a_store_in_s3_average_to_its_rows(place: S3Location, here: Path) -> None:
    vnp.create(str(place), models=["demo_esm2"])
    vnp.append(str(place), EXAMPLE)
    assert vnp.embed(str(place), in_process=True, device="cpu").complete
    report = vnp.residues(str(place), "out.h5", model="demo_esm2", rows=[3, 5], device="cpu")
    assert report.records == 2
    with h5py.File("out.h5") as file:
        means = np.stack([file[name][:].mean(axis=0, dtype="f4") for name in file])
    np.testing.assert_allclose(
        np.sort(means, axis=0),
        np.sort(vnp.open(str(place)).read("demo_esm2")[[3, 5]], axis=0),
        rtol=2**-9,
        atol=1e-3,
    )


def test_embeddings_of_others_become_a_model_of_a_store_in_s3(
    place: S3Location, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled_store(place)
    values = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float16)
    np.savez("mine.npz", ids=np.array(ids(store)), embeddings=values)
    added = answer(capsys, "import", str(place), "mine.npz", "--model", "mine")
    assert (added["certified"], added["added"]) == (100, True)
    assert answer(capsys, "import", str(place), "mine.npz", "--model", "mine")["published"] == 0
    assert (open_store(place).read("mine") == values).all()


def test_a_store_in_s3_is_searched(place: S3Location) -> None:
    filled_store(place)
    reader = open_store(place)
    values = expected(reader, "wide")
    hits = reader.search(values[40], k=3, models=["wide"], engine="numpy")
    unit = values.astype("f4") / np.linalg.norm(values.astype("f4"), axis=1, keepdims=True)
    cosine = unit @ unit[40]
    np.testing.assert_allclose(hits.scores[0], np.sort(cosine)[::-1][:3], atol=1e-5)
    np.testing.assert_allclose(cosine[hits.rows[0]], hits.scores[0], atol=1e-5)


@pytest.mark.slow
def test_results_of_virnucpro_go_into_a_store_in_s3_and_out_again(
    place: S3Location, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(here)
    new_store(place)
    imported = ("import", str(place), str(case.merged()), "--fasta", str(case.fasta))
    assert answer(capsys, *imported)["complete"]
    check(open_store(place), case)
    answer(capsys, "export", str(place), "--to", "out.pt")
    assert torch.load("out.pt", weights_only=True)["ids"] == case.ids
    for name in ("out.h5ad", "out.parquet", "out.h5"):
        answer(capsys, "export", str(place), "--to", name)


def test_files_are_read_and_written_on_this_machine_only(
    place: S3Location, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled_store(place)
    there = "s3://key:topsecret@bucket/file"
    (here / "labels.tsv").write_text("sample\tlabel\nfirst\tvirus\nsecond\tothers\n")
    store, outside = str(place), "copy it into the bucket"
    for command, said in (
        (["append", store, f"{there}.fa"], "copy it here first"),
        (["import", store, f"{there}.npz", "--model", "mine"], "copy it here first"),
        (["train", store, "--labels", f"{there}.tsv", "-o", "x.safetensors"], "copy it here first"),
        (["train", store, "--labels", "labels.tsv", "-o", f"{there}.safetensors"], outside),
        (["predict", store, "--classifier", f"{there}.pth"], "copy it here first"),
        (["export", store, "--to", f"{there}.npy"], outside),
        (["residues", store, "--model", "small", "--rows", "0", "-o", f"{there}.h5"], outside),
        (["report", store, "-o", f"{there}.html"], outside),
    ):
        assert main(command) == 2, command
        message = capsys.readouterr().err
        assert said in message
        assert "s3://bucket/file." in message
        assert "topsecret" not in message
    assert not any("s3:" in path.name for path in here.iterdir())
