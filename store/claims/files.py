"""Claim files (`store.claims.plan` explains their names), and the only code that touches them."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path
from uuid import uuid4

from store.claims.heartbeat import is_worker
from store.claims.plan import RELEASED
from store.claims.process import Identity
from store.errors import DamageError, UsageError
from store.io.files import WriteError, make_dir, names_in, publish_new, write_failure
from store.io.json import parse_json
from store.io.regular import read_regular

_LONGEST = 65_536  # bytes of a claim file; a longer one is not ours
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class ClaimFiles:
    """The claim files in the side directory of one store; ``link`` makes a hard link."""

    def __init__(self, directory: Path, *, link: Callable[[Path, Path], None]) -> None:
        self.directory = directory
        self._link = link
        self._folders: dict[str, Path] = {}

    def models(self) -> list[str]:
        """Names under which anything was ever claimed."""
        return sorted(filter(is_model, names_in(self.directory / "claims")))

    def names(self, model: str) -> list[str]:
        """File names of a model's claims and markers, in any order."""
        return names_in(self._folder(model))

    def highest(self, model: str, block: int) -> int:
        """Highest epoch of a block, 0 if there is none."""
        # Epochs have no gaps, so a few looks do; a listing would read every block's names.
        return next(epoch for epoch in count() if not self.exists(model, block, epoch + 1))

    def is_highest(self, model: str, block: int, epoch: int) -> bool:
        """Whether an epoch (0: none) is the highest of a block; False after a wipe, too."""
        beyond = self.exists(model, block, epoch + 1)
        return not beyond and (epoch == 0 or self.exists(model, block, epoch))

    def exists(self, model: str, block: int, epoch: int) -> bool:
        """Whether the claim was ever made."""
        # As a listing says it: whatever has the name, a link to nothing too, keeps it taken.
        return os.path.lexists(self._folder(model) / f"{block}.{epoch}")

    def is_released(self, model: str, block: int, epoch: int) -> bool:
        """Whether the claim was given back."""
        return os.path.lexists(self._folder(model) / f"{block}.{epoch}{RELEASED}")

    def read(self, model: str, block: int, epoch: int) -> bytes | None:
        """Content of a claim file; None when it cannot be read."""
        try:
            path = self._folder(model) / f"{block}.{epoch}"
            return read_regular(path, most=_LONGEST, follow=False)
        except (OSError, DamageError):
            return None

    def make(self, model: str, block: int, epoch: int, content: bytes) -> bool:
        """Make a claim file, see `publish_new`; False when the name is taken."""
        folder, tmp = self._folder(model), self.directory / "tmp"
        target = folder / f"{block}.{epoch}"
        # Not synced: a power cut that takes a claim away takes its owner too.
        try:
            return publish_new(tmp, target, [content], durable=False, link=self._link)
        except WriteError as error:
            if error.errno != errno.ENOENT:
                raise
        make_dir(folder, durable=False)  # the first claim, or somebody cleaned up
        make_dir(tmp, durable=False)
        return publish_new(tmp, target, [content], durable=False, link=self._link)

    def mark_released(self, model: str, block: int, epoch: int) -> None:
        """Make the marker beside a claim file; fine when it exists. Its name is all it says."""
        marker = self._folder(model) / f"{block}.{epoch}{RELEASED}"
        try:
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            pass
        except OSError as error:
            raise write_failure(error, marker) from error

    def _folder(self, model: str) -> Path:
        if model not in self._folders:
            if not is_model(model):
                raise UsageError(
                    f"{model!r} cannot be the name of a model: use letters, digits, '_', '-' and "
                    "'.' (not first), at most 100"
                )
            self._folders[model] = self.directory / "claims" / model
        return self._folders[model]


def is_model(name: str) -> bool:
    """Whether claims can be made under a name: it is safe as that of a folder."""
    return _MODEL.fullmatch(name) is not None


def claim_content(worker: str, *, identity: Identity) -> bytes:
    """Return what a new claim file holds; no two are the same."""
    record = {"worker": worker, "claim": uuid4().hex, "identity": asdict(identity)}
    return json.dumps(record).encode()


def parse_claim(content: bytes | None) -> tuple[str | None, Identity | None]:
    """Worker and identity in a claim file; None and None when it is unreadable."""
    try:
        found = parse_json(content or b"")
    except ValueError:
        return None, None
    if not isinstance(found, dict) or not is_worker(found.get("worker")):
        return None, None
    return found["worker"], Identity.from_json(found.get("identity"))
