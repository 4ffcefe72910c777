"""Text tables, tab- or comma-separated: reading those of users, and cells that are safe to open.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-``, ``@`` or a control character for a
formula, and runs it. `safe_cell` puts an apostrophe before such text, which spreadsheets do not
show; numbers are left as they are.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from pathlib import Path

from store.errors import DataError
from store.io.words import count
from store.location import require_local

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class TableError(DataError):
    """A table is not of the form that is asked for: correct it."""


def read_table(
    path: Path, *, required: Sequence[str], optional: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """Read a tab-separated table with a header: 1-based line numbers, and cells by column.

    Empty lines are skipped; a byte order mark and Windows line ends do not matter.

    Raises
    ------
    TableError
        If the file cannot be read, is not UTF-8, its header lacks a required column or has
        another or a repeated one, or a line has another number of cells.
    UsageError
        If it is in a bucket.
    """
    require_local(path)
    lines = csv.reader(_text(path).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(lines, [])
    known = [*required, *optional]
    for name in header:
        if name not in known:
            near = next((each for each in known if each == name.strip().lower()), "")
            hint = f": is it {near}?" if near else ""
            raise TableError(
                f"{path}, line 1: the header has an unknown column {name!r}{hint}; the columns are "
                f"{', '.join(known)}, separated by tabs"
            )
        if header.count(name) > 1:
            raise TableError(f"{path}, line 1: the header has the column {name} twice")
    absent = [name for name in required if name not in header]
    if absent:
        raise TableError(
            f"{path}, line 1: the header must name the column {absent[0]}, separated by tabs; "
            f"it is {header}"
        )
    rows = []
    for number, cells in enumerate(lines, start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise TableError(
                f"{path}, line {number}: {count(len(cells), 'column')} where the header has "
                f"{len(header)}"
            )
        rows.append((number, dict(zip(header, cells, strict=True))))
    return rows


def safe_cell(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula; line breaks and tabs as blanks."""
    if not text.startswith(_FORMULA):
        if text.isprintable():  # without line breaks and tabs, as nearly all are
            return text
    else:
        text = "'" + text
    return " ".join(text.splitlines()).replace("\t", " ")


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from None
    if raw.startswith(_UTF16) or b"\0" in raw[:200]:
        raise TableError(
            f"{path} is UTF-16 text; save it as UTF-8, or convert it: "
            f"iconv -f UTF-16 -t UTF-8 {path}"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not UTF-8 text (byte {error.start}): convert it") from None
