"""Claim files: their names, what they hold and say, and how the highest epoch is found."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from store.claims.heartbeat import Verdict, is_worker
from store.claims.plan import RELEASED
from store.claims.process import Identity
from store.io.files import WriteError
from store.io.json import parse_json

_LONGEST = 65_536  # bytes of a claim; what is longer is none


@dataclass(frozen=True, slots=True)
class ClaimState:
    """The highest claim on a block, and how it stands."""

    model: str  # model, or the name of a lock
    block: int  # block number
    epoch: int  # fencing token, 1 or more
    worker: str | None  # who made it; None when the file cannot be read
    identity: Identity | None  # that worker's process; None when the file cannot be read
    verdict: Verdict | None  # how the worker is; None: released, so nobody holds the block

    @property
    def state(self) -> str:
        """``"released"``, or the verdict's name."""
        return "released" if self.verdict is None else self.verdict.value

    def __str__(self) -> str:
        who = self.identity or "an owner whose claim cannot be read"
        return f"block {self.block} of {self.model}, epoch {self.epoch}: {who}, {self.state}"


def claim_content(worker: str, *, identity: Identity) -> bytes:
    """Return what a new claim file holds; no two are the same."""
    record = {"worker": worker, "claim": uuid4().hex, "identity": identity.to_json()}
    return json.dumps(record).encode()


def parse_claim(content: bytes | None) -> tuple[str | None, Identity | None]:
    """Worker and identity in a claim file; None and None when it cannot be made out."""
    try:
        found = parse_json(content) if content is not None else None
    except ValueError:
        return None, None
    if not isinstance(found, dict) or not is_worker(found.get("worker")):
        return None, None
    return found["worker"], Identity.from_json(found.get("identity"))


def read_claim(path: Path) -> bytes | None:
    """Content of a claim file; None when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST)
    except OSError:
        return None


def highest(folder: Path, block: int) -> int:
    """Highest epoch of a block, 0 if there is none.

    Epochs have no gaps, so a few looks upwards find it; a listing would read every block's names.
    """
    epoch = 0
    while (folder / f"{block}.{epoch + 1}").exists():
        epoch += 1
    return epoch


def unchanged(folder: Path, block: int, seen: int) -> int | None:
    """Return ``seen`` if it is still the highest epoch of the block, else None."""
    if (folder / f"{block}.{seen + 1}").exists():
        return None
    if seen and not (folder / f"{block}.{seen}").exists():
        return None  # the side directory was wiped since
    return seen


def is_released(folder: Path, block: int, epoch: int) -> bool:
    """Whether the claim was given back."""
    return (folder / f"{block}.{epoch}{RELEASED}").exists()


def mark_released(claim: Path) -> None:
    """Make the marker beside a claim file; fine when it is there. Its name is all it says."""
    marker = claim.with_name(claim.name + RELEASED)
    try:
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise WriteError(f"{marker}: {error.strerror}", errno=error.errno) from error
