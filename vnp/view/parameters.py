"""What a request may ask: every parameter is known, given once, and within bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from starlette.datastructures import QueryParams

Reader: TypeAlias = Callable[[str], Any]

MOST_ROWS = 100_000  # of the table of contigs, in one answer
_LONGEST_TEXT = 200
_MOST = 1 << 53  # whole numbers that JavaScript has


class ParameterError(ValueError):
    """A request is not what this server answers; the message goes to the browser."""


def read_parameters(query: QueryParams, known: Mapping[str, Reader]) -> dict[str, Any]:
    """Read the parameters of a request; `ParameterError` names what is wrong with one."""
    found: dict[str, Any] = {}
    for name, value in query.multi_items():
        if name not in known:
            raise ParameterError(f"unknown parameter {name[:40]!r}")
        if name in found:
            raise ParameterError(f"{name} is given twice")
        try:
            found[name] = known[name](value)
        except ValueError as error:
            raise ParameterError(f"{name} {error}") from None
    return found


def required(found: Mapping[str, Any], *names: str) -> list[Any]:
    """Values of parameters that must be given."""
    for name in names:
        if name not in found:
            raise ParameterError(f"{name} is missing")
    return [found[name] for name in names]


def text(most: int = _LONGEST_TEXT) -> Reader:
    """Any text of a length."""

    def read(value: str) -> str:
        if len(value) > most:
            raise ValueError(f"is longer than {most:,} letters")
        return value

    return read


def whole(most: int = _MOST) -> Reader:
    """A whole number, 0 or more."""

    def read(value: str) -> int:
        if not (value.isascii() and value.isdecimal()) or len(value) > 16 or int(value) > most:
            raise ValueError(f"is not a whole number from 0 to {most:,}")
        return int(value)

    return read


def number(value: str) -> float:
    """Read a finite number."""
    plain = value.isascii() and "_" not in value and len(value) < 32
    try:
        found = float(value) if plain else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError("is not a number")
    return found


def flag(value: str) -> bool:
    """Read ``true`` or ``false``."""
    return bool(one_of("true", "false")(value) == "true")


def one_of(*values: str) -> Reader:
    """One of some words."""

    def read(value: str) -> str:
        if value not in values:
            raise ValueError(f"is not one of {', '.join(values)}")
        return value

    return read
