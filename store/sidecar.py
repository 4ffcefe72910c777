"""The directory beside a store: ``run.zarr.vnp/`` with claims, heartbeats and temporary files.

It never holds rows. While no worker and no appender runs it may be deleted, unless it holds an HDF5
store's ``journal/growth``: that is part of a commit until the next opening has applied it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from store.claims.heartbeat import is_worker
from store.claims.plan import is_claim_name
from store.io.files import is_temporary, make_dir, names_in

_OWN = frozenset({"claims", "workers", "tmp", "logs", "journal", "provenance", "digests"})
_WORK = re.compile(r"[a-z]+-[0-9a-f]{32}(?:\.(?:h5|hdf5|h5ad)(?:\.vnp)?)?")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Paths beside a store."""

    path: Path  # run.zarr.vnp

    @property
    def tmp(self) -> Path:
        """Files being written, on the store's own file system."""
        return self.path / "tmp"

    @property
    def logs(self) -> Path:
        """Reports of appends and logs of workers."""
        return self.path / "logs"

    @property
    def digests(self) -> Path:
        """Index of the rows' digests, see `store.digest_index`."""
        return self.path / "digests"

    def make(self) -> Sidecar:
        """Create the directories that are not there yet; `WriteError` if that is impossible."""
        for path in (self.tmp, self.logs):
            make_dir(path, durable=False)
        return self

    def discard(self) -> None:
        """Remove the directories again, if nothing is in them."""
        for path in (self.tmp, self.logs, self.path):
            with suppress(OSError):
                path.rmdir()

    def temporary(self, what: str) -> Path:
        """Return a free path in ``tmp`` for a file or folder of this kind (a lower-case word)."""
        return self.tmp / f"{what}-{uuid4().hex}"

    def temporaries(self) -> Iterator[Path]:
        """Yield what lies in ``tmp`` under a name that vnp gives."""
        for name in sorted(names_in(self.tmp)):
            if is_temporary(name) or _WORK.fullmatch(name):
                yield self.tmp / name

    def foreign(self) -> Iterator[Path]:
        """Yield what has a name that vnp does not give; logs are anybody's."""
        for name in sorted(names_in(self.path)):
            if name not in _OWN:
                yield self.path / name
        for name in sorted(names_in(self.tmp)):
            if not (is_temporary(name) or _WORK.fullmatch(name)):
                yield self.tmp / name
        for name in sorted(names_in(self.path / "workers")):
            if not is_worker(name):
                yield self.path / "workers" / name
        claims = self.path / "claims"
        for folder in sorted(names_in(claims)):
            if not (claims / folder).is_dir():
                yield claims / folder
            for name in sorted(names_in(claims / folder)):
                if not is_claim_name(name):
                    yield claims / folder / name


def sidecar_of(store: Path) -> Sidecar:
    """Return the sidecar of a store's (resolved) path."""
    return Sidecar(store.with_name(store.name + ".vnp"))
