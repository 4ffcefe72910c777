"""One thing that was tried or looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from store.errors import StoreError
from store.io.files import explained

State: TypeAlias = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it."""

    what: str
    state: State  # note: a store can do without, or it costs something; problem: it cannot
    found: str  # a sentence, and the remedy if there is one
    values: dict[str, Any] = field(default_factory=dict)  # the figures behind it, for programs


def tried(what: str, path: Path, look: Callable[[], Trial], *, why: str) -> Trial:
    """Make a problem of what the system refuses; ``why`` says what needs it."""
    try:
        return look()
    except (OSError, StoreError) as error:
        said = explained(error, path) if isinstance(error, OSError) else str(error)
        return Trial(what, "problem", f"{said} {why}", {"errno": getattr(error, "errno", None)})
