"""Exports read back by the libraries they are for."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import numpy as np
import pytest

from store.errors import DataError, UsageError
from store.open import create_store
from store.store import Store
from tests.rows import HeldClaim, append, expected, filled_store
from tests.vnp.exchange.stores import DEMO, demo, ids, merged, named_store
from vnp.cli.main import main
from vnp.exchange.arrays import escape
from vnp.exchange.export import export_store

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_anndata_files(full: Store, tmp_path: Path, suffix: str) -> None:
    anndata = pytest.importorskip("anndata")
    target = tmp_path / f"out{suffix}"
    report = export_store(full, target, sequences=True)
    read = anndata.read_h5ad if suffix == ".h5ad" else anndata.read_zarr
    data = read(target)
    assert (report.rows, report.columns, report.dtype) == (40, 11, "float16")
    assert data.shape == (40, 0)
    assert data.obs_names.tolist() == ids(full)
    plain = full.to_anndata(slice(None))
    for column in plain.obs:
        assert data.obs[column].tolist() == plain.obs[column].tolist(), column
    assert data.obs["protein"].tolist() == full.column("protein").decode()
    for model in DEMO:
        assert data.obsm[f"X_{model.name}"].dtype == np.float16
        np.testing.assert_array_equal(data.obsm[f"X_{model.name}"], expected(full, model.name))
    assert data.uns["vnp"] == plain.uns["vnp"]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr", ".parquet"])
def test_kept_scores_are_exported(tmp_path: Path, suffix: str) -> None:
    store = demo(tmp_path / "run.zarr")
    values = np.arange(80, dtype=np.float32).reshape(40, 2)
    for name in ("phage", "X_phage"):  # the second begins as the columns of embeddings do
        store.save_scores(name, digest="d", values=values, rows=[(0, 35)])
    target = tmp_path / f"out{suffix}"
    export_store(store, target, samples=["second"])
    wanted = store.to_pandas(slice(30, 40))
    names = [f"{name}_score{at}" for name in ("phage", "X_phage") for at in (1, 2)]
    if suffix == ".parquet":
        found = pytest.importorskip("pyarrow.parquet").read_table(target).to_pandas()
        assert found[names[0]].dtype == np.float32
    else:
        anndata = pytest.importorskip("anndata")
        found = (anndata.read_h5ad if suffix == ".h5ad" else anndata.read_zarr)(target).obs
        assert list(found) == list(wanted)
    for name in names:
        np.testing.assert_array_equal(found[name], wanted[name])
    assert found["phage_score1"][:5].tolist() == [60, 62, 64, 66, 68]
    assert np.isnan(found["phage_score2"][5:]).all()


def test_an_h5ad_file_is_read_in_backed_mode(full: Store, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    target = tmp_path / "out.h5ad"
    export_store(full, target)
    data = anndata.read_h5ad(target, backed="r")
    part = data[3:8].to_memory()
    data.file.close()
    assert part.shape == (5, 0)
    assert part.obs_names.tolist() == ids(full)[3:8]
    values = expected(full, DEMO[0].name)[3:8]
    np.testing.assert_array_equal(part.obsm[f"X_{DEMO[0].name}"], values)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_anndata_files_with_gaps_and_of_one_sample(
    gappy: Store, tmp_path: Path, suffix: str
) -> None:
    anndata = pytest.importorskip("anndata")
    target = tmp_path / f"out{suffix}"
    export_store(gappy, target, samples=["second"], incomplete="nan", dtype="float32")
    data = (anndata.read_h5ad if suffix == ".h5ad" else anndata.read_zarr)(target)
    assert data.obs["filled_demo_dnabert_s"].tolist() == [False] * 2 + [True] * 8
    assert data.obs["filled_demo_esm2"].all()
    assert np.isnan(data.obsm["X_demo_dnabert_s"][:2]).all()
    np.testing.assert_array_equal(
        data.obsm["X_demo_dnabert_s"][2:], expected(gappy, "demo_dnabert_s")[32:].astype("f4")
    )
    assert data.obsm["X_demo_esm2"].dtype == np.float32
    assert data.obs["sample"].unique().tolist() == ["second"]


def test_npy_and_the_table_of_its_rows(gappy: Store, tmp_path: Path) -> None:
    report = export_store(gappy, tmp_path / "out.npy", incomplete="skip", dtype="float32")
    kept = [*range(16), *range(32, 40)]
    matrix = np.load(tmp_path / "out.npy", mmap_mode="r")
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, merged(gappy)[kept].astype("f4"))
    with Path(report.rows_file).open(newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert [int(line["row"]) for line in table] == kept
    assert [line["id"] for line in table] == [ids(gappy)[row] for row in kept]
    assert table[-1]["sample"] == "second"
    assert np.load(_other_model_order(gappy, tmp_path)).dtype == np.float16


def _other_model_order(store: Store, folder: Path) -> Path:
    target = folder / "reversed.npy"
    models = ["demo_esm2", "demo_dnabert_s"]
    export_store(store, target, models=models, samples=["second"], incomplete="nan")
    plain = np.concatenate([store.read(model)[30:] for model in models], axis=1)
    np.testing.assert_array_equal(np.load(target), plain)
    return target


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_parquet(full: Store, tmp_path: Path, dtype: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export_store(full, tmp_path / "out.parquet", dtype=dtype, sequences=True)  # type: ignore[arg-type]
    table = parquet.read_table(tmp_path / "out.parquet")
    assert parquet.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3
    assert table["id"].to_pylist() == ids(full)
    assert table["sample"].to_pylist() == ["first"] * 30 + ["second"] * 10
    for name in ("contig_length", "start"):
        assert table[name].to_pylist() == full.column(name).tolist()
    assert table["nucleotide"].to_pylist() == full.column("nucleotide").decode()
    for model in DEMO:
        column = table[f"X_{model.name}"].combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(40, model.dim)
        assert values.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(values, expected(full, model.name))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_text_tables(
    gappy: Store, tmp_path: Path, suffix: str, delimiter: str, dtype: Literal["float16", "float32"]
) -> None:
    target = tmp_path / f"out{suffix}"
    report = export_store(gappy, target, incomplete="nan", dtype=dtype)
    with target.open(newline="") as file:
        head, *lines = csv.reader(file, delimiter=delimiter)
    assert (report.rows, report.columns, len(lines)) == (40, 11, 40)
    assert head[:3] == ["id", "sample", "demo_dnabert_s_0"]
    assert head[-1] == "demo_esm2_4"
    assert [line[0] for line in lines] == ids(gappy)
    assert [line[1] for line in lines] == ["first"] * 30 + ["second"] * 10
    values = np.array([line[2:] for line in lines], dtype=dtype)
    plain = np.concatenate([gappy.read(model.name) for model in DEMO], axis=1)
    np.testing.assert_array_equal(values, plain.astype(dtype))


def test_numbers_of_a_table_are_the_shortest_that_give_them_back(tmp_path: Path) -> None:
    store = create_store(tmp_path / "run.zarr", models=DEMO[:1], segment_length=500, block_rows=16)
    append(store, "first", 1)
    values = np.array([[0.1, -0.0, 6e-8, 65504, 1 / 3, -2]], np.float16)
    store.publish(HeldClaim(DEMO[0].name, 0), values)
    export_store(store, tmp_path / "short.csv", dtype="float16")
    assert (tmp_path / "short.csv").read_text().endswith(",0.1,-0.0,6e-08,6.55e+04,0.3333,-2.0\n")
    export_store(store, tmp_path / "exact.csv")
    cells = (tmp_path / "exact.csv").read_text().splitlines()[1].split(",")[2:]
    np.testing.assert_array_equal(np.array(cells, "f4"), values[0].astype("f4"))


def test_a_table_runs_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    store = named_store(tmp_path / "run.zarr", ["=cmd|' /C calc'!A0", 'a,"b', "plain"])
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        export_store(store, tmp_path / f"out{suffix}")
        with (tmp_path / f"out{suffix}").open(newline="") as file:
            lines = list(csv.reader(file, delimiter=delimiter))
        assert [line[0] for line in lines[1:]] == ["'=cmd|' /C calc'!A0", 'a,"b', "plain"]
        assert {len(line) for line in lines} == {13}


def test_lance(gappy: Store, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    export_store(gappy, tmp_path / "out.lance", incomplete="skip", sequences=True)
    table = lance.dataset(str(tmp_path / "out.lance")).to_table()
    kept = [*range(16), *range(32, 40)]
    assert table["id"].to_pylist() == [ids(gappy)[row] for row in kept]
    assert table["sample"].to_pylist() == ["first"] * 16 + ["second"] * 8
    assert table["contig_length"].to_pylist() == gappy.column("contig_length")[kept].tolist()
    assert table["protein"].to_pylist() == [
        gappy.column("protein").decode()[row]  # type: ignore[union-attr]
        for row in kept
    ]
    for model in DEMO:
        column = table[f"X_{model.name}"].combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, model.dim)
        np.testing.assert_array_equal(values, expected(gappy, model.name)[kept])


def test_lance_that_is_not_installed_is_named(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(UsageError, match="to .lance needs lance, which .*pip install 'vnp.lance.'"):
        export_store(full, tmp_path / "out.lance")
    assert list(tmp_path.iterdir()) == []


def test_faiss_answers_with_row_numbers(gappy: Store, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    export_store(gappy, tmp_path / "out.faiss", incomplete="skip")
    index = faiss.read_index(str(tmp_path / "out.faiss"))
    query = merged(gappy)[33].astype("f4")
    scores, rows = index.search(query[None] / np.linalg.norm(query), 3)
    assert rows[0, 0] == 33
    hits = gappy.search(query, 3, engine="numpy")
    np.testing.assert_allclose(scores, hits.scores, rtol=1e-5)


def test_one_dataset_a_record(full: Store, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    export_store(full, tmp_path / "out.h5", samples=["second"])
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(file) == sorted(ids(full)[30:])
        for row in range(30, 40):
            np.testing.assert_array_equal(file[ids(full)[row]], merged(full)[row])
        assert file.attrs["models"].tolist() == [model.name for model in DEMO]
    export_store(full, tmp_path / "out.h5", force=True)
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file) == 40
        assert "second:second_0_chunk_1F1" in file


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ("a", "a"),
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("a.b", "a.b"),
    ],
)
def test_ids_that_are_not_hdf5_names_are_escaped(record: str, name: str) -> None:
    assert escape(record) == name
    assert unquote(name) == record


def test_escaped_ids_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    h5py = pytest.importorskip("h5py")
    store = named_store(tmp_path / "run.zarr", ["a/b", "c", "100%"])
    assert main(["export", str(store.path), "--to", str(tmp_path / "out.h5"), "--json"]) == 0
    output = capsys.readouterr()
    assert "2 ids with '/' or '%'" in output.err
    assert json.loads(output.out)["escaped"] == 2
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == {"a%2Fb", "c", "100%25"}
        assert "%2F" in file.attrs["escaped"]


@pytest.mark.parametrize("suffix", [".h5", ".pt"])
def test_ids_that_occur_twice_are_refused_where_they_are_names(tmp_path: Path, suffix: str) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=20)
    twice = named_store(tmp_path / "twice.zarr", ["a", "b", "a"])
    with pytest.raises(DataError, match="called a"):
        export_store(twice, tmp_path / f"out{suffix}")
    assert not list(tmp_path.glob("*out*"))
    export_store(store, tmp_path / f"out{suffix}", ids="plain")
