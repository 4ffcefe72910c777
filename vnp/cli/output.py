"""What every command prints in the same way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any


def say(message: str) -> None:
    """Tell the user something, beside the results."""
    print(f"vnp: {message}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escape what a stranger's file could do to a terminal: control characters, line ends."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_json(value: Any) -> None:
    """Print a result for programs: one JSON document on one line."""
    print(json.dumps(value))


def print_lines(lines: Iterable[str]) -> None:
    """Print a result for people."""
    for line in lines:
        print(line)
