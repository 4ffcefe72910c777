"""Which columns of a table are the numbers of an embedding: told by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from store.io.words import first_few
from vnp.exchange.embedding_rows import EmbeddingFileError, shown

# What vnp's own tables and those of pandas have beside the numbers.
OWN = frozenset(
    (
        *("id", "__index_level_0__", "row", "sample", "contig", "segment", "start", "end"),
        *("strand", "frame", "digest", "nucleotide", "protein", "contig_length"),
    )
)
_NUMBERED = re.compile(r"(.*?)([0-9]{1,7})")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of numbers of a table."""

    names: tuple[str, ...]  # in the order of the row
    passed_over: tuple[str, ...] = ()  # others that are neither vnp's own nor the ids

    def __str__(self) -> str:
        first, last = shown(self.names[0]), shown(self.names[-1])
        return first if len(self.names) == 1 else f"{first} to {last}"


def embedding_columns(names: Sequence[str], *, key: str | None, model: str, where: str) -> Columns:
    """Choose the columns of an embedding.

    Parameters
    ----------
    names
        Columns of the table without that of the ids.
    key
        The name before the numbers of the columns, or names of columns with commas between them.
        None: the only column, or the only numbered ones (``e0``, ``e1``, ...), or of several kinds
        those called ``X_<model>`` or ``<model>``.

    Returns
    -------
    Columns
        Numbered ones by their numbers, whatever their order in the table.

    Raises
    ------
    EmbeddingFileError
        If a name is there twice, numbers are missing, or which columns are meant cannot be told.
    """
    candidates = [name for name in names if name not in OWN]
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise EmbeddingFileError(f"{where}: the column {shown(twice)} is there twice")
    if key is not None and set(listed := key.split(",")) <= set(names):
        return _chosen(listed, candidates, where)
    if key is None and len(candidates) == 1:
        return Columns((candidates[0],))
    series: dict[str, dict[int, str]] = {}
    for name in candidates:
        if found := _NUMBERED.fullmatch(name):
            numbers = series.setdefault(found[1], {})
            number = int(found[2])
            if number in numbers:
                raise EmbeddingFileError(
                    f"{where}: the columns {shown(numbers[number])} and {shown(name)} have one "
                    "number"
                )
            numbers[number] = name
    for base in (f"X_{model}", model) if key is None else (key,):
        for prefix in (base, f"{base}_"):
            if prefix in series and (key is not None or len(series) > 1):
                return _chosen(_in_order(series[prefix], where), candidates, where)
    if key is None and len(series) == 1:
        [numbers] = series.values()
        return _chosen(_in_order(numbers, where), candidates, where)
    raise EmbeddingFileError(
        f"{where}: which of its columns are the embedding cannot be told (it has "
        f"{some(candidates)}): name them with --key, as the name before their numbers (e of e0, "
        "e1, ...) or all with commas between them"
    )


def some(names: Sequence[str]) -> str:
    """Name the first columns of many."""
    return first_few(list(map(shown, names)))


def _in_order(numbers: dict[int, str], where: str) -> list[str]:
    """Columns by number; EmbeddingFileError if one is missing between two."""
    found = sorted(numbers)
    for before, after in pairwise(found):
        if after != before + 1:
            raise EmbeddingFileError(
                f"{where}: between the columns {shown(numbers[before])} and "
                f"{shown(numbers[after])} one is missing"
            )
    return [numbers[number] for number in found]


def _chosen(names: Sequence[str], candidates: Sequence[str], where: str) -> Columns:
    chosen = set(names)
    if len(chosen) != len(names):
        raise EmbeddingFileError(f"{where}: --key names a column twice")
    return Columns(tuple(names), tuple(name for name in candidates if name not in chosen))
