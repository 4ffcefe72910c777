"""The directory beside a store: ``run.zarr.vnp/`` with claims, heartbeats and temporary files.

It never holds data: while no worker and no appender runs, it may be deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Places beside one store."""

    path: Path  # run.zarr.vnp

    @property
    def tmp(self) -> Path:
        """Files being written, on the store's own file system."""
        return self.path / "tmp"

    @property
    def logs(self) -> Path:
        """Reports of appends and logs of workers."""
        return self.path / "logs"

    def make(self) -> Sidecar:
        """Create the directories that are not there yet."""
        for path in (self.tmp, self.logs):
            path.mkdir(parents=True, exist_ok=True)
        return self


def sidecar_of(store: Path) -> Sidecar:
    """Return the sidecar of a store's (resolved) path."""
    return Sidecar(store.with_name(store.name + ".vnp"))
