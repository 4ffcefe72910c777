"""Claims by name (`store.claims.plan` explains them), and the only code that makes them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from itertools import count
from uuid import uuid4

from store.claims.heartbeat import is_worker
from store.claims.plan import RELEASED, Stretch, read_names
from store.claims.process import Identity
from store.claims.room import Room
from store.errors import UsageError
from store.io.json import parse_json

_LONGEST = 65_536  # bytes of a claim; a longer one is not ours
_BLOCKS = 10**11  # there are fewer
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class ClaimFiles:
    """The claims beside one store."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._known: set[str] = set()  # names that were found fit

    def models(self) -> list[str]:
        """Names under which anything was ever claimed."""
        return sorted(filter(is_model, self.room.names("claims")))

    def names(self, model: str) -> list[str]:
        """File names of a model's claims and markers, in any order."""
        return self.room.names(self._folder(model))

    def highest(self, model: str, block: int) -> int:
        """Highest epoch of a block, 0 if there is none."""
        # Epochs have no gaps, so a few looks do; a listing would read every block's names.
        return next(epoch for epoch in count() if not self.exists(model, block, epoch + 1))

    def is_highest(self, model: str, block: int, epoch: int) -> bool:
        """Whether an epoch (0: none) is the highest of a block; False after a wipe, too."""
        beyond = self.exists(model, block, epoch + 1)
        return not beyond and (epoch == 0 or self.exists(model, block, epoch))

    @property
    def looks(self) -> int:
        """How many times `around` pays at a time."""
        return self.room.looks

    def around(self, model: str, block: int, epoch: int) -> Stretch:
        """Look whether an epoch (0: none) is the highest of a block, and at blocks beside it."""
        found = self.room.claims_from(self._folder(model), block)
        if found is not None:
            names, more = found
            scan = read_names(names)
            # Of the last block names may be missing.
            stop = int(scan.block.max(initial=block)) if more else _BLOCKS
            return Stretch(block, stop, scan)
        now = epoch if self.is_highest(model, block, epoch) else epoch + 1
        claims = [f"{block}.{now}"] if now else []
        return Stretch(block, block + 1, read_names(claims))

    def exists(self, model: str, block: int, epoch: int) -> bool:
        """Whether the claim was ever made."""
        return self.room.exists(self._name(model, block, epoch))

    def is_released(self, model: str, block: int, epoch: int) -> bool:
        """Whether the claim was given back."""
        return self.room.exists(self._name(model, block, epoch) + RELEASED)

    def read(self, model: str, block: int, epoch: int) -> bytes | None:
        """Content of a claim file; None when it cannot be read."""
        return self.room.read(self._name(model, block, epoch), most=_LONGEST)

    def make(self, model: str, block: int, epoch: int, content: bytes) -> bool:
        """Make a claim; False when the name is taken."""
        return self.room.make(self._name(model, block, epoch), content)

    def mark_released(self, model: str, block: int, epoch: int) -> None:
        """Make the marker beside a claim; fine when it exists. Its name is all it says."""
        self.room.mark(self._name(model, block, epoch) + RELEASED)

    def _name(self, model: str, block: int, epoch: int) -> str:
        return f"{self._folder(model)}/{block}.{epoch}"

    def _folder(self, model: str) -> str:
        if model not in self._known:
            if not is_model(model):
                raise UsageError(
                    f"{model!r} cannot be the name of a model: use letters, digits, '_', '-' and "
                    "'.' (not first), at most 100"
                )
            self._known.add(model)
        return f"claims/{model}"


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
