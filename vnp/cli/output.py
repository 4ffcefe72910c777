"""How every command prints its result on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
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
        for line in [json.dumps(self.value)] if as_json else self.lines:
            print(line)
        return self.code


def printable(text: str) -> str:
    """Escape what an untrusted file could do to a terminal: control characters, line ends."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
