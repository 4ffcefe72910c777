"""Files of embeddings that are not imported, and why."""

from __future__ import annotations

import os
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from store.errors import DataError, StoreError, UsageError
from store.open import open_store
from store.store import Store
from tests.vnp.exchange.embedding_forms import (
    DIM,
    ROWS,
    WRITERS,
    assert_imported,
    csv_with_header,
    made,
    new_store,
    npy,
    npz_matrix,
    npz_single,
    parquet_file,
)
from tests.vnp.exchange.stores import ids
from vnp.exchange.embedding_rows import EmbeddingFileError
from vnp.exchange.import_embeddings import import_embeddings

pytestmark = pytest.mark.slow


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


def other_head(old: bytes, new: bytes) -> Callable[[Path, Store], Path]:
    def write(folder: Path, store: Store) -> Path:
        path = npy(folder, ids(store), made())
        path.write_bytes(path.read_bytes().replace(old, new, 1))
        return path

    return write


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


def parquet_twice(name: str) -> Callable[[Path, Store], Path]:
    def write(folder: Path, store: Store) -> Path:
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {"id": ids(store), "e0": made()[:, 0], "e1": made()[:, 1]}
        arrays = [*map(pa.array, columns.values()), pa.array(columns[name])]
        table = pa.Table.from_arrays(arrays, names=[*columns, name])
        parquet.write_table(table, folder / "e.parquet")
        return folder / "e.parquet"

    return write


