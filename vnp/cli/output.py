"""What every command prints in the same way: results on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from vnp.cli.exit_codes import DONE


class Report(Protocol):
    """What a command's work returns: what ``--json`` prints."""

    def to_json(self) -> Any:
        """Return the report as JSON."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    report: Report
    lines: Iterable[str]  # the same for people
    code: int = DONE

    def show(self, *, as_json: bool) -> int:
        """Print the report and return the exit code."""
        if as_json:
            print_json(self.report.to_json())
        else:
            print_lines(self.lines)
        return self.code


def printable(text: str) -> str:
    """Escape what an untrusted file could do to a terminal: control characters, line ends."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_json(value: Any) -> None:
    """Print a result for programs: one JSON document on one line."""
    print(json.dumps(value))


def print_lines(lines: Iterable[str]) -> None:
    """Print a result for people."""
    for line in lines:
        print(line)
