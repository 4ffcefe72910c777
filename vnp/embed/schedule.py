"""Scheduling: which block a worker takes next, when, and which it leaves to faster workers.

A worker that needs an hour for a block must not take the last one just before a worker that
needs a minute is free. So a worker yields while others are at least twice as fast and could finish
every block that is left, after the one each is working on, before this worker finished one. It
asks again while it waits; if the others are gone it takes the block.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from store.claims.claims import Claim, Claims
from store.claims.heartbeat import Beat
from store.claims.worklist import WorkList
from store.errors import DataError
from store.read.certified import CertifiedRows
from store.store import Store
from vnp.embed.blocks import PreparedBlock, name_of, prepare
from vnp.embed.encoders import AbsentPluginError, ChangedPluginError, ModelMismatchError
from vnp.embed.imported import ImportedModelError
from vnp.embed.report import Accounts, Failure
from vnp.inference.encoder import Encoder

log = logging.getLogger(__name__)

_LEAD = 1.0  # seconds before a block's end at which the next one is claimed, or more if need be
_TOLERANCE = 1.05  # times that differ by less count as equal
_SHORTEST, _LONGEST = 1e-9, 1e6  # seconds per record that are believed


class Scheduler:
    """Claims and prepares blocks, model by model, until every block is filled or held by others.

    Newer commits of the store are taken as they come. ``accounts`` knows this worker's speed,
    ``others`` returns the last heartbeats of other live workers, each of which stands for so many:
    it never yields without.
    """

    def __init__(
        self,
        store: Store,
        *,
        claims: Claims,
        models: tuple[str, ...],
        encoder_of: Callable[[str], Encoder],
        accounts: Accounts,
        dedup: bool = True,
        others: Callable[[], Sequence[Beat]] = tuple,
        each_stands_for: Callable[[], float] = lambda: 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._encoder_of = encoder_of
        self._accounts = accounts
        self._certified = CertifiedRows() if dedup else None
        self._others = others
        self._each_stands_for = each_stands_for
        self._clock = clock
        self._n_others = 0  # live workers when it last looked
        self._yielding: dict[str, float] = {}  # since when blocks of a model are left to others
        self._lists = {
            model: WorkList(
                claims,
                model=model,
                open_blocks=partial(self._open_blocks, model),
                others=lambda: self._n_others,
            )
            for model in models
        }

    @property
    def exhausted(self) -> bool:
        """Whether no open block was left, held or not, when ``next`` last looked."""
        return all(work.n_open == 0 for work in self._lists.values())

    def next(self) -> PreparedBlock | None:
        """Claim, read and tokenise the next block; None when there is none to take now."""
        for model, work in list(self._lists.items()):
            if self._yields(model, work):
                continue
            while model in self._lists and (claim := work.next()) is not None:
                if (block := self._prepare(claim)) is not None:
                    return block
        return None

    def spares(self, blocks: int) -> bool:
        """Whether this worker may hold so many blocks: others have as many each to take."""
        left = next((work.left for work in self._lists.values() if work.left), 0)
        return left >= blocks * self._n_others

    def give_up(self, claim: Claim, reason: str) -> None:
        """Release a block that cannot be filled, and do not take it again in this process."""
        log.warning(f"{name_of(claim)} is not filled: {reason}")
        self._accounts.failed(Failure(claim.model, claim.block, reason))
        claim.release()

    def _prepare(self, claim: Claim) -> PreparedBlock | None:
        store = self._store.snapshot()
        if store.is_filled(claim.model, claim.block):  # finished between the plan and the claim
            claim.release()
            return None
        try:
            encoder = self._encoder_of(claim.model)
        except ModelMismatchError:
            raise  # another model would go into the store: that is for the user to decide
        except DataError as error:
            claim.release()
            self._leave_out(claim.model, error)
            return None
        try:
            return prepare(store, claim, encoder=encoder, certified=self._certified)
        except DataError as error:
            self.give_up(claim, str(error))
            return None

    def _leave_out(self, model: str, error: DataError) -> None:
        """Go on without a model that cannot be loaded; raise the error if no other is left."""
        del self._lists[model]
        if not self._lists:
            raise error
        reason = str(error)
        said = reason
        if isinstance(error, AbsentPluginError):  # it lists all models; the report has the list
            said, _, _ = reason.partition(";")
        log.warning(f"{model} cannot be loaded and is left out: {said}")
        if not isinstance(error, ImportedModelError | ChangedPluginError):
            reason = (
                f"the model cannot be loaded: {error}; once that is mended, '--model {model}' "
                "fills it"
            )
        self._accounts.failed(Failure(model, None, reason))

    def _yields(self, model: str, work: WorkList) -> bool:
        """Whether the blocks left of a model are better left to other workers."""
        beats = self._others()  # always: a worker counts as live only once it was seen to move
        self._n_others = int(self._each_stands_for() * len(beats))
        mine = self._accounts.seconds_per_record(model)
        if mine is None:
            return False
        paces = [pace for beat in beats if (pace := pace_of(beat, model)) is not None]
        finished = int(self._each_stands_for() * blocks_finished_by_others(mine, paces))
        if not finished or not 0 < work.look() <= finished:
            self._yielding.pop(model, None)
            return False
        since = self._yielding.setdefault(model, self._clock())
        # By then they would have been done: a worker that is live but stuck holds nobody up.
        return self._clock() - since <= mine * self._store.schema.block_rows

    def _open_blocks(self, model: str) -> NDArray[np.int64]:
        self._store = self._store.snapshot()
        given_up = [
            each.block
            for each in self._accounts.failures
            if each.model == model and each.block is not None
        ]
        found = self._store.open_blocks(model)
        return np.setdiff1d(found, given_up) if given_up else found


class Prefetch:
    """When the next block is claimed: in time for the device, but no earlier.

    A slow worker that held two blocks would be the last to finish by the second one. So a block
    in flight asks for one more, once, when little of it is left. Of blocks that take the device so
    little time that up to ``most`` of them make no second, so many are read ahead: the host may be
    late once without the device running dry. But only while ``spares`` says of so many blocks that
    other workers can do without them.
    """

    def __init__(self, most: int = 1, *, spares: Callable[[int], bool] = lambda _: True) -> None:
        self._most = most
        self._spares = spares
        self._changed = threading.Condition()
        self._asked = True
        self._ahead = 0  # blocks prepared and not submitted yet
        self._preparation = 0.0  # seconds that the last block took to claim, read and tokenise
        self._model = ""  # of the last block prepared
        self._paces: dict[str, float] = {}  # seconds that the device took for a block of a model

    def is_due(self, seconds_left: float) -> bool:
        """Whether to ask for the next block with so many seconds of this one left."""
        return seconds_left <= max(_LEAD, 4 * self._preparation)

    def request(self) -> None:
        """Ask for one more block."""
        with self._changed:
            self._asked = True
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until a block is wanted; False after so many seconds."""
        with self._changed:
            return self._changed.wait_for(self._wanted, timeout)

    def prepared(self, seconds: float | None, *, model: str = "") -> None:
        """Record that a block is there, after ``seconds``; None if they are not typical."""
        with self._changed:
            if seconds is not None:
                self._preparation = seconds
            self._asked = False
            self._ahead += 1
            self._model = model

    def submitted(self) -> None:
        """Record that a block that was prepared is with its encoder."""
        with self._changed:
            self._ahead -= 1
            self._changed.notify_all()

    def embedded(self, model: str, seconds: float) -> None:
        """Record how long the device took for a block."""
        with self._changed:
            self._paces[model] = seconds
            self._changed.notify_all()

    def _wanted(self) -> bool:
        if self._asked:
            return True
        more, pace = self._ahead + 1, self._paces.get(self._model)
        if pace is None or not 1 < more <= self._most or more * pace > _LEAD:
            return False
        return self._spares(more)


def pace_of(beat: Beat, model: str) -> float | None:
    """Seconds per record of another worker, if it works on the model and says so."""
    seconds = beat.progress.get("record_seconds")
    if beat.progress.get("model") != model or isinstance(seconds, bool):
        return None
    if not isinstance(seconds, int | float):
        return None
    # The file is untrusted: a number that cannot be a time per record is ignored.
    return float(seconds) if _SHORTEST < seconds < _LONGEST else None


def blocks_finished_by_others(mine: float, paces: Iterable[float]) -> int:
    """Blocks that others begin and finish, after their current ones, while this worker does one.

    ``mine`` and ``paces`` are seconds per record.
    """
    return sum(max(0, int(_TOLERANCE * mine / pace) - 1) for pace in paces)
