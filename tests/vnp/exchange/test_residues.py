"""Hidden states of residues: they average to the store's rows."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import vnp
from store.errors import DataError, UsageError
from store.store import Store
from vnp.cli.main import main
from vnp.exchange.residues import write_residues

EXAMPLE = Path(vnp.__file__).parent / "data" / "lambda_phage.fa.gz"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("residues") / "run.h5"
    vnp.create(path, models=["demo_esm2", "demo_dnabert_s", "demo_esm2@layer=1,pooling=max"])
    vnp.append(path, EXAMPLE)
    assert vnp.embed(path, in_process=True, device="cpu").complete
    return vnp.open(path)


@pytest.mark.parametrize("model", ["demo_esm2", "demo_dnabert_s"])
def test_averaged_they_are_the_rows_of_the_store(store: Store, model: str, tmp_path: Path) -> None:
    report = vnp.residues(
        store, tmp_path / "out.h5", model=model, rows=range(45), dtype="float32", device="cpu"
    )
    assert (report.records, report.dim) == (45, store.schema.model(model).dim)
    assert report.layer == 2, "the last, which was written"
    ids = [each.decode() for each in store.column("id").tolist()]
    lengths = store.column("protein").lengths
    with h5py.File(report.path) as file:
        assert set(file) == set(ids)
        assert report.residues == sum(len(file[name]) for name in ids)
        means = np.stack([file[name][:].mean(axis=0) for name in ids])
        assert [file[name].attrs["row"] for name in ids] == list(range(45))
        assert file[ids[0]].attrs["sample"] == "lambda_phage"
        if model == "demo_esm2":
            assert [len(file[name]) for name in ids] == lengths.tolist()
    # The store keeps float16: half a step of rounding is 2^-11 of a number.
    np.testing.assert_allclose(means, store.read(model), rtol=2**-10, atol=1e-6)


def test_another_layer_is_that_of_a_model_with_it(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [one] = store.column("id", 3, 4).tolist()
    path = tmp_path / "out.h5"
    words = ["--ids", one.decode(), "--layer", "1", "--dtype", "float32", "--device", "cpu"]
    words += ["--json"]
    assert main(["residues", str(store.path), "--model", "demo_esm2", "-o", str(path), *words]) == 0
    assert '"layer": 1' in capsys.readouterr().out
    with h5py.File(path) as file:
        assert file.attrs["layer"] == 1
        found = file[one.decode()][:].max(axis=0)
    np.testing.assert_array_equal(
        found.astype(np.float16), store.read("demo_esm2_layer1_max", 3, 4)[0]
    )


def test_what_cannot_be_chosen_is_named_and_leaves_no_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    for chosen, said in (
        ({"rows": [45]}, "no row 45 among 45"),
        ({"ids": ["nobody"]}, "1 id not in the store, as nobody"),
        ({}, "by their rows or by their ids"),
        ({"rows": [0], "layer": 3}, "layers 1 to 2"),
    ):
        with pytest.raises(UsageError, match=said):
            vnp.residues(store, path, model="demo_esm2", device="cpu", **chosen)
    assert not list(tmp_path.iterdir())


def test_an_imported_model_has_no_states(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    vnp.create(path, recipe="demo")
    vnp.append(path, EXAMPLE)
    ids = vnp.open(path).column("id").decode()
    np.savez(tmp_path / "x.npz", embeddings=np.ones((45, 4), np.float32), ids=np.array(ids))
    assert main(["import", str(path), str(tmp_path / "x.npz"), "--model", "theirs"]) == 0
    with pytest.raises(DataError, match=r"from x\.npz, .* no hidden states to compute$"):
        vnp.residues(path, tmp_path / "out.h5", model="theirs", rows=[0], device="cpu")
    # Where it came from is told by every way to look at a store.
    run = vnp.open(path)
    assert run.origins == {"demo_dnabert_s": "", "demo_esm2": "", "theirs": "imported from x.npz"}
    assert "<td>imported from x.npz</td>" in run._repr_html_()
    assert [each.origin for each in vnp.status(run).models] == list(run.origins.values())


def test_other_weights_are_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vnp.models import weights

    monkeypatch.setattr(weights, "digest", lambda _: "sha256:other")
    with pytest.raises(DataError, match="not those that the store was made with"):
        write_residues(store, tmp_path / "out.h5", model="demo_esm2", rows=[0])


def test_a_store_or_a_folder_is_never_replaced(store: Store, tmp_path: Path) -> None:
    kept = tmp_path / "kept.zarr"
    vnp.create(kept, recipe="demo")
    other = tmp_path / "other.h5"
    vnp.create(other, recipe="demo")
    folder = tmp_path / "folder.h5"
    folder.mkdir()
    for output in (kept, other, folder):
        words = ["--rows", "0", "--device", "cpu", "-o", str(output), "--force"]
        assert main(["residues", str(store.path), "--model", "demo_esm2", *words]) == 2
    assert vnp.open(kept).n_rows == vnp.open(other).n_rows == 0
    assert folder.is_dir()
    with pytest.raises(UsageError, match="is a store"):
        vnp.residues(
            store, store.path, model="demo_esm2", rows=[0], device="cpu", force=True
        )  # fmt: skip


def test_rows_as_ranges_and_arrays(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.h5"
    for words, said in (
        ("0:1000000000000", "rows 0:1000000000000 are not all there: the store has 45 rows, 0:45"),
        ("45", "row 45 does not exist: the store has 45 rows"),
        ("0,1", "'0,1' is not a row, nor rows FIRST:STOP; several are set apart by blanks"),
        ("3:3", "'3:3' is not a row"),
        ("5:3", "'5:3' is not a row"),
    ):
        options = ["--model", "demo_esm2", "--device", "cpu", "-o", str(path), "--rows", words]
        try:
            code = main(["residues", str(store.path), *options])
        except SystemExit as ended:
            code = ended.code
        assert code == 2
        assert said in capsys.readouterr().err
    vnp.residues(
        store, path, model="demo_esm2", rows=np.array([44, 0]), layer=1, dtype="float32",
        device="cpu",
    )  # fmt: skip
    with h5py.File(path) as file:
        assert sorted(each.attrs["row"] for each in file.values()) == [0, 44]
        assert file.attrs["layer"] == 1


def test_an_id_that_looks_like_a_sample_and_an_id(tmp_path: Path) -> None:
    text = "ATGGCCGCCAAA" * 50
    for name, contig in (("one", "c"), ("two", "two:c"), ("three", "c")):
        (tmp_path / f"{name}.fa").write_text(f">{contig}\n{text}\n")
    path = tmp_path / "run.zarr"
    vnp.create(path, models="demo_esm2")
    vnp.append(path, tmp_path / "one.fa", sample="one")
    vnp.append(path, tmp_path / "two.fa", sample="odd")
    vnp.append(path, tmp_path / "three.fa", sample="two", allow_same_content=True)
    rows = range(vnp.open(path).n_rows)
    with pytest.raises(DataError, match="would be called two:c_chunk_1F1"):
        vnp.residues(path, tmp_path / "out.h5", model="demo_esm2", rows=rows, device="cpu")


@pytest.mark.parametrize("rows", [[0.5], [float("nan")], [True], [0, np.bool_(1)], ["1"], [1.0]])
def test_rows_are_whole_numbers(store: Store, rows: list[object], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rows are named by whole numbers, not by"):
        vnp.residues(store, tmp_path / "out.h5", model="demo_esm2", rows=rows)  # type: ignore[arg-type]


def test_a_model_goes_by_what_it_was_asked_for_by(store: Store, tmp_path: Path) -> None:
    rows = np.array([3, 5])
    report = vnp.residues(
        store.path,
        tmp_path / "out.h5",
        model="demo_esm2@pooling=max,layer=1",
        rows=rows,  # type: ignore[arg-type]
        device="cpu",
        precision="float32",
    )
    assert (report.model, report.records) == ("demo_esm2_layer1_max", 2)
    with pytest.raises(UsageError, match=r"did you mean demo_esm2_layer1_max\?"):
        vnp.residues(store, tmp_path / "b.h5", model="demo_esm2@layer=2,pooling=max", rows=rows)  # type: ignore[arg-type]


def test_imported_rows_have_no_states(store: Store, tmp_path: Path) -> None:
    path, table = tmp_path / "run.zarr", tmp_path / "rows.csv"
    vnp.append(path, EXAMPLE, create=True, recipe="demo")
    vnp.export(store, table, models="demo_esm2")
    assert main(["import", str(path), str(table), "--model", "others"]) == 0
    with pytest.raises(DataError, match="were imported"):
        vnp.residues(path, tmp_path / "out.h5", model="others", rows=[0], device="cpu")
