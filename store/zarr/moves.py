"""Files moved into a store together, and back again if the commit does not come about."""

from __future__ import annotations

import os
from pathlib import Path

from store.io.files import fsync_dir


class Moves:
    """Moves staged files to their places, keeping what they replace.

    Parameters
    ----------
    aside
        Existing directory on the same file system for the files that are replaced.
    """

    def __init__(self, aside: Path) -> None:
        self._aside = aside
        self._done: list[tuple[Path, Path | None]] = []  # place, and what stood there before

    def move(self, staged: Path, place: Path) -> None:
        """Move one file to its place."""
        before = self._aside / f"{len(self._done)}.before"
        try:
            os.link(place, before)
        except FileNotFoundError:
            self._done.append((place, None))
        else:
            self._done.append((place, before))
        staged.replace(place)

    def sync(self) -> None:
        """Make all moves safe on disk."""
        for directory in {place.parent for place, _ in self._done}:
            fsync_dir(directory)

    def undo(self) -> None:
        """Put everything back, the last move first."""
        while self._done:
            place, before = self._done.pop()
            if before is None:
                place.unlink(missing_ok=True)
            else:
                before.replace(place)