def npz_twice(folder: Path, store: Store) -> Path:
    npz_single(folder, ids(store), made())
    with warnings.catch_warnings(), zipfile.ZipFile(folder / "e.npz", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(f"{ids(store)[0]}.npy", b"")
    return folder / "e.npz"


def huge_matrix(folder: Path, store: Store) -> Path:
    """Ids as many as they must be, and a head that claims 32 petabytes."""
    with zipfile.ZipFile(folder / "e.npz", "w") as archive:
        for name, head in (("embeddings", "<f4"), ("ids", "<U9")):
            shape = (1 << 50, 8) if name == "embeddings" else (1 << 50,)
            with archive.open(f"{name}.npy", "w") as file:
                array = {"descr": head, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, array)
    return folder / "e.npz"


def in_hdf5(fill: Callable[[h5py.File, list[str]], object]) -> Callable[[Path, Store], Path]:
    def write(folder: Path, store: Store) -> Path:
        with h5py.File(folder / "secret.h5", "w") as file:
            file["m"], file["ids"] = made(), [name.encode() for name in ids(store)]
        with h5py.File(folder / "e.h5", "w") as file:
            fill(file, ids(store))
        return folder / "e.h5"

    return write


def named(name: str | bytes, data: object) -> Callable[[h5py.File, list[str]], object]:
    return lambda file, _: file.create_dataset(name, data=data)


def linked(file: h5py.File, names: list[str]) -> None:
    file["embeddings"], file["ids"] = made(), h5py.ExternalLink("secret.h5", "ids")


def linked_twice(file: h5py.File, names: list[str]) -> None:
    file["elsewhere"] = h5py.ExternalLink("secret.h5", "/")
    file["embeddings"] = h5py.SoftLink("/elsewhere/m")
    file["ids"] = [name.encode() for name in names]


def external_ids(file: h5py.File, names: list[str]) -> None:
    file["embeddings"] = made()
    file.create_dataset("ids", (ROWS,), "S1", external=[("secret.h5", 0, ROWS)])


def huge_ids(file: h5py.File, names: list[str]) -> None:
    file["embeddings"] = made()
    file.create_dataset("ids", (1 << 48,), "S8", chunks=(1024,))


def parquet_rows(folder: Path, store: Store) -> Path:
    return parquet_file(folder, {"id": [], "embedding": []})


def no_row(folder: Path, store: Store) -> Path:
    return npz_matrix(folder, [], made(rows=0))


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
    "a head without end": (other_head(b"}", b" "), "not an array of numbers, or damaged"),
    "a head of no text": (other_head(b"shape", b"sha\x11e"), "not an array of numbers, or damaged"),
    "no npy": (text("e.npy", "x"), "not an array of numbers"),
    "no hdf5": (text("e.h5", "x"), "not an HDF5 file, or damaged"),
    "no parquet": (text("e.parquet", "x"), "not a Parquet file, or damaged"),
    "per residue": (per_residue, r"record 1 .*120 x 6, a row for each residue or token"),
    "external": (external, "refers to other files, which are not read"),
    "virtual": (virtual, "refers to other files, which are not read"),
    "widths": (widths, r"record 2 \(b\): 7 numbers where the first record has 6"),
    "a store": (a_store, "is a vnp store, .*'vnp export' first"),
    "no key": (no_key, "obsm has a, b, and not X_mine or mine: say which with --key"),
    "no number": (text("e.csv", "id,e0,e1\nID,1,2\nID,1,x\n"), r"line 3 \(.*\): column 3 is 'x'"),
    "columns": (text("e.csv", "id,e0,e1\nID,1,2\nID,1\n"), "line 3: 2 columns where 3 belong"),
    "no id": (text("e.tsv", "a\t1\n \t2\n"), "line 2: its id is empty"),
    "bytes": (text("e.csv", b"id,a\nID,1\n\xff,2\n"), "e.csv is not UTF-8 text"),
    "empty table": (text("e.csv", ""), "holds no row"),
    "header alone": (text("e.csv", "id,a,b\n"), "holds no row"),
    "id twice": (text("e.csv", "id,id,b\nx,y,1\n"), "line 1: the column id is there twice"),
    "quote": (text("e.csv", 'id,a\n"ID,1\n' + "x" * 200_000), "line 3: field larger"),
    "parquet ids twice": (parquet_twice("id"), "e.parquet: the column id is there twice"),
    "parquet column twice": (parquet_twice("e0"), "e.parquet: the column e0 is there twice"),
    "column twice": (text("e.csv", "id,e0,e0\nID,1,2\n"), "line 1: the column e0 is there twice"),
    "number twice": (text("e.csv", "id,e1,e01\nID,1,2\n"), "columns e1 and e01 have one number"),
    "gap": (text("e.csv", "id,e0,e2\nID,1,2\n"), "between the columns e0 and e2 one is missing"),
    "names": (text("e.csv", "id,a,b\nID,1,2\n"), r"cannot be told \(it has a, b\): .*--key"),
    "two kinds": (text("e.csv", "id,a0,a1,b0\nID,1,2,3\n"), "cannot be told .*--key"),
    "nothing but ours": (text("e.csv", "id,start,end\nID,1,2\n"), r"cannot be told \(it has none"),
    "semicolons": (text("e.csv", "id;e0;e1\nID;1;2\n"), "semicolons .*, where commas belong"),
    "tabs": (text("e.csv", "ID\t1\t2\n"), "tabs between its cells, where commas belong"),
    "npz twice": (npz_twice, "e.npz holds two arrays called first_0"),
    "huge matrix": (huge_matrix, r"e.npz: the array embeddings claims 36,0.* bytes .* are there"),
    "linked": (in_hdf5(linked), "ids refers to other files, which are not read"),
    "linked twice": (in_hdf5(linked_twice), "elsewhere/m refers to other files"),
    "external ids": (in_hdf5(external_ids), "ids refers to other files, which are not read"),
    "huge ids": (in_hdf5(huge_ids), "40 rows and .*ids 281,474,976,710,656 ids"),
    "nothing": (in_hdf5(named("x", h5py.Empty("f4"))), "x holds nothing"),
    "bytes of a name": (in_hdf5(named(b"\xff\xfe", 1.0)), "not UTF-8"),
    "no row": (no_row, "e.npz holds no row"),
    "no row in npy": (lambda folder, _: npy(folder, [], made(rows=0)), "e.npy holds no row"),
    "no row in parquet": (parquet_rows, "e.parquet holds no row"),
    "small": (with_ids(lambda values: values * 1e-9), "record 1 .* too small for float16"),
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
    with pytest.raises(EmbeddingFileError, match="nothing.txt does not exist"):
        import_embeddings(plain, [tmp_path / "e.npy"], model="mine", ids=tmp_path / "nothing.txt")
    report = import_embeddings(plain, [tmp_path / "e.npy"], model="mine", ids=names)
    assert_imported(plain.path, made(), report)
    (tmp_path / "gaps.txt").write_text("a\n\nb\n")
    with pytest.raises(EmbeddingFileError, match="gaps.txt, line 2"):
        import_embeddings(plain, [tmp_path / "e.npy"], model="mine", ids=tmp_path / "gaps.txt")
    table = csv_with_header(tmp_path, ids(plain), made())
    with pytest.raises(UsageError, match="--ids is for"):
        import_embeddings(plain, [table], model="mine", ids=names)
    with pytest.raises(UsageError, match="--key is for"):
        import_embeddings(plain, [tmp_path / "e.npy"], model="mine", ids=names, key="x")
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
