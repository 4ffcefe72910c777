"""Embeddings of others become a model of a store: every form, what is left over and refused."""

from __future__ import annotations

import csv
import json
import os
import random
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from store.claims.participant import Participant
from store.errors import DataError, StoreError, UsageError
from store.io.ragged import from_items
from store.open import create_store, open_store
from store.rows import RowBatch
from store.schema import Model
from store.store import Store
from tests.rows import append, batch, commit, expected, publish
from tests.vnp.embed.stub_worker import StubEncoder
from vnp.cli.main import main
from vnp.embed.config import WorkerConfig
from vnp.embed.imported import ImportedModelError
from vnp.embed.report import WorkerReport
from vnp.embed.worker import Worker
from vnp.exchange.embedding_files import SUFFIXES
from vnp.exchange.embedding_rows import EmbeddingFileError
from vnp.exchange.export import export_store
from vnp.exchange.import_embeddings import EmbeddingImport, import_embeddings

pytestmark = pytest.mark.slow

SMALL = Model("small", 8)
DIM = 6
ROWS = 40


@pytest.fixture(autouse=True)
def _outside_warnings() -> Iterator[None]:
    """Ignore warnings of other packages about themselves; ours stay errors."""
    with warnings.catch_warnings():
        for module in ("anndata", "zarr", "importlib"):
            warnings.filterwarnings("ignore", module=rf"{module}(\..*)?\Z")
        yield


