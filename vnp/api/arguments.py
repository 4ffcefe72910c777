"""What the functions of the API take: paths, stores, names and words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, get_args

from store.errors import UsageError
from store.location import Location, location
from store.open import open_store
from store.store import Store
from vnp.sequence.segments import WHOLE

if TYPE_CHECKING:
    pass

T = TypeVar("T")

AnyPath: TypeAlias = str | os.PathLike[str]
StoreOrPath: TypeAlias = AnyPath | Store
SegmentLength: TypeAlias = int | Literal["whole"]  # bases of a window; whole: contigs are not cut


def path_of(store: StoreOrPath) -> Location:
    """Where a store is."""
    return store.path if isinstance(store, Store) else location(store)


def newest(store: StoreOrPath) -> Store:
    """Open a store at its newest commit, whichever one an open one holds."""
    return store.snapshot() if isinstance(store, Store) else open_store(store)


def names_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names as a tuple; a str is one name."""
    found = (names,) if isinstance(names, str) else _listed(names, "names")
    for each in found:
        if not isinstance(each, str):
            raise UsageError(f"{each!r} is not a name: names are texts")
    return found


def paths_of(paths: AnyPath | Sequence[AnyPath]) -> tuple[AnyPath, ...]:
    """One path or several."""
    found = (paths,) if isinstance(paths, str | os.PathLike) else _listed(paths, "files")
    for each in found:
        if not isinstance(each, str | os.PathLike):
            raise UsageError(f"{each!r} is not the path of a file")
    return found


def rows_of(rows: Sequence[int]) -> Sequence[int]:
    """Row numbers, as a sequence; a single number is refused."""
    return rows if isinstance(rows, range) else _listed(rows, "row numbers")


def _listed(values: Iterable[T], what: str) -> tuple[T, ...]:
    try:
        return tuple(values)
    except TypeError:
        raise UsageError(f"{values!r} is not a list of {what}") from None


def check_whole(name: str, value: object) -> None:
    """Refuse a value that is neither a whole number nor None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise UsageError(f"{name} is {value!r}: give a whole number")


def check_word(name: str, value: object, words: object) -> None:
    """Refuse what a command's parser would: a word that is none of a Literal's, nor None."""
    known = get_args(words)
    if value is not None and value not in known:
        raise UsageError(f"{name} is {value!r}, not {' or '.join(map(str, known))}")


def bases_of(length: SegmentLength) -> int:
    """Convert a segment length to bases; 0: contigs are not cut."""
    if length != "whole":
        check_whole("segment_length", length)
    return WHOLE if length == "whole" else length
