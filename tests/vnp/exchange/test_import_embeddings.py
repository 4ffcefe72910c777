"""Embeddings of others become a model of a store: every form, and what is left over."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from store.claims.participant import Participant
from store.errors import DataError
from store.io.ragged import from_items
from store.open import create_store, open_store
from store.rows import RowBatch
from store.schema import Model
from store.store import Store
from tests.rows import append, batch, commit, expected, publish
from tests.vnp.exchange.embedding_forms import (
    DIM,
    ROWS,
    SMALL,
    WRITERS,
    assert_imported,
    csv_with_header,
    h5_single,
    made,
    npy,
    npz_single,
    twin_samples,
)
from tests.vnp.exchange.stores import ids
from vnp.cli.main import main
from vnp.exchange.embedding_files import SUFFIXES
from vnp.exchange.embedding_rows import EmbeddingFileError
from vnp.exchange.export import export_store
from vnp.exchange.import_embeddings import EmbeddingImport, import_embeddings
from vnp.exchange.staging import Staged

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize(
    ("cls", "method", "first_row"),
    [(Store, "add_model", 0), (Staged, "block", 0), (Store, "filled", 20)],
    ids=["before", "before the claim", "at the end"],
)
def test_two_imports_at_once_never_mix_in_silence(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cls: type,
    method: str,
    first_row: int,
) -> None:
    """What another import certifies meanwhile is compared, whenever it does."""
    (tmp_path / "theirs").mkdir()
    theirs = npz_single(tmp_path / "theirs", ids(store)[:32], made()[:32] + 1)
    ours = npy(tmp_path, ids(store)[first_row:], made()[first_row:])  # from row 20: half of block 1
    original = getattr(cls, method)

    def meanwhile(*given: object) -> object:
        monkeypatch.undo()
        result = original(*given) if method != "filled" else None
        import_embeddings(open_store(store.path), [theirs], model="mine")
        return original(*given) if method == "filled" else result

    monkeypatch.setattr(cls, method, meanwhile)
    with pytest.raises(EmbeddingFileError, match="has other numbers of mine"):
        import_embeddings(store, [ours], model="mine")
    np.testing.assert_array_equal(
        open_store(store.path).read("mine")[:32], (made()[:32] + 1).astype("f2")
    )


def test_numbers_that_float16_makes_zero_are_counted(plain: Store, tmp_path: Path) -> None:
    values = made()
    values[:3, : DIM // 2] = 1e-9
    values[3] = 0  # which it was before
    assert import_embeddings(plain, [npy(tmp_path, ids(plain), values)], model="mine").faded == 3


def test_an_id_that_reads_two_ways_is_ambiguous(tmp_path: Path) -> None:
    """A record ``one:x`` and the record ``x`` of the sample ``one``."""
    store = create_store(tmp_path / "run.zarr", models=[SMALL], segment_length=500, block_rows=16)
    with store.appending() as appending:
        rows = batch("x", 0, 2)
        names = rows.id.tolist()
        two = from_items([names[0], b"one:" + names[0]])
        appending.write(replace(rows, id=two))
        commit(appending, "one", 2)
    plain, prefixed = names[0].decode(), f"one:{names[0].decode()}"
    path = tmp_path / "e.csv"
    path.write_text(f"{plain},1\n{prefixed},2\n")
    with pytest.raises(EmbeddingFileError, match=f"one as {prefixed}, one as {plain}"):
        import_embeddings(store, [path], model="mine")
    path.write_text(f"id,sample,x\n{plain},one,1\n{prefixed},one,2\n")
    assert import_embeddings(store, [path], model="mine").complete
    path.write_text(f"{plain},1\none:{prefixed},2\n")
    report = import_embeddings(store, [path], model="mine")
    assert (report.complete, report.published) == (True, 0)