@pytest.fixture(params=[".zarr", ".h5"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return new_store(tmp_path / f"run{request.param}")


@pytest.fixture
def plain(tmp_path: Path) -> Store:
    return new_store(tmp_path / "run.zarr")


def new_store(path: Path) -> Store:
    """Two samples, 30 and 10 rows; blocks of 16."""
    store = create_store(path, models=[SMALL], segment_length=500, block_rows=16)
    append(store, "first", 30)
    append(store, "second", 10)
    return store


def twin_samples(path: Path, *, rows: int = 10) -> Store:
    """Two samples whose records are called the same."""
    store = create_store(path, models=[SMALL], segment_length=500, block_rows=16)
    for name in ("one", "two"):
        with store.appending() as appending:
            appending.write(batch("x", 0, rows))
            commit(appending, name, rows)
    return store


def ids(store: Store) -> list[str]:
    return store.column("id").decode()  # type: ignore[union-attr]


def made(rows: int = ROWS, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(rows, dim)).astype("f4")


# -- one writer for each form ---------------------------------------------------------------------


def npy(folder: Path, names: list[str], values: np.ndarray) -> Path:
    np.save(folder / "e.npy", values)
    (folder / "e.rows.tsv").write_text("row\tid\n" + "".join(f"0\t{name}\n" for name in names))
    return folder / "e.npy"


def npy_by_column(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return npy(folder, names, np.asfortranarray(values))


def npz_matrix(folder: Path, names: list[str], values: np.ndarray) -> Path:
    np.savez_compressed(folder / "e.npz", embeddings=values, ids=np.array(names))
    return folder / "e.npz"


def npz_single(folder: Path, names: list[str], values: np.ndarray) -> Path:
    np.savez(folder / "e.npz", **dict(zip(names, values, strict=True)))
    return folder / "e.npz"


def csv_with_header(folder: Path, names: list[str], values: np.ndarray) -> Path:
    with (folder / "e.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", *range(values.shape[1])])  # as pandas writes it
        writer.writerows([name, *map(float, row)] for name, row in zip(names, values, strict=True))
    return folder / "e.csv"


def tsv_without_header(folder: Path, names: list[str], values: np.ndarray) -> Path:
    rows = zip(names, values.tolist(), strict=True)
    lines = ["\t".join([name, *map(repr, row)]) for name, row in rows]
    (folder / "e.tsv").write_text("\r\n".join(lines) + "\r\n\r\n")
    return folder / "e.tsv"


def h5_single(folder: Path, names: list[str], values: np.ndarray) -> Path:
    with h5py.File(folder / "e.h5", "w") as file:
        for name, row in zip(names, values, strict=True):
            file[name] = row[None]  # one row of one record
    return folder / "e.h5"


def bio_embeddings(folder: Path, names: list[str], values: np.ndarray) -> Path:
    with h5py.File(folder / "e.hdf5", "w") as file:
        for number, (name, row) in enumerate(zip(names, values, strict=True)):
            file.create_dataset(str(number), data=row, compression="gzip")
            file[str(number)].attrs["original_id"] = name
    return folder / "e.hdf5"


def h5_matrix(folder: Path, names: list[str], values: np.ndarray) -> Path:
    with h5py.File(folder / "e.h5", "w") as file:
        file.create_dataset("embeddings", data=values)
        file.create_dataset("ids", data=names, dtype=h5py.string_dtype())
    return folder / "e.h5"


def anndata_file(folder: Path, names: list[str], values: np.ndarray, suffix: str) -> Path:
    anndata = pytest.importorskip("anndata")
    import pandas

    data = anndata.AnnData(obs=pandas.DataFrame(index=names))
    data.obsm["other"] = np.zeros((len(names), 3), "f4")
    data.obsm["X_mine"] = values
    (data.write_h5ad if suffix == ".h5ad" else data.write_zarr)(folder / f"e{suffix}")
    return folder / f"e{suffix}"


def h5ad(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return anndata_file(folder, names, values, ".h5ad")


def zarr(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return anndata_file(folder, names, values, ".zarr")


def parquet_file(folder: Path, columns: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(columns), folder / "e.parquet", row_group_size=7)
    return folder / "e.parquet"


def parquet_lists(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return parquet_file(folder, {"id": names, "embedding": values.tolist(), "length": [1] * ROWS})


def parquet_columns(folder: Path, names: list[str], values: np.ndarray) -> Path:
    return parquet_file(folder, {"id": names, **{f"d{n}": values[:, n] for n in range(DIM)}})


WRITERS: dict[str, Callable[[Path, list[str], np.ndarray], Path]] = {
    writer.__name__: writer
    for writer in (
        npy, npy_by_column, npz_matrix, npz_single, csv_with_header, tsv_without_header,
        h5_single, bio_embeddings, h5_matrix, h5ad, zarr, parquet_lists, parquet_columns,
    )
}  # fmt: skip


def assert_imported(path: Path, values: np.ndarray, report: EmbeddingImport) -> None:
    store = open_store(path)
    np.testing.assert_array_equal(store.read("mine"), values.astype("f2"))
    assert store.certify("mine").complete
    assert list(store.verify()) == []
    assert list(store.sidecar.tmp.iterdir()) == []
    assert report.complete
    assert (report.leftovers_file, report.unknown, report.without, report.waiting) == ("", 0, 0, 0)
    assert (report.matched, report.rows, report.certified) == (ROWS, ROWS, ROWS)


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_is_joined_by_id(store: Store, tmp_path: Path, form: str) -> None:
    values, order = made(), np.random.default_rng(2).permutation(ROWS)
    path = WRITERS[form](tmp_path, [ids(store)[row] for row in order], values[order])
    report = import_embeddings(store, [path], model="mine")
    assert (report.added, report.published, report.records) == (True, 3, ROWS)
    assert_imported(store.path, values, report)
    opened = open_store(store.path)
    assert opened.schema.models == (SMALL, Model("mine", DIM))
    provenance = opened.provenance("mine")
    assert provenance is not None
    identity = provenance["identity"]
    assert (identity["imported"], identity["sha256"]) == (path.name, report.files[path.name])
    assert identity["format"] == report.format
    certificate = opened.certificate("mine", 1)
    assert certificate is not None
    assert certificate.details["imported"] == {path.name: report.files[path.name]}
    assert "rounded to float16" in certificate.details["precision"]
    again = import_embeddings(opened, [path], model="mine")
    assert (again.complete, again.published, again.added) == (True, 0, False)


def test_there_is_a_writer_for_every_suffix(tmp_path: Path, plain: Store) -> None:
    found = {
        write(Path(folder), ids(plain), made()).suffix
        for name, write in WRITERS.items()
        if (folder := tmp_path / name).mkdir() is None
    }
    assert found == set(SUFFIXES)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr", ".npy", ".parquet", ".h5", ".csv", ".tsv"])
def test_what_is_exported_is_imported_again(tmp_path: Path, suffix: str) -> None:
    """Of two samples whose records are called the same: the sample goes with each."""
    source = twin_samples(tmp_path / "source.zarr")
    for block in range(source.n_blocks):
        publish(source, "small", block)
    export_store(source, tmp_path / f"out{suffix}")
    target = twin_samples(tmp_path / "target.zarr")
    report = import_embeddings(target, [tmp_path / f"out{suffix}"], model="small")
    assert report.complete, report
    assert not report.added
    np.testing.assert_array_equal(open_store(target.path).read("small"), expected(source, "small"))


# -- what finds no place --------------------------------------------------------------------------


def leftovers(report: EmbeddingImport) -> list[dict[str, str]]:
    with Path(report.leftovers_file).open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_block_that_lacks_a_row_stays_open_and_all_is_named(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, names = made(), ids(store)
    kept = [row for row in range(ROWS) if row != 20]
    given, rows = [*(names[row] for row in kept), "=strange"], np.vstack([values[kept], values[:1]])
    rows[5] = np.nan
    path = csv_with_header(tmp_path, given, rows)
    arguments = ["import", str(store.path), str(path), "--model", "mine"]
    assert main([*arguments, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    counts = {"records": 40, "matched": 38, "unknown": 1, "empty": 1, "without": 2, "waiting": 30}
    counts |= {"certified": 8, "published": 1, "partial_blocks": 2, "busy_blocks": 0}
    assert {name: report[name] for name in counts} == counts
    assert not report["complete"]
    lines = leftovers(import_embeddings(open_store(store.path), [path], model="mine"))
    assert len(lines) == 1 + 1 + 32
    assert list(lines[0].values())[:4] == ["file", "e.csv", "6", names[5]]
    assert lines[0]["reason"] == "all its numbers are NaN"
    assert list(lines[1].values())[:4] == ["file", "e.csv", "40", "'=strange"]
    by_row = {line["record_or_row"]: line for line in lines[2:]}
    assert by_row["20"]["id"] == names[20]
    assert by_row["20"]["reason"] == "no embedding in the files"
    assert by_row["21"]["reason"] == "block 1 (rows 16 to 31) lacks other rows"
    assert {line["file_or_sample"] for line in lines[2:]} == {"first", "second"}
    opened = open_store(store.path)
    assert np.isnan(opened.read("mine")[:32]).all()
    np.testing.assert_array_equal(opened.read("mine")[32:], values[32:].astype("f2"))

    whole = npy(tmp_path, names, values)
    assert main(["import", str(store.path), str(whole), "--model", "mine"]) == 0
    assert "40 of 40 rows certified now" in capsys.readouterr().out
    np.testing.assert_array_equal(open_store(store.path).read("mine"), values.astype("f2"))
    assert list(store.sidecar.logs.glob("*leftovers*")) == [], "it would belie the store"


def test_several_files_complete_a_block_that_one_does_not(plain: Store, tmp_path: Path) -> None:
    values, names = made(), ids(plain)
    parts = []
    for part in range(2):
        folder = tmp_path / f"part{part}"
        folder.mkdir()
        path = npz_single(folder, names[part::2], values[part::2])
        parts.append(path.rename(tmp_path / f"part{part}.npz"))
    report = import_embeddings(plain, parts[:1], model="mine")
    assert (report.added, report.published, report.partial_blocks) == (False, 0, 3)
    assert open_store(plain.path).schema.models == (SMALL,), "no model without a certified row"
    report = import_embeddings(plain, parts, model="mine")
    assert_imported(plain.path, values, report)
    certificate = open_store(plain.path).certificate("mine", 0)
    assert certificate is not None
    assert certificate.details["imported"] == report.files


def test_a_sample_that_comes_later_is_imported_later(plain: Store, tmp_path: Path) -> None:
    import_embeddings(plain, [npy(tmp_path, ids(plain), made())], model="mine")
    store = open_store(plain.path)
    append(store, "third", 20)
    values = made(60)
    report = import_embeddings(
        store, [h5_single(tmp_path, ids(store)[40:], values[40:])], model="mine", sample="third"
    )
    assert (report.complete, report.rows, report.published) == (True, 20, 2)
    store = open_store(plain.path)
    np.testing.assert_array_equal(store.read("mine")[:40], made().astype("f2"))
    np.testing.assert_array_equal(store.read("mine")[40:], values[40:].astype("f2"))
    assert store.certify("mine").complete


def test_what_is_certified_is_not_replaced(plain: Store, tmp_path: Path) -> None:
    values, names = made(), ids(plain)
    import_embeddings(plain, [npy(tmp_path, names, values)], model="mine")
    values[[7, 33]] += 1
    with pytest.raises(DataError, match=r"other numbers of mine for 2 records .*first_7_.*row 7"):
        import_embeddings(plain, [npy(tmp_path, names, values)], model="mine")
    np.testing.assert_array_equal(open_store(plain.path).read("mine"), made().astype("f2"))


def test_a_block_that_a_worker_holds_is_left_to_it(plain: Store, tmp_path: Path) -> None:
    plain.add_model(Model("mine", DIM))
    path = npy(tmp_path, ids(plain), made())
    with Participant(plain.sidecar.make().path) as worker:
        claim = worker.claims.try_claim("mine", 1)
        assert claim is not None
        report = import_embeddings(plain, [path], model="mine")
    assert (report.published, report.busy_blocks, report.waiting) == (2, 1, 16)
    assert {line["reason"] for line in leftovers(report)} == {"block 1 is being filled by a worker"}


def test_records_that_several_samples_have(tmp_path: Path) -> None:
    store = twin_samples(tmp_path / "run.zarr")
    names, values = ids(store), made(20)
    path = npy(tmp_path, names[:10], values[:10])
    with pytest.raises(EmbeddingFileError, match=r"record 1 \(x_0.*2 samples .*\(one, two\).*--s"):
        import_embeddings(store, [path], model="mine")
    assert open_store(store.path).schema.models == (SMALL,)
    report = import_embeddings(store, [path], model="mine", sample="two")
    assert (report.matched, report.rows, report.waiting) == (10, 10, 6)
    values[10:] = values[:10]
    qualified = [f"{'one' if row < 10 else 'two'}:{name}" for row, name in enumerate(names)]
    assert import_embeddings(store, [npy(tmp_path, qualified, values)], model="mine").complete
    np.testing.assert_array_equal(open_store(store.path).read("mine"), values.astype("f2"))


def test_a_column_of_samples_tells_records_apart(tmp_path: Path) -> None:
    store = twin_samples(tmp_path / "run.zarr")
    samples = ["two"] * 10 + ["one"] * 10 + ["none"]
    lines = [
        f"{sample},{number},{name}\n"
        for number, (sample, name) in enumerate(zip(samples, [*ids(store), "x"], strict=True))
    ]
    (tmp_path / "e.csv").write_text("sample,n,id\n" + "".join(lines))
    report = import_embeddings(store, [tmp_path / "e.csv"], model="mine")
    assert (report.matched, report.unknown, report.certified) == (20, 1, 20)
    assert not report.complete
    assert "of sample none" in leftovers(report)[0]["reason"]
    found = open_store(store.path).read("mine")[:, 0].tolist()
    assert found == [*range(10, 20), *range(10)]


# -- what is refused ------------------------------------------------------------------------------


def with_ids(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Store], Path]:
    return lambda folder, store: npy(folder, ids(store), change(made()))


def put(at: tuple[int, int], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[at] = value
        return values

    return change


def pickled(folder: Path, store: Store) -> Path:
    np.save(folder / "e.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "e.rows.tsv").write_text("id\nx\n")
    return folder / "e.npy"


def pickled_npz(folder: Path, store: Store) -> Path:
    np.savez(folder / "e.npz", a=np.ones(DIM), b=np.array([None] * DIM, dtype=object))
    return folder / "e.npz"


def pickled_ids(folder: Path, store: Store) -> Path:
    names = np.array(ids(store), dtype=object)
    np.savez(folder / "e.npz", embeddings=made(), ids=names)
    return folder / "e.npz"


def per_residue(folder: Path, store: Store) -> Path:
    with h5py.File(folder / "e.h5", "w") as file:
        file[ids(store)[0]] = np.ones((120, DIM))
    return folder / "e.h5"


def external(folder: Path, store: Store) -> Path:
    (folder / "secret").write_bytes(bytes(DIM * 4))
    with h5py.File(folder / "e.h5", "w") as file:
        where = [(str(folder / "secret"), 0, DIM * 4)]
        file.create_dataset(ids(store)[0], (DIM,), "f4", external=where)
    return folder / "e.h5"


def virtual(folder: Path, store: Store) -> Path:
    with h5py.File(folder / "e.h5", "w") as file:
        layout = h5py.VirtualLayout((DIM,), "f4")
        layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (DIM,))
        file.create_virtual_dataset(ids(store)[0], layout)
    return folder / "e.h5"


def widths(folder: Path, store: Store) -> Path:
    with h5py.File(folder / "e.h5", "w") as file:
        file["a"], file["b"] = np.ones(DIM), np.ones(DIM + 1)
    return folder / "e.h5"


def text(name: str, content: str | bytes) -> Callable[[Path, Store], Path]:
    def write(folder: Path, store: Store) -> Path:
        raw = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(raw.replace(b"ID", ids(store)[0].encode()))
        return folder / name

    return write


def few_ids(folder: Path, store: Store) -> Path:
    return npy(folder, ids(store)[:-1], made())


def twice(folder: Path, store: Store) -> Path:
    names = ids(store)
    return npy(folder, [names[0], *names[:-1]], made())


def empty_npz(folder: Path, store: Store) -> Path:
    with zipfile.ZipFile(folder / "e.npz", "w"):
        return folder / "e.npz"


def huge_npz(folder: Path, store: Store) -> Path:
    """A head that claims more than any memory, over no data."""
    with zipfile.ZipFile(folder / "e.npz", "w") as archive:
        for name, shape in (("a", (DIM,)), ("b", (1 << 50,))):
            with archive.open(f"{name}.npy", "w") as file:
                head = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, head)
                file.write(bytes(4 * DIM))
    return folder / "e.npz"


def a_store(folder: Path, store: Store) -> Path:
    return new_store(folder / "other.h5ad").path


def no_key(folder: Path, store: Store) -> Path:
    anndata = pytest.importorskip("anndata")
    import pandas

    data = anndata.AnnData(obs=pandas.DataFrame(index=ids(store)))
    data.obsm["a"] = data.obsm["b"] = made()
    data.write_h5ad(folder / "e.h5ad")
    return folder / "e.h5ad"


def parquet_texts(folder: Path, store: Store) -> Path:
    return parquet_file(folder, {"id": ids(store), "x": ["a"] * ROWS})


def parquet_ragged(folder: Path, store: Store) -> Path:
    values = made().tolist()
    values[9] = values[9][:-1]
    return parquet_file(folder, {"id": ids(store), "embedding": values})


def parquet_no_id(folder: Path, store: Store) -> Path:
    return parquet_file(folder, {"name": ids(store), "embedding": made().tolist()})


REFUSED: dict[str, tuple[Callable[[Path, Store], Path], str]] = {
    "nan": (with_ids(put((3, 2), np.nan)), r"record 4 \(.*\) holds NaN or infinity"),
    "infinite": (with_ids(put((39, 0), np.inf)), r"record 40 \(.*\) holds NaN or infinity"),
    "large": (with_ids(put((0, 0), 1e5)), r"record 1 \(.*\) holds numbers beyond float16's 65504"),
    "texts": (with_ids(lambda values: values.astype(str)), "it holds <U32, where numbers belong"),
    "complex": (with_ids(lambda values: values * 1j), "it holds complex64"),
    "flat": (with_ids(lambda values: values[0]), r"shape \(6,\), where rows and columns belong"),
    "cube": (with_ids(lambda values: values[None]), "where rows and columns belong"),
    "no numbers": (with_ids(lambda values: values[:, :0]), "0 numbers a row|not an array"),
    "few ids": (few_ids, r"40 rows and .*e.rows.tsv 39 ids"),
    "other numbers": (twice, r"record 2 \(first_0.*\) was given before, with other numbers"),
    "pickled": (pickled, "not an array of numbers, or damaged .*Python objects"),
    "pickled npz": (pickled_npz, "not an .npz with an array of numbers b, .*allow_pickle=False"),
    "pickled ids": (pickled_ids, "not an .npz with an array of numbers ids, .*allow_pickle=F"),
    "empty npz": (empty_npz, "holds no array"),
    "huge npz": (huge_npz, r"record 2 \(b\): 1,125,.* numbers where the first record has 6"),
    "no npz": (text("e.npz", "x"), "not an .npz file, or damaged"),
    "no npy": (text("e.npy", "x"), "not an array of numbers"),
    "no hdf5": (text("e.h5", "x"), "not an HDF5 file, or damaged"),
    "no parquet": (text("e.parquet", "x"), "not a Parquet file, or damaged"),
    "per residue": (per_residue, r"record 1 .*120 x 6, a row for each residue or token"),
    "external": (external, "refers to other files, which are not read"),
    "virtual": (virtual, "refers to other files, which are not read"),
    "widths": (widths, r"record 2 \(b\): 7 numbers where the first record has 6"),
    "a store": (a_store, "is a vnp store, .*'vnp export' first"),
    "no key": (no_key, "obsm has a, b, and not X_mine or mine: say which with --key"),
    "no number": (text("e.csv", "id,a,b\nID,1,2\nID,1,x\n"), r"line 3 \(.*\): column 3 is 'x'"),
    "columns": (text("e.csv", "id,a,b\nID,1,2\nID,1\n"), "line 3: 2 columns where 3 belong"),
    "no id": (text("e.tsv", "a\t1\n \t2\n"), "line 2: its id is empty"),
    "bytes": (text("e.csv", b"id,a\nID,1\n\xff,2\n"), "e.csv is not UTF-8 text"),
    "empty table": (text("e.csv", ""), "holds no row"),
    "header alone": (text("e.csv", "id,a,b\n"), "holds no row"),
    "id twice": (text("e.csv", "id,id,b\nx,y,1\n"), "line 1: the column id is there twice"),
    "quote": (text("e.csv", 'id,a\n"ID,1\n' + "x" * 200_000), "line 3: field larger"),
    "texts in parquet": (parquet_texts, "column x is string, where numbers belong"),
    "ragged parquet": (parquet_ragged, "record 10: 5 numbers where the first record has 6"),
    "parquet ids": (parquet_no_id, r"has no column id \(it has name, embedding\)"),
    "strangers": (text("e.csv", "id,a\nx,1\ny,2\n"), "2 records: 2 are not there; the first .* x"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_as_it_must_be_is_refused(
    plain: Store, tmp_path: Path, name: str
) -> None:
    write, words = REFUSED[name]
    path = write(tmp_path, plain)
    before = plain.schema
    with pytest.raises(DataError, match=words) as refused:
        import_embeddings(plain, [path], model="mine")
    assert path.stem in str(refused.value)
    assert open_store(plain.path).schema == before
    assert list(plain.sidecar.make().tmp.iterdir()) == []
    assert list(plain.sidecar.logs.iterdir()) == []


def test_widths_and_names_must_fit(plain: Store, tmp_path: Path) -> None:
    path = npy(tmp_path, ids(plain), made())
    with pytest.raises(EmbeddingFileError, match=r"6 numbers a row, and small in .* has 8"):
        import_embeddings(plain, [path], model="small")
    with pytest.raises(EmbeddingFileError, match=r"the model esm2_3b gives 2,560"):
        import_embeddings(plain, [path], model="esm2_3b")
    with pytest.raises(UsageError, match="model name"):
        import_embeddings(plain, [path], model="../x")
    with pytest.raises(UsageError, match="no sample 'x'"):
        import_embeddings(plain, [path], model="mine", sample="x")
    other = npz_matrix(tmp_path, ids(plain), made(dim=5))
    with pytest.raises(EmbeddingFileError, match="not of one model"):
        import_embeddings(plain, [path, other], model="mine")
    with pytest.raises(UsageError, match="one name"):
        import_embeddings(plain, [path, path], model="mine")


def test_options_must_fit_the_file(plain: Store, tmp_path: Path) -> None:
    npy(tmp_path, ids(plain), made())
    beside = tmp_path / "e.rows.tsv"
    names = beside.rename(tmp_path / "names.txt")
    names.write_text("\n".join(ids(plain)))
    with pytest.raises(EmbeddingFileError, match="holds no ids: .* --ids"):
        import_embeddings(plain, [tmp_path / "e.npy"], model="mine")
    with pytest.raises(EmbeddingFileError, match="nothing.txt: there is no such file"):
        import_embeddings(plain, [tmp_path / "e.npy"], model="mine", ids=tmp_path / "nothing.txt")
    report = import_embeddings(plain, [tmp_path / "e.npy"], model="mine", ids=names)
    assert_imported(plain.path, made(), report)
    (tmp_path / "gaps.txt").write_text("a\n\nb\n")
    with pytest.raises(EmbeddingFileError, match="gaps.txt, line 2"):
        import_embeddings(plain, [tmp_path / "e.npy"], model="mine", ids=tmp_path / "gaps.txt")
    table = csv_with_header(tmp_path, ids(plain), made())
    for options, words in (({"ids": names}, "--ids is for"), ({"key": "x"}, "--key is for")):
        with pytest.raises(UsageError, match=words):
            import_embeddings(plain, [table], model="mine", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"end in .npy, .npz"):
        import_embeddings(plain, [names], model="mine")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(EmbeddingFileError, match=r"pipe.csv is not a file"):
        import_embeddings(plain, [tmp_path / "pipe.csv"], model="mine")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(EmbeddingFileError, match="is a directory, which a .csv is not"):
        import_embeddings(plain, [tmp_path / "folder.csv"], model="mine")


@pytest.mark.parametrize(
    "form", ["npy", "npz_matrix", "npz_single", "h5_single", "h5_matrix", "parquet_lists", "h5ad"]
)
def test_damaged_files_are_read_or_refused_and_never_more(
    plain: Store, tmp_path: Path, form: str
) -> None:
    """Any byte may be wrong: rows are taken, or one error of ours says why not."""
    path = WRITERS[form](tmp_path, ids(plain), made())
    whole, rng = path.read_bytes(), random.Random(form)
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4])):
            content[rng.randrange(min(len(content), 3000))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import_embeddings(plain, [path], model=f"m{rng.randrange(10**9)}")
            except (StoreError, OSError, MemoryError):
                continue


# -- workers --------------------------------------------------------------------------------------


def work(
    store: Store, loaded: list[str] | None = None, models: tuple[str, ...] = ()
) -> WorkerReport:
    """Fill what a worker would fill; note the models that it loads."""

    def load(name: str, **_: object) -> Any:
        if loaded is not None:
            loaded.append(name)
        return StubEncoder(name)

    config = WorkerConfig(models=models)
    return Worker(store.path, config=config, stop=threading.Event(), load=load).run()


def test_workers_leave_an_imported_model_alone_and_fill_the_others(
    plain: Store, tmp_path: Path
) -> None:
    import_embeddings(plain, [npy(tmp_path, ids(plain), made())], model="mine")
    store = open_store(plain.path)
    append(store, "third", 20)
    loaded: list[str] = []

    report = work(store, loaded)
    assert loaded == ["small"], "it is not even loaded"
    assert [(each.model, each.block) for each in report.failures] == [("mine", None)]
    assert "imported from e.npy" in report.failures[0].reason
    store = open_store(plain.path)
    assert store.certify("small").complete
    np.testing.assert_array_equal(store.read("mine")[:40], made().astype("f2"))
    assert np.isnan(store.read("mine")[40:]).all()
    with pytest.raises(ImportedModelError, match="import those of the rows that are missing"):
        work(store, models=("mine",))


def test_what_workers_made_is_not_mixed_with(plain: Store, tmp_path: Path) -> None:
    work(plain)
    path = npy(tmp_path, ids(plain), made(dim=8))
    with pytest.raises(UsageError, match="begun by workers, .*under another name"):
        import_embeddings(plain, [path], model="small")
    assert import_embeddings(plain, [path], model="mine").complete


def test_a_model_that_a_worker_begins_meanwhile_is_not_mixed_with(
    plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has recorded what it is, and certified nothing: before the import, or during it."""
    plain.add_model(Model("mine", DIM))
    path = npy(tmp_path, ids(plain), made())
    pin = Store.pin_provenance

    def pinned(store: Store, model: str, provenance: Any) -> dict[str, Any]:
        pin(store, model, {"identity": {"weights": "a worker's"}})
        return pin(store, model, provenance)

    for _ in range(2):
        monkeypatch.setattr(Store, "pin_provenance", pinned)
        with pytest.raises(UsageError, match="begun by workers"):
            import_embeddings(plain, [path], model="mine")
    assert not open_store(plain.path).rows_filled("mine").any()


def test_an_imported_model_is_bounded_in_its_provenance(tmp_path: Path) -> None:
    """The cells of HDF5 have a fixed size: names of many files must not outgrow them."""
    store = new_store(tmp_path / "run.h5")
    paths = []
    for row, name in enumerate(ids(store)):
        path = tmp_path / f"{'ä' * 90}{row}.csv"
        path.write_text(f"{name},{row}\n")
        paths.append(path)
    assert import_embeddings(store, paths, model="mine").complete
    certificate = open_store(store.path).certificate("mine", 0)
    assert certificate is not None
    assert len(certificate.details["imported"]) == 3
    assert certificate.details["more_files"] == 13
    assert list(open_store(store.path).verify()) == []


# -- the command line -----------------------------------------------------------------------------


def test_the_kinds_of_import_are_told_apart(
    plain: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(npy(tmp_path, ids(plain), made()))
    base = ["import", str(plain.path)]
    for arguments, words in (
        ([path], "give --model"),
        (["x_ESM.pt"], "give --fasta"),
        ([path, "--model", "mine", "--fasta", "a.fa"], "give one"),
        (["x_ESM.pt", "--model", "mine"], "give --fasta instead of --model"),
        (["x_ESM.pt", "--fasta", "a.fa", "--ids", "x"], "--ids goes with --model"),
        (["x_ESM.pt", "--fasta", "a.fa", "--key", "x"], "--key goes with --model"),
        ([path, "--model", "mine", "--duplicates", "number"], "--duplicates goes with --fasta"),
        ([path, path, "--model", "mine", "--ids", "x"], "several were given"),
    ):
        assert main([*base, *arguments]) == 2, arguments
        assert words in capsys.readouterr().err
    assert main([*base, path, "--model", "mine"]) == 0
    said = capsys.readouterr().out
    assert "mine (6, a new model of the store): 40 of 40 records of the files are in" in said
    assert main([*base, path, "--model", "mine", "--sample", "first"]) == 3
    assert "10 records of the files not in the store, or not in the sample" in (
        capsys.readouterr().out
    )
    assert main(["status", str(plain.path)]) == 0
    assert "mine " in capsys.readouterr().out


def test_ids_with_strange_letters(tmp_path: Path) -> None:
    names = ["=1+1", "'quoted", "a:b", "one:x", "é\N{DNA DOUBLE HELIX}", "a/b", "50%", "x,y"]
    store = create_store(tmp_path / "run.zarr", models=[SMALL], segment_length=500, block_rows=16)
    with store.appending() as appending:
        part = batch("x", 0, len(names))
        columns = {field: getattr(part, field) for field in part.__slots__}
        appending.write(RowBatch(**{**columns, "id": from_items([n.encode() for n in names])}))
        commit(appending, "one", len(names))
    publish(store, "small", 0)
    for number, suffix in enumerate([".csv", ".tsv", ".npy", ".h5", ".parquet", ".h5ad"]):
        export_store(store, tmp_path / f"out{suffix}")
        report = import_embeddings(store, [tmp_path / f"out{suffix}"], model=f"copy{number}")
        assert report.complete, suffix
        found = open_store(store.path).read(f"copy{number}")
        np.testing.assert_array_equal(found, expected(store, "small"))
