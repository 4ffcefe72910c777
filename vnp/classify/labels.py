"""Labels of rows: from a table of samples, contigs or records to one number per row.

The table is tab-separated with a header. ``label`` is ``virus`` or ``others`` (or 1 or 0); what is
labelled is named by ``record``, ``contig`` or ``sample``, whichever of them comes first here and
is there; a ``sample`` beside the other two narrows them down. ``group`` names what must not be
divided between training and test; without it that is the contig.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.errors import DataError
from store.io.tables import TableError, read_table
from store.io.words import count
from store.store import Store
from vnp.classify.mlp import CLASSES
from vnp.classify.scores import chunked, texts

UNLABELLED = -1
_LEVELS = ("record", "contig", "sample")
_CODES = {"others": 0, "virus": 1, "0": 0, "1": 1}

_Key = tuple[bytes | None, bytes]  # sample or None for any, and name


class LabelsError(DataError):
    """The table of labels, or what is asked of it, is wrong: correct it."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A table of labels."""

    path: Path
    level: str  # "record", "contig" or "sample": what a line labels
    entries: dict[_Key, tuple[int, str]]  # label and group; group "" where none is given


@dataclass(frozen=True, slots=True)
class RowLabels:
    """Labels by row; every array has length N."""

    label: NDArray[np.int8]  # class number, or `UNLABELLED`
    group: NDArray[np.int32]  # number of what must not be divided; equal numbers belong together
    new_window: NDArray[np.bool_]  # whether a row is the first of its window
    unused: int = 0  # lines of the table whose contigs have no row


def read_labels(path: Path) -> LabelTable:
    """Read a table of labels; `LabelsError` names the line that is not of this form."""
    entries: dict[_Key, tuple[int, str]] = {}
    try:
        lines = read_table(path, required=("label",), optional=(*_LEVELS, "group"))
    except TableError as error:
        raise LabelsError(str(error)) from None
    level: str | None = None
    for number, row in lines:
        level = level or next((name for name in _LEVELS if name in row), None)
        if level is None:
            raise LabelsError(
                f"{path}, line 1: the header must name one of the columns "
                f"{', '.join(reversed(_LEVELS))}; it is {list(row)}"
            )
        narrowed = level != "sample" and "sample" in row
        code = _CODES.get(row["label"].strip().lower())
        if code is None:
            raise LabelsError(
                f"{path}, line {number}: the label is {row['label']!r}; it must be "
                f"{' or '.join(reversed(CLASSES))}"
            )
        key = (row["sample"].encode() if narrowed else None, row[level].encode())
        value = (code, row.get("group", ""))
        if entries.setdefault(key, value) != value:
            raise LabelsError(f"{path}, line {number}: {row[level]} has another label above")
    if level is None or {code for code, _ in entries.values()} != {0, 1}:
        raise LabelsError(f"{path}: training needs both labels, {' and '.join(CLASSES)}")
    return LabelTable(path, level, entries)


def label_rows(store: Store, table: LabelTable, *, by_sample: bool) -> RowLabels:
    """Look the labels of every row up; ``by_sample`` keeps whole samples together.

    `LabelsError` if the table names something that the store does not hold.
    """
    n = store.n_rows
    label = np.full(n, UNLABELLED, dtype=np.int8)
    group = np.zeros(n, dtype=np.int32)
    new_window = np.zeros(n, dtype=bool)
    samples = [sample.name.encode() for sample in store.schema.samples]
    used: set[_Key] = set()
    named: dict[str, int] = {}  # numbers of the table's groups
    groups = contig_group = 0  # contigs and named groups are numbered as they come
    before: tuple[int, bytes, int] | None = None  # sample, contig and window of the row before
    for row, (code, contig, segment, record) in enumerate(_identities(store, table.level)):
        here = (code, contig, segment)
        new_window[row] = here != before
        if before is None or here[:2] != before[:2]:
            contig_group, groups = groups, groups + 1
        before = here
        name = samples[code] if table.level == "sample" else record
        key: _Key = (None, name)
        if key not in table.entries:
            key = (samples[code], name)
        if key not in table.entries:
            continue
        used.add(key)
        label[row], group_name = table.entries[key]
        if by_sample:
            group[row] = code
        elif group_name:
            if group_name not in named:
                named[group_name], groups = groups, groups + 1
            group[row] = named[group_name]
        else:
            group[row] = contig_group
    return RowLabels(label, group, new_window, _unused(store, table, used))


def _identities(store: Store, level: str) -> Iterator[tuple[int, bytes, int, bytes]]:
    """Yield sample code, contig, segment number, and what a line of the table names, by row."""
    for start, stop in chunked(0, store.n_rows):
        contigs = texts(store, "contig", start, stop)
        yield from zip(
            np.asarray(store.column("sample", start, stop)).tolist(),
            contigs,
            np.asarray(store.column("segment", start, stop)).tolist(),
            texts(store, "id", start, stop) if level == "record" else contigs,
            strict=True,
        )


def _unused(store: Store, table: LabelTable, used: set[_Key]) -> int:
    """Count labels of what the store does not hold, and refuse a table of another store.

    A contig may have no record, and a sample no row; but every record and sample must exist, and
    at least one of the contigs.
    """
    unused = table.entries.keys() - used
    if table.level == "sample":
        unused = {key for key in unused if store.schema.sample(key[1].decode()) is None}
    if unused and (table.level != "contig" or not used):
        first = min(name for _, name in unused).decode()
        raise LabelsError(
            f"{table.path} labels {count(len(unused), table.level)} that {store.path} does not "
            f"hold, such as {first!r}; append them, or take their lines out"
        )
    return len(unused)
