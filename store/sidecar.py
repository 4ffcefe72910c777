"""The directory beside a store: ``run.zarr.vnp/`` with claims, heartbeats and temporary files.

It never holds rows. While no worker and no appender runs it may be deleted, unless it holds an HDF5
store's ``journal/growth``: that is part of a commit until the next opening has applied it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from store.claims.heartbeat import is_worker
from store.claims.plan import is_claim_name
from store.claims.room import FileRoom, Room
from store.io.bucket import endpoint
from store.io.files import is_temporary, make_dir, names_in, temporary_name

_OWN = frozenset({"claims", "workers", "tmp", "logs", "journal", "provenance", "digests"})
_WORK = re.compile(r"[a-z]+-[0-9a-f]{32}(?:\.(?:h5|hdf5|h5ad)(?:\.vnp)?)?")


class Sidecar(Protocol):
    """What lies beside a store, and where its temporary files and reports go."""

    @property
    def name(self) -> str:
        """Name of it beside the store: ``run.zarr.vnp``."""

    @property
    def room(self) -> Room:
        """Claims and heartbeats."""

    @property
    def tmp(self) -> Path:
        """Folder for temporary files of this process."""

    @property
    def logs(self) -> Path:
        """Folder for reports of appends; made by whoever writes one."""

    @property
    def digests(self) -> Path:
        """Folder for the index of the rows' digests, see `store.digest_index`."""

    @property
    def digests_tmp(self) -> Path:
        """Folder for its files while they are written, on the same file system."""

    def make(self) -> Sidecar:
        """Make what has to be there before anything is written; `WriteError` if impossible."""

    def discard(self) -> None:
        """Undo ``make``, if nothing else is there."""

    def temporary(self, what: str) -> Path:
        """Return a free path for a file or folder of this kind (a lower-case word)."""

    def draft(self, report: Path) -> Path:
        """Return a free path from which a file in ``logs`` can be renamed; its folder is made."""

    def temporaries(self) -> Iterator[Path]:
        """Yield what lies where temporary files do, under a name that vnp gives."""

    def foreign(self) -> Iterator[str]:
        """Yield the names, from here on, of what is not vnp's."""


@dataclass(frozen=True, slots=True)
class DirectorySidecar:
    """The directory beside a store in a file system."""

    path: Path  # run.zarr.vnp

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.name

    @property
    def room(self) -> FileRoom:
        """Claims and heartbeats, as files."""
        return FileRoom(self.path)

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

    @property
    def digests_tmp(self) -> Path:
        """As of everything else."""
        return self.tmp

    def make(self) -> DirectorySidecar:
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

    def draft(self, report: Path) -> Path:  # noqa: ARG002 - on the same file system
        """Return a free path in ``tmp``."""
        return self.make().temporary("leftovers")

    def temporaries(self) -> Iterator[Path]:
        """Yield what lies in ``tmp`` under a name that vnp gives."""
        for name in sorted(names_in(self.tmp)):
            if is_temporary(name) or _WORK.fullmatch(name):
                yield self.tmp / name

    def foreign(self) -> Iterator[str]:
        """Yield what has a name that vnp does not give; logs are anybody's."""
        for name in sorted(names_in(self.path)):
            if name not in _OWN:
                yield name
        for name in sorted(names_in(self.tmp)):
            if not (is_temporary(name) or _WORK.fullmatch(name)):
                yield f"tmp/{name}"
        for name in sorted(names_in(self.path / "workers")):
            if not is_worker(name):
                yield f"workers/{name}"
        claims = self.path / "claims"
        for folder in sorted(names_in(claims)):
            if not (claims / folder).is_dir():
                yield f"claims/{folder}"
            for name in sorted(names_in(claims / folder)):
                if not is_claim_name(name):
                    yield f"claims/{folder}/{name}"


@dataclass(frozen=True, slots=True)
class RemoteSidecar:
    """Beside a store that is not in a file system: only claims and heartbeats lie there.

    Temporary files are in the system's folder for them, reports below the current folder, and the
    index of digests, which is derived, in the user's cache.
    """

    name: str  # run.zarr.vnp
    room: Room

    @property
    def tmp(self) -> Path:
        """The system's folder for temporary files (``TMPDIR``)."""
        return Path(tempfile.gettempdir())

    @property
    def logs(self) -> Path:
        """``s3-BUCKET-...-run.zarr.vnp/logs`` below the current folder."""
        return Path(re.sub(r"[:/]+", "-", str(self.room))) / "logs"

    @property
    def digests(self) -> Path:
        """A folder in the user's cache, of this store alone; made anew on another machine.

        Two servers may have buckets of one name.
        """
        named = hashlib.sha256(f"{endpoint()} {self.room}".encode()).hexdigest()[:32]
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not cache.is_absolute():
            home = Path(os.path.expanduser("~"))  # noqa: PTH111 - does not raise without a home
            cache = home / ".cache" if home.is_absolute() else Path(tempfile.gettempdir())
        return cache / "vnp" / f"digests-{named}"

    @property
    def digests_tmp(self) -> Path:
        """The same folder."""
        return self.digests

    def make(self) -> RemoteSidecar:
        """Make nothing: objects have no folders."""
        return self

    def discard(self) -> None:
        """Undo nothing."""

    def temporary(self, what: str) -> Path:
        """Return a free path for a file or folder of this kind (a lower-case word)."""
        return self.tmp / f"vnp-{what}-{uuid4().hex}"

    def draft(self, report: Path) -> Path:
        """Return a free path beside the report: ``TMPDIR`` may be on another file system."""
        make_dir(report.parent, durable=False)
        return temporary_name(report.parent, report)

    def temporaries(self) -> Iterator[Path]:
        """Yield nothing: what a killed process left is the system's to tidy."""
        return iter(())

    def foreign(self) -> Iterator[str]:
        """Yield what is neither a claim nor a heartbeat, of these two folders."""
        for name in self.room.names("workers"):
            if not is_worker(name):
                yield f"workers/{name}"
        for folder in self.room.names("claims"):
            for name in self.room.names(f"claims/{folder}"):
                if not is_claim_name(name):
                    yield f"claims/{folder}/{name}"


def sidecar_of(store: Path) -> DirectorySidecar:
    """Return the sidecar of a store's (resolved) path."""
    return DirectorySidecar(store.with_name(store.name + ".vnp"))


@contextmanager
def making(store: Path) -> Iterator[DirectorySidecar]:
    """Make the sidecar of a store that is being made; gone again, if new, when that fails."""
    sidecar = sidecar_of(store)
    ours = not os.path.lexists(sidecar.path)
    try:
        yield sidecar.make()
    except BaseException:
        if ours:
            sidecar.discard()
        raise


class OnDisk:
    """What the backends of a file system have in common: a store is a path, with a sidecar."""

    @staticmethod
    def taken(path: Path) -> str | None:
        """What is in the way of a new store."""
        if not os.path.lexists(path):
            return None
        if not path.is_dir():
            return "another file"
        return "a directory with other files in it" if any(path.iterdir()) else "a directory"

    @staticmethod
    def probe(path: Path) -> None:
        """Try nothing: ``vnp doctor`` looks at the file system."""

    @staticmethod
    def discard(path: Path) -> None:
        """Remove the store's directory or file, and its sidecar."""
        for each in (path, sidecar_of(path).path):
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)
