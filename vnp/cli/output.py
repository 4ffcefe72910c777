"""How every command prints its result on standard output."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnp.cli.exit_codes import DONE


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    value: Any  # the result as JSON
    lines: Iterable[str]  # the same for people
    code: int = DONE

    def show(self, *, as_json: bool) -> int:
        """Print the result, as one line of JSON or for people, and return the exit code."""
        with printing():
            for line in [json.dumps(self.value)] if as_json else self.lines:
                print(line)
            sys.stdout.flush()
        return self.code


@contextmanager
def printing() -> Iterator[None]:
    """Name standard output in the error if it cannot be written; fine if its reader has left."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        from store.io.files import write_failure

        raise write_failure(error, Path("standard output")) from error


def fitting(lines: Iterable[str], *, columns: int, rows: int) -> list[str]:
    """Cut lines to a terminal's size, the cursor's line below them included.

    Where there are too many, the last one counts those that are left out.
    """
    cut = [_cut(line, columns) for line in lines]
    room = max(rows - 1, 1)
    if len(cut) <= room:
        return cut
    left = len(cut) - (room - 1)
    return [*cut[: room - 1], _cut(f"  ... {left:,} more lines", columns)]


def _cut(line: str, columns: int) -> str:
    """Return as much of a line as is shown in so many columns."""
    width = 0
    for at, character in enumerate(line):
        if not unicodedata.combining(character):
            width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > columns:
            return line[:at]
    return line


def printable(text: str) -> str:
    """Escape what an untrusted file could do to a terminal: control characters, line ends."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
