"""Text tables of users, and cells that no spreadsheet runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.io.tables import TableError, read_table, safe_cell


def table(tmp_path: Path, content: bytes) -> list[tuple[int, dict[str, str]]]:
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    return read_table(path, required=("sample", "label"), optional=("group",))


@pytest.mark.parametrize(
    "content",
    [
        b"sample\tlabel\na\tvirus\n\nb\tothers",
        b"\xef\xbb\xbfsample\tlabel\r\na\tvirus\r\n\r\nb\tothers\r\n",
    ],
)
def test_a_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path, content: bytes) -> None:
    assert table(tmp_path, content) == [
        (2, {"sample": "a", "label": "virus"}),
        (4, {"sample": "b", "label": "others"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Sample\tlabel\n", r"line 1: .* unknown column 'Sample': is it sample\?"),
        (b"sampel\tlabel\n", "line 1: .* unknown column 'sampel'; the columns are sample, label"),
        (b"label\n", "line 1: the header must name the column sample"),
        (b"", "line 1: the header must name the column sample"),
        (b"sample\tlabel\tlabel\n", "has the column label twice"),
        (b"sample\tlabel\na\n", "line 2: 1 column where the header has 2"),
        ("sample\tlabel\n".encode("utf-16"), "is UTF-16 text; .* iconv -f UTF-16"),
        ("sample\tlabel\n".encode("utf-16-le"), "is UTF-16 text"),
        (b"sample\tlabel\n\xff\tvirus\n", "is not UTF-8 text"),
    ],
)
def test_what_is_not_such_a_table_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(TableError, match=message):
        table(tmp_path, content)


@given(st.text())
def test_no_cell_begins_a_formula_or_ends_a_line(text: str) -> None:
    cell = safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@"))
    assert not set(cell) & set("\t\r\n")
    if text[:1].isalnum() and text.isascii() and text.isprintable():
        assert cell == text
