"""Every command of the list that a store in S3 has, on moto."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from store.location import S3Location
from store.open import open_store
from tests.store.s3 import servers
from tests.vnp.classify.classify_files import publish as publish_classifier
from vnp.cli.main import main

EXAMPLE = str(files("vnp") / "data/lambda_phage.fa.gz")


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, object]:
    found = main([*arguments, "--json"])
    said = capsys.readouterr()
    assert found == code, said.err
    assert servers.SECRET not in said.out + said.err
    assert servers.KEY_ID not in said.out + said.err
    value = json.loads(said.out)
    assert isinstance(value, dict)
    return value


@pytest.mark.slow
@pytest.mark.usefixtures("moto")
def test_a_store_in_s3_from_init_to_report(
    place: S3Location,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    store = str(place)
    answer(capsys, "init", store, "--recipe", "demo", "--block-rows", "16")
    contigs = tmp_path / "short.fa"
    contigs.write_text(">short\nAC\n")
    answer(capsys, "append", store, EXAMPLE)
    appended = answer(capsys, "append", store, str(contigs))
    [sample] = appended.get("samples", [appended])
    folder = store.replace("://", "-").replace("/", "-")
    report = Path(sample["contigs_without_records_file"])
    assert report == Path(f"{folder}.vnp/logs/append-short.no-records.tsv")
    assert "short" in report.read_text()
    answer(capsys, "worker", store, "--model", "demo_esm2", "--no-linger")
    half = answer(capsys, "status", store)
    assert half["rows_done"] == 45
    embedded = answer(capsys, "embed", store)
    assert embedded["complete"]
    assert answer(capsys, "verify", store, "--repair")["findings"] == []

    publish_classifier(tmp_path / "mlp.pth", 224)
    answer(capsys, "predict", store, "--classifier", "mlp.pth", "--save", "phage")
    assert Path("run.zarr.predictions").is_dir()
    again = ("--classifier", "mlp.pth", "--recipe", "demo", "-o", "again")
    answer(capsys, "run", store, EXAMPLE, *again)
    assert Path("again").is_dir()
    assert open_store(place).scores("phage").shape == (45, 2)
    answer(capsys, "report", store, "--no-umap")
    assert place.name in Path("run.zarr.report.html").read_text()
    answer(capsys, "export", store, "--to", "out.npy")

    answer(capsys, "convert", store, "local.h5")
    back = str(place.with_name("back.zarr"))
    answer(capsys, "convert", "local.h5", back)
    answer(capsys, "compare", store, back)
    assert answer(capsys, "verify", back)["findings"] == []
    remote = str(place.with_name("run.h5"))
    answer(capsys, "convert", "local.h5", remote)
    answer(capsys, "convert", remote, "again.zarr")
    assert answer(capsys, "verify", "again.zarr")["findings"] == []
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(servers.SECRET.encode() in path.read_bytes() for path in kept)


@pytest.mark.usefixtures("moto")
@pytest.mark.parametrize(
    "command", [["init"], ["append", EXAMPLE], ["status"], ["verify"], ["worker"], ["report"]]
)
def test_hdf5_in_s3_is_refused_by_all_but_convert(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = command
    assert main([name, "s3://bucket/run.h5", *rest]) == 2
    said = capsys.readouterr().err
    assert "only 'vnp convert'" in said


@pytest.mark.usefixtures("moto")
def test_keys_in_a_location_are_refused_and_not_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "s3://AKIAEXAMPLE:topsecret@bucket/run.zarr"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "topsecret" not in said
    assert "AWS_SECRET_ACCESS_KEY" in said
