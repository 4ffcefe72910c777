"""Claims: the right to fill one block of one model, held by one worker at a time.

A claim is a name beside the store, ``claims/<model>/<block>.<epoch>``, of a file or an object::

    nothing --make 1--> 1 held --release--> 1 released --make 2--> 2 held --owner dies, make 3-->

Making the next numbered name (`store.claims.room`: with ``link``, or a PUT that only creates) is
the only step that decides: it succeeds for one worker and fails for all others, and name and
content appear together. Names are never reused and never removed, so a worker that was unresponsive
can find out that it lost its block: a higher epoch exists. Unlinking, renaming or replacing a dead
owner's file instead would let two owners in.

Claims prevent duplicate work; publishing a block keeps its data whole even when a late owner wakes
up. On NFS a client may remember for a minute that a name does *not* exist, so `Claim.is_current`
can be that late there (mount with ``lookupcache=positive`` to avoid it); ``link`` itself always
asks the server.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from store.claims.files import ClaimFiles, claim_content, parse_claim
from store.claims.heartbeat import is_worker
from store.claims.liveness import Liveness, Verdict
from store.claims.plan import Candidate, ClaimScan, Stretch, as_blocks, read_names
from store.claims.process import Identity
from store.claims.room import FileRoom, Room
from store.errors import BusyError, ClaimLostError, UsageError
from store.io.concurrent import in_order
from store.io.files import WriteError

APPEND = "append"  # the appender's lock: block 0 of this name; no model may be called so

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The right of one worker to fill a block. As a context manager it is released at the end."""

    model: str  # model, or the name of a lock
    block: int  # block number
    epoch: int  # fencing token: a higher one exists when the block was taken over
    worker: str  # id of the worker that holds it
    _claims: Claims = field(repr=False)
    _content: bytes = field(repr=False)  # of our claim file; no other holds the same

    def is_current(self) -> bool:
        """Whether the block is still ours: not released, and not taken over."""
        return self._claims._is_current(self)

    def require(self) -> None:
        """Raise `ClaimLostError` unless the block is still ours."""
        if not self.is_current():
            raise ClaimLostError(
                f"block {self.block} of {self.model}: the claim of epoch {self.epoch} is no longer "
                "current, another worker has taken the block over; its result here is dropped"
            )

    def release(self) -> None:
        """Give the block back. Safe to call again, and after the block was lost.

        If that fails (`WriteError`), the block is free when this worker has ended.
        """
        self._claims._release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class ClaimState:
    """The highest claim on a block, and the state of its owner."""

    model: str  # model, or the name of a lock
    block: int  # block number
    epoch: int  # fencing token, 1 or more
    worker: str | None  # who made it; None when the file cannot be read
    identity: Identity | None  # that worker's process; None when the file cannot be read
    verdict: Verdict | None  # on the worker; None: released, so nobody holds the block

    @property
    def state(self) -> str:
        """``"released"``, or the verdict's name."""
        return "released" if self.verdict is None else self.verdict.value

    def __str__(self) -> str:
        who = self.identity or "an owner whose claim cannot be read"
        return f"block {self.block} of {self.model}, epoch {self.epoch}: {who}, {self.state}"


