"""Numbers and names in sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_MOST_NAMED = 10  # names of a list
_ENOUGH = 4  # letters of a word that may be the beginning of a name


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun, ``2,000 rows``; ``plural`` if it is not ``noun`` + "s"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def first_few(names: Sequence[str]) -> str:
    """Name the first of many, ``a, b and 3 more``; ``none`` of none."""
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(names[:_MOST_NAMED]) or "none") + more


def not_held(what: str, name: str, held: Iterable[str], *, near: str = "") -> str:
    """Say that the store has no ``what`` of a name, what it has, and what was perhaps meant.

    ``near`` is `nearest`'s answer, where the names of ``held`` are not all that may be meant.
    """
    names = list(held)
    near = near or nearest(name, names)
    has = f"the store has no {what} {name!r} (it has: {first_few(names)})"
    return has + (f"; {near}" if near else "")


def nearest(word: str, known: Iterable[str]) -> str:
    """Ask whether the nearest name was meant; nothing if none is near.

    Names that begin with the word come first, then those of the same family: the
    same letters up to the first ``_``.
    """
    names = list(known)
    begun = [name for name in names if len(word) >= _ENOUGH and name.startswith(word)]
    near = difflib.get_close_matches(word, begun, n=1, cutoff=0.0)
    if not near:
        family = word.partition("_")[0]
        near = difflib.get_close_matches(word, names, n=5)
        near.sort(key=lambda name: name.partition("_")[0] != family)
    return f"did you mean {near[0]}?" if near else ""
