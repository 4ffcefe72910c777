"""Which columns of a table become numbers of a row, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.store import Store
from tests.vnp.exchange.embedding_forms import DIM, ROWS, assert_imported, made, parquet_file
from tests.vnp.exchange.stores import ids
from vnp.exchange.embedding_columns import embedding_columns
from vnp.exchange.embedding_rows import EmbeddingFileError
from vnp.exchange.import_embeddings import import_embeddings

pytestmark = pytest.mark.slow


def table(path: Path, names: list[str], columns: dict[str, list[object]]) -> Path:
    """A .csv or .parquet with these columns in this order."""
    if path.suffix == ".parquet":
        return parquet_file(path.parent, {"id": names, **columns}).rename(path)
    rows = zip(names, *columns.values(), strict=True)
    lines = [",".join(map(str, row)) for row in (("id", *columns), *rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def numbered(
    values: list[list[float]], order: list[int], prefix: str = "e"
) -> dict[str, list[object]]:
    return {f"{prefix}{number}": [row[number] for row in values] for number in order}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_joined_by_name(plain: Store, tmp_path: Path, suffix: str) -> None:
    names, values, order = ids(plain), made().tolist(), list(range(DIM))
    one = table(tmp_path / f"a{suffix}", names[:20], numbered(values[:20], order))
    two = table(tmp_path / f"b{suffix}", names[20:], numbered(values[20:], order[::-1]))
    report = import_embeddings(plain, [one, two], model="mine")
    assert_imported(plain.path, made(), report)
    assert "e0 to e5" in report.format
    other = table(tmp_path / f"c{suffix}", names, numbered(values, order, "f"))
    with pytest.raises(EmbeddingFileError, match=r"c\..* has the column f0 where .* has e0"):
        import_embeddings(plain, [one, other], model="other")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_other_columns_are_no_dimensions_and_named(
    plain: Store, tmp_path: Path, suffix: str
) -> None:
    ours = {name: [7] * ROWS for name in ("start", "end", "frame")}
    columns = {**ours, "length": [9] * ROWS, **numbered(made().tolist(), list(range(DIM)))}
    path = table(tmp_path / f"a{suffix}", ids(plain), columns)
    report = import_embeddings(plain, [path], model="mine")
    assert_imported(plain.path, made(), report)
    assert report.passed_over == ("length",)


def test_a_key_names_columns(plain: Store, tmp_path: Path) -> None:
    values = made().tolist()
    columns = {**numbered(values, [0, 1], "a_"), **numbered(values, list(range(DIM)), "b_")}
    path = table(tmp_path / "a.csv", ids(plain), columns)
    assert_imported(plain.path, made(), import_embeddings(plain, [path], model="mine", key="b"))
    report = import_embeddings(plain, [path], model="two", key="b_3,a_0")
    assert (report.dim, report.format) == (2, "csv table, b_3 to a_0")
    assert import_embeddings(plain, [path], model="a").dim == 2, "called as the model"


def test_a_header_of_numbers_is_a_header(plain: Store, tmp_path: Path) -> None:
    """As pandas writes it where the index has a name."""
    path = tmp_path / "e.csv"
    rows = zip(ids(plain), made().tolist(), strict=True)
    lines = [",".join(["protein", *map(str, range(DIM))])]
    lines += [",".join([name, *map(str, row)]) for name, row in rows]
    path.write_text("\n".join(lines))
    assert_imported(plain.path, made(), import_embeddings(plain, [path], model="mine"))


def test_numbers_are_in_their_own_order() -> None:
    found = embedding_columns(["e10", "e9", "e8"], key=None, model="m", where="x")
    assert found.names == ("e8", "e9", "e10")