class Claims:
    """One worker's claims in one store: one object per worker, which its threads may share.

    ``place`` is the room beside the store, or its directory; the first claim makes what is missing
    in it.
    ``worker`` and ``identity`` are those of its heartbeat file. Tests pause in ``step``, which is
    called with a name between any two steps of a claim, and make ``link`` fail.
    """

    def __init__(
        self,
        place: Room | Path,
        *,
        worker: str,
        identity: Identity,
        liveness: Liveness,
        step: Callable[[str], None] = lambda _name: None,
        link: Callable[[Path, Path], None] = os.link,
    ) -> None:
        if not is_worker(worker):
            raise UsageError(f"{worker!r} is not the id of a worker: use heartbeat.new_worker()")
        self.worker = worker
        self.identity = identity
        self.liveness = liveness
        room = FileRoom(place, link=self._paced_link) if isinstance(place, Path) else place
        self._files = ClaimFiles(room)
        self._step = step
        self._link = link
        self._held: dict[tuple[str, int], Claim] = {}
        self._making = False  # stays so when making a claim was interrupted: it may be there
        # Claim files never change: what was read once stays true.
        self._read: dict[tuple[str, int, int], tuple[str | None, Identity | None]] = {}
        self._lock = threading.RLock()  # a shutdown that interrupts a claim can still release

    @property
    def held(self) -> tuple[Claim, ...]:
        """Claims made here and not released yet, lost ones among them."""
        return tuple(self._held.values())

    @property
    def settled(self) -> bool:
        """Whether no claim of this worker is left that others would have to take over."""
        return not self._held and not self._making

    def try_claim(self, model: str, block: int = 0, *, seen: int | None = None) -> Claim | None:
        """Claim a block if it is free or its owner is dead; None if not, or if another was faster.

        Look again whether the block is filled when you have it. ``seen`` is its highest epoch as a
        plan knows it (0: none); if another one is highest by now, the plan is outdated and the
        answer None.
        """
        with self._lock:
            epoch = self._files.highest(model, block) if seen is None else seen
            outdated = seen is not None and not self._files.is_highest(model, block, seen)
            self._step("probed")
            if outdated:
                return None
            released = epoch == 0 or self._files.is_released(model, block, epoch)
            if not released and not self._takeable_unreleased(model, block, epoch):
                return None
            self._step("judged")
            content = claim_content(self.worker, identity=self.identity)
            self._making, before = True, self._making
            if not self._files.make(model, block, epoch + 1, content):
                self._making = before
                return None
            self._step("claimed")
            claim = Claim(model, block, epoch + 1, self.worker, self, content)
            self._held[model, block] = claim
            self._making = before
            return claim

    @property
    def looks(self) -> int:
        """At how many candidates `look_around` looks in about the time of one."""
        return self._files.looks

    def look_around(self, model: str, candidates: Sequence[Candidate]) -> list[Stretch]:
        """Look concurrently whether candidates were claimed since, and maybe blocks beside them."""

        def look(candidate: Candidate) -> Stretch:
            return self._files.around(model, candidate.block, candidate.epoch)

        return list(in_order(look, candidates))

    def acquire(
        self,
        model: str,
        block: int = 0,
        *,
        poll: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Claim:
        """Claim, or find out that a living worker is in the way.

        A single try cannot tell a crashed owner on another host from a living one. This waits
        until the owner shows a sign of life, or for a lease without one; then it takes over. If a
        living worker or this process itself holds it, that is a `BusyError`.
        """
        while True:
            claim = self.try_claim(model, block)
            if claim is not None:
                return claim
            owner = self.owner(model, block)
            if owner is not None and owner.verdict is Verdict.LIVE:
                ours = owner.worker == self.worker
                who = "this very process" if ours else owner.identity or "another worker"
                raise BusyError(
                    f"{self._files.room}: {model} is locked by {who}. Wait until it is done, "
                    "or end it, then run the command again."
                )
            sleep(poll)

    def release_all(self) -> int:
        """Release every claim of this worker and count them; safe to call again.

        It runs on the way out, so it does not raise: a claim that cannot be released is logged, and
        counts as stale once the heartbeat has ended.
        """
        done = 0
        for claim in self.held:
            try:
                claim.release()
                done += 1
            except WriteError as error:
                log.warning(
                    "block %d of %s could not be released: %s", claim.block, claim.model, error
                )
        return done

    def owner(self, model: str, block: int = 0) -> ClaimState | None:
        """Return the highest claim on a block; None when it was never claimed."""
        epoch = self._files.highest(model, block)
        if epoch == 0:
            return None
        released = self._files.is_released(model, block, epoch)
        return self._state(model, block, epoch, released=released)

    def scan(self, model: str) -> ClaimScan:
        """Read all claims of a model from one listing of its directory.

        Scan first, then look which blocks are open: a block is filled before it is released, so
        one that the scan shows as released is no longer among the open ones.
        """
        return read_names(self._files.names(model))

    def is_takeable(self, model: str, held: Candidate) -> bool:
        """Whether a block that was not released can be taken, because its owner is dead."""
        return self._takeable_unreleased(model, held.block, held.epoch)

    def states(
        self, model: str, *, open_blocks: NDArray[Any] | None = None, released: bool = False
    ) -> list[ClaimState]:
        """List the highest claim of each block; of ``open_blocks`` only, if given.

        A claim on a filled block, left behind by a crash just before its release, is of no
        consequence. Released claims are listed only on request: each costs the reading of its file.
        """
        scan = self.scan(model)
        chosen = np.ones(len(scan.block), dtype=bool) if released else ~scan.released
        if open_blocks is not None:
            chosen &= np.isin(scan.block, as_blocks(open_blocks))
        found = (each[chosen].tolist() for each in (scan.block, scan.epoch, scan.released))

        def look(claim: tuple[int, int, bool]) -> ClaimState:
            block, epoch, given_back = claim
            return self._state(model, block, epoch, released=given_back)

        return list(in_order(look, zip(*found, strict=True)))

    def knows_unsettled(self, worker: str) -> bool:
        """Whether a claim of another worker that was looked at here still owns its block.

        Of few held blocks a plan looks at all, of many at some.
        """
        return any(
            owner == worker
            and self._files.is_highest(model, block, epoch)
            and not self._files.is_released(model, block, epoch)
            for (model, block, epoch), (owner, _) in list(self._read.items())
        )

    def models(self) -> list[str]:
        """Names under which anything was ever claimed, the appender's among them."""
        return self._files.models()

    def _paced_link(self, source: Path, target: Path) -> None:
        self._step("written")
        self._link(source, target)
        self._step("linked")

    def _takeable_unreleased(self, model: str, block: int, epoch: int) -> bool:
        worker, _ = self._record(model, block, epoch)
        if worker == self.worker:
            # Ours, but we do not have it: a claim that was interrupted after its link. Nobody
            # else will ever take it from us while we live, so we must.
            # A claim released since the plan's listing was not interrupted.
            mine = self._held.get((model, block))
            if mine is not None and mine.epoch == epoch:
                return False
            return not self._files.is_released(model, block, epoch)
        return self._verdict(model, block, epoch).stale

    def _verdict(self, model: str, block: int, epoch: int) -> Verdict:
        worker, identity = self._record(model, block, epoch)
        if worker == self.worker:
            return Verdict.LIVE
        # An unreadable claim (a machine crashed before it reached the disk) has an owner who never
        # moves: it is watched under the claim's own name and free after a lease.
        return self.liveness.verdict(worker or f"{model}/{block}.{epoch}", identity=identity)

    def _record(self, model: str, block: int, epoch: int) -> tuple[str | None, Identity | None]:
        """Worker and identity that a claim file holds; None and None when it cannot be read."""
        key = (model, block, epoch)
        known = self._read.get(key)
        if known is None:
            known = parse_claim(self._files.read(*key))
            if known[0] is not None:
                self._read[key] = known
        return known

    def _state(self, model: str, block: int, epoch: int, *, released: bool) -> ClaimState:
        worker, identity = self._record(model, block, epoch)
        verdict = None if released else self._verdict(model, block, epoch)
        return ClaimState(model, block, epoch, worker, identity, verdict)

    def _is_current(self, claim: Claim) -> bool:
        # The content counts too: after somebody wiped the side directory, epochs begin again.
        return (
            self._held.get((claim.model, claim.block)) is claim
            and not self._files.exists(claim.model, claim.block, claim.epoch + 1)
            and self._holds_its_file(claim)
        )

    def _release(self, claim: Claim) -> None:
        with self._lock:
            if self._held.get((claim.model, claim.block)) is not claim:
                return
            # After a wipe the name may be somebody else's claim: that one is not ours to release.
            if self._holds_its_file(claim):
                self._files.mark_released(claim.model, claim.block, claim.epoch)
            del self._held[claim.model, claim.block]

    def _holds_its_file(self, claim: Claim) -> bool:
        return self._files.read(claim.model, claim.block, claim.epoch) == claim._content
