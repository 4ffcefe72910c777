"""Numbers in sentences."""

from __future__ import annotations


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun, ``2,000 rows``; ``plural`` if it is not ``noun`` + "s"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
