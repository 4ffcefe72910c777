"""Claims: the right to fill one block of one model, held by one worker at a time.

A claim is a file in the store's side directory, ``claims/<model>/<block>.<epoch>``::

    nothing --link 1--> 1 held --release--> 1 released --link 2--> 2 held --owner dies, link 3-->

Making the next numbered name with ``link`` is the only step that decides: it succeeds for one
worker and fails for all others, and name and content appear together. Names are never reused and
never removed, so a worker that was dead to the world can find out that it lost its block: a higher
epoch exists. Unlinking, renaming or replacing a dead owner's file instead would let two owners in.

A claim keeps workers from doing work twice; that data stay whole when one wakes up late is seen to
where blocks are published. On NFS a client may remember for a minute that a name does *not* exist,
so `Claim.is_current` can be that late there (mount with ``lookupcache=positive`` to avoid it);
``link`` itself always asks the server.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from store.claims.files import (
    ClaimState,
    claim_content,
    highest,
    is_released,
    mark_released,
    parse_claim,
    read_claim,
    unchanged,
)
from store.claims.heartbeat import Liveness, Verdict, is_worker
from store.claims.plan import ClaimScan, as_blocks, read_names
from store.claims.process import Identity
from store.errors import BusyError, ClaimLostError, UsageError
from store.io.files import WriteError, make_dir, publish_new

APPEND = "append"  # the appender's lock: block 0 of this name; no model may be called so

_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A block that this worker may fill. As a context manager it is released at the end."""

    model: str  # model, or the name of a lock
    block: int  # block number
    epoch: int  # fencing token: a higher one exists when the block was taken over
    _claims: Claims = field(repr=False)
    _content: bytes = field(repr=False)  # what our claim file holds; no other file holds the same

    @property
    def worker(self) -> str:
        """Id of the worker that made the claim."""
        return self._claims.worker

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

        Raises
        ------
        WriteError
            The marker cannot be written. The block is then free when this worker has ended.
        """
        self._claims._release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _no_step(name: str) -> None:
    """Do nothing between two steps."""


class Claims:
    """One worker's claims in one store: one object per worker, which its threads may share.

    Parameters
    ----------
    directory
        The side directory of the store (``run.zarr.vnp``); the first claim makes what is missing
        in it.
    worker, identity
        Who claims, as in its heartbeat file.
    liveness
        Judges the owners of other claims.
    step
        Called with a name between any two steps of a claim; tests pause here.
    link
        Makes a hard link ``(source, target)``; tests put failing ones here.
    """

    def __init__(
        self,
        directory: Path,
        *,
        worker: str,
        identity: Identity,
        liveness: Liveness,
        step: Callable[[str], None] = _no_step,
        link: Callable[[Path, Path], None] = os.link,
    ) -> None:
        if not is_worker(worker):
            raise UsageError(f"{worker!r} is no worker id: use heartbeat.new_worker()")
        self.directory = directory
        self.worker = worker
        self.identity = identity
        self.liveness = liveness
        self._step = step
        self._link = link
        self._held: dict[tuple[str, int], Claim] = {}
        # Claim files never change: what was read once is known for good. Re-entrant, so that a
        # shutdown which interrupts a claim can still release.
        self._read: dict[tuple[str, int, int], tuple[str | None, Identity | None]] = {}
        self._lock = threading.RLock()

    @property
    def held(self) -> tuple[Claim, ...]:
        """Claims made here and not released yet, lost ones among them."""
        return tuple(self._held.values())

    def try_claim(self, model: str, block: int = 0, *, seen: int | None = None) -> Claim | None:
        """Claim a block if it is free or its owner is dead; None if not, or if another was faster.

        Parameters
        ----------
        model, block
            What to claim. Look again whether the block is filled when you have it.
        seen
            Highest epoch of the block as a plan knows it (0: none). If there is a higher one by
            now the answer is None: whatever the plan was built on has changed.

        Raises
        ------
        UsageError
            The model's name cannot be a directory.
        WriteError
            The claim cannot be written.
        """
        with self._lock:
            folder = self._folder(model)
            epoch = highest(folder, block) if seen is None else unchanged(folder, block, seen)
            self._step("probed")
            if epoch is None or (epoch and not self._takeable(model, block, epoch)):
                return None
            self._step("judged")
            content = claim_content(self.worker, identity=self.identity)
            claim = Claim(model, block, epoch + 1, self, content)
            if not self._publish(folder, claim):
                return None
            self._step("claimed")
            self._held[model, block] = claim
            return claim

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
        until the owner shows a sign of life, or for a lease without one; then it takes over.

        Parameters
        ----------
        model, block
            What to claim, such as ``APPEND``.
        poll
            Seconds between two tries.
        sleep
            Waits that long.

        Raises
        ------
        BusyError
            A living worker, or this process itself, holds it.
        """
        while True:
            claim = self.try_claim(model, block)
            if claim is not None:
                return claim
            owner = self.owner(model, block)
            if owner is not None and owner.verdict is not None:
                ours = owner.worker == self.worker
                if ours or owner.verdict is Verdict.LIVE:
                    who = "this very process" if ours else owner.identity or "another worker"
                    raise BusyError(
                        f"{self.directory}: {model} is locked by {who}. Wait until it is done, or "
                        "end it, then run the command again."
                    )
            sleep(poll)

    def release_all(self) -> int:
        """Release every claim of this worker and count them; safe to call again.

        Meant for the way out, so it does not raise: a claim that cannot be released is logged, and
        counts as stale once the heartbeat has ended.
        """
        done = 0
        for claim in self.held:
            try:
                claim.release()
                done += 1
            except WriteError as error:
                _log.warning(
                    "block %d of %s could not be released: %s", claim.block, claim.model, error
                )
        return done

    def owner(self, model: str, block: int = 0) -> ClaimState | None:
        """Return the highest claim on a block; None when it was never claimed."""
        folder = self._folder(model)
        epoch = highest(folder, block)
        if epoch == 0:
            return None
        return self._state(model, block, epoch, released=is_released(folder, block, epoch))

    def scan(self, model: str) -> ClaimScan:
        """Read all claims of a model from one listing of its directory.

        Scan first, then look which blocks are open: a block is filled before it is released, so
        one that the scan shows as released is no longer among the open ones.
        """
        try:
            return read_names(os.listdir(self._folder(model)))
        except FileNotFoundError:
            return read_names(())

    def takeable(
        self, model: str, *, scan: ClaimScan, open_blocks: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """For each claim of a scan, whether it can be taken from an owner that is dead.

        Only claims on open blocks that were not released are looked at; all others are False.
        """
        answer = np.zeros(len(scan.block), dtype=bool)
        at, known = scan.find(as_blocks(open_blocks))
        at = at[known]
        for i in at[~scan.released[at]].tolist():
            answer[i] = self._takeable(model, int(scan.block[i]), int(scan.epoch[i]), unmarked=True)
        return answer

    def states(
        self, model: str, *, open_blocks: NDArray[Any] | None = None, released: bool = False
    ) -> list[ClaimState]:
        """List the highest claim of each block.

        Parameters
        ----------
        model
            Model whose claims to list.
        open_blocks
            Only these blocks (mask or ascending numbers): a claim on a filled block, left behind
            by a crash just before its release, is of no consequence.
        released
            List released claims too; each costs the reading of its file.
        """
        scan = self.scan(model)
        chosen = np.ones(len(scan.block), dtype=bool)
        if open_blocks is not None:
            at, known = scan.find(as_blocks(open_blocks))
            chosen[:] = False
            chosen[at[known]] = True
        if not released:
            chosen &= ~scan.released
        return [
            self._state(
                model, int(scan.block[i]), int(scan.epoch[i]), released=bool(scan.released[i])
            )
            for i in np.flatnonzero(chosen).tolist()
        ]

    def models(self) -> list[str]:
        """Names under which anything was ever claimed, the appender's among them."""
        try:
            names: Sequence[str] = os.listdir(self.directory / "claims")
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _MODEL.fullmatch(name))

    def _folder(self, model: str) -> Path:
        if not _MODEL.fullmatch(model):
            raise UsageError(
                f"{model!r} cannot be the name of a model: use letters, digits, '_', '-' and '.' "
                "(not first), at most 100"
            )
        return self.directory / "claims" / model

    def _publish(self, folder: Path, claim: Claim) -> bool:
        tmp = self.directory / "tmp"
        target = folder / f"{claim.block}.{claim.epoch}"
        # Not synced: a power cut that takes a claim away takes its owner too.
        try:
            return publish_new(tmp, target, [claim._content], durable=False, link=self._paced_link)
        except WriteError as error:
            if error.errno != errno.ENOENT:
                raise
        make_dir(folder, durable=False)  # the first claim, or somebody cleaned up
        make_dir(tmp, durable=False)
        return publish_new(tmp, target, [claim._content], durable=False, link=self._paced_link)

    def _paced_link(self, source: Path, target: Path) -> None:
        self._step("written")
        self._link(source, target)
        self._step("linked")

    def _takeable(self, model: str, block: int, epoch: int, *, unmarked: bool = False) -> bool:
        """Whether the highest epoch may be followed by one of ours.

        With ``unmarked`` the caller knows already that the claim was not released.
        """
        if not unmarked and is_released(self._folder(model), block, epoch):
            return True
        worker, _ = self._record(model, block, epoch)
        if worker == self.worker:
            # Ours, but we do not have it: a claim that was interrupted after its link. Nobody
            # else will ever take it from us while we live, so we must.
            mine = self._held.get((model, block))
            return mine is None or mine.epoch != epoch
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
            known = parse_claim(read_claim(self._folder(model) / f"{block}.{epoch}"))
            if known[0] is not None:
                self._read[key] = known
        return known

    def _state(self, model: str, block: int, epoch: int, *, released: bool) -> ClaimState:
        worker, identity = self._record(model, block, epoch)
        verdict = None if released else self._verdict(model, block, epoch)
        return ClaimState(model, block, epoch, worker, identity, verdict)

    def _is_current(self, claim: Claim) -> bool:
        if self._held.get((claim.model, claim.block)) is not claim:
            return False
        folder = self._folder(claim.model)
        own = folder / f"{claim.block}.{claim.epoch}"
        # The own file counts too: when somebody wiped the side directory, epochs began again.
        return (
            not (folder / f"{claim.block}.{claim.epoch + 1}").exists()
            and read_claim(own) == claim._content
        )

    def _release(self, claim: Claim) -> None:
        with self._lock:
            if self._held.get((claim.model, claim.block)) is not claim:
                return
            own = self._folder(claim.model) / f"{claim.block}.{claim.epoch}"
            # After a wipe the name may be somebody else's claim: that one is not ours to release.
            if read_claim(own) == claim._content:
                mark_released(own)
            del self._held[claim.model, claim.block]
