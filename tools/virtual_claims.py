"""Claims and heartbeats in memory whose requests take virtual time; see `tools.virtual_store`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from store.claims.claims import Claims
from store.claims.heartbeat import Heartbeat
from store.claims.plan import Candidate, ClaimScan, Stretch
from store.claims.room import FileRoom
from store.s3.room import ObjectRoom
from tools.virtual_store import MODEL, World, names_of


class VirtualClaimFiles:
    """Claim files in memory, with the methods of `store.claims.files.ClaimFiles`."""

    directory = Path("virtual")

    def __init__(self, world: World) -> None:
        self._world = world

    def models(self) -> list[str]:
        """The one model."""
        return [MODEL]

    def highest(self, model: str, block: int) -> int:
        """Look one epoch after the other up."""
        epoch = 0
        while self.exists(model, block, epoch + 1):
            epoch += 1
        return epoch

    def is_highest(self, model: str, block: int, epoch: int) -> bool:
        """One look, and a second if it was ever claimed."""
        beyond = self.exists(model, block, epoch + 1)
        return not beyond and (epoch == 0 or self.exists(model, block, epoch))

    def exists(self, _model: str, block: int, epoch: int) -> bool:
        """One look."""
        self._world.do("exists")
        return epoch <= int(self._world.epoch[block])

    def is_released(self, _model: str, block: int, epoch: int) -> bool:
        """One look."""
        self._world.do("exists")
        return epoch < int(self._world.epoch[block]) or bool(self._world.is_released[block])

    def read(self, _model: str, block: int, epoch: int) -> bytes | None:
        """Read a claim."""
        self._world.do("read")
        return self._world.claims.get((block, epoch))

    def make(self, _model: str, block: int, epoch: int, content: bytes) -> bool:
        """Make a claim, if nobody was faster when the server gets to it."""
        self._world.do("claim")
        if int(self._world.epoch[block]) >= epoch:
            return False
        self._world.epoch[block] = epoch
        self._world.is_released[block] = False
        self._world.claims[block, epoch] = content
        return True

    def mark_released(self, _model: str, block: int, epoch: int) -> None:
        """Make the marker."""
        self._world.do("mark")
        if int(self._world.epoch[block]) == epoch:
            self._world.is_released[block] = True


class VirtualClaims(Claims):
    """The real claims on virtual files; a listing costs its requests, and is kept parsed."""

    def __init__(self, world: World, **options: Any) -> None:
        super().__init__(Path("virtual"), **options)
        self._world = world
        self._files = VirtualClaimFiles(world)  # type: ignore[assignment]
        self._settled = np.packbits(
            np.zeros_like(world.is_released)
        )  # bits: claims released when it last listed
        self.tries = self.misses = 0

    def try_claim(self, model: str, block: int = 0, *, seen: int | None = None) -> Any:
        """Count what the real one does."""
        self.tries += 1
        claim = super().try_claim(model, block, seen=seen)
        self.misses += claim is None
        return claim

    @property
    def looks(self) -> int:
        """As many as in real rooms."""
        return (ObjectRoom if self._world.profile.listed else FileRoom).looks

    def look_around(self, _model: str, candidates: Sequence[Candidate]) -> list[Stretch]:
        """Look at all at a time: many requests, and the latency of one or two."""
        world = self._world
        if world.profile.listed:
            world.do("list", concurrent=len(candidates))
            return [self._listed(each.block) for each in candidates]
        for epoch in range(2):
            asked = [each for each in candidates if each.epoch >= epoch]
            if asked:
                world.do("exists", concurrent=len(asked))
        return [
            Stretch(each.block, each.block + 1, self._claimed(each.block, each.block + 1))
            for each in candidates
        ]

    def _listed(self, block: int) -> Stretch:
        """What one request lists; at most four blocks for each name."""
        world, most = self._world, self._world.profile.names_listed
        part = slice(block, block + 4 * most)
        names = names_of(world.epoch[part], world.is_released[part])
        stop = block + int(np.searchsorted(np.cumsum(names), most))
        return Stretch(block, stop, self._claimed(block, stop))

    def _claimed(self, first: int, stop: int) -> ClaimScan:
        epoch, released = (
            each[first:stop] for each in (self._world.epoch, self._world.is_released)
        )
        found = np.flatnonzero(epoch)
        return ClaimScan(first + found, epoch[found], released[found])

    def scan(self, _model: str) -> ClaimScan:
        """List the claims, as they are when the listing begins."""
        world = self._world
        scan, names = world.claimed()
        settled = np.unpackbits(self._settled, count=len(names)).view(np.bool_)
        if world.profile.listed:
            self._settled = np.packbits(world.is_released)
        pages = world.pages(names, settled)
        del names, settled  # ten thousand may wait here
        world.list(pages)
        return scan


class VirtualHeartbeat(Heartbeat):
    """The real heartbeat, written into memory; the simulation calls `beat`."""

    def __init__(self, world: World, **options: Any) -> None:
        super().__init__(Path("virtual"), **options)
        self._world = world

    def beat(self) -> None:
        """Raise the counter and write."""
        self._counter += 1
        content = self._content(self._progress)
        self._world.do("beat")
        self._world.beats[self.worker] = content
