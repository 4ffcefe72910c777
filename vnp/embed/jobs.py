"""The next block of a worker: claimed, looked at again, read and tokenised."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.claims.claims import Claim, Claims
from store.claims.heartbeat import Beat
from store.claims.worklist import WorkList
from store.errors import DataError
from store.read.certified import CertifiedRows
from store.read.columns import take
from store.store import Store
from vnp.embed.dedup import CopyPlan, everything, originals, plan_copies
from vnp.embed.yielding import others_finish, pace_of
from vnp.inference.encoder import Encoder
from vnp.models.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Job:
    """One block in hand."""

    store: Store  # the commit that says which rows the block has
    claim: Claim
    encoder: Encoder
    tokens: Tokens  # of the rows to embed, in the plan's order
    plan: CopyPlan  # which rows these are, and where the others come from
    copies: NDArray[np.float16]  # rows copied from elsewhere in the store

    @property
    def name(self) -> str:
        """The block's name for people."""
        return f"{self.claim.model} block {self.claim.block}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A block this worker could not fill, and will not try again."""

    model: str
    block: int
    reason: str


class BlockSource:
    """Hands out jobs until every block is filled, or held by others.

    Parameters
    ----------
    store
        The store; newer commits are taken as they come.
    claims
        This worker's claims.
    models
        Models in the order in which their blocks are taken.
    encoder_of
        Gives the loaded encoder of a model.
    say
        Told about blocks that are given up.
    dedup
        Copy the embeddings of records that stand in the store already.
    others
        The other live workers, to whom the last blocks are left if they are much faster; without
        it none are.
    clock
        Monotonic clock in seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        claims: Claims,
        models: tuple[str, ...],
        encoder_of: Callable[[str], Encoder],
        say: Callable[[str], None],
        dedup: bool = True,
        others: Callable[[], Sequence[Beat]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._others = others
        self._clock = clock
        self._paces: dict[str, float] = {}
        self._waiting: dict[str, float] = {}  # since when blocks of a model are left to others
        self._say = say
        self._dedup = dedup
        self._certified = CertifiedRows()
        self._encoder_of = encoder_of
        self._lists = {
            model: WorkList(claims, model=model, open_blocks=self._open_blocks_of(model))
            for model in models
        }
        self._failures: list[Failure] = []
        self._lock = threading.Lock()  # failures come from other threads

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Blocks given up so far."""
        with self._lock:
            return tuple(self._failures)

    def give_up(self, claim: Claim, reason: str) -> None:
        """Release a block and do not take it again in this process."""
        with self._lock:
            self._failures.append(Failure(claim.model, claim.block, reason))
        claim.release()

    def next(self) -> Job | None:
        """Claim, read and tokenise the next block; None when there is none to take now."""
        for model, work in self._lists.items():
            if self._leaves(model, work):
                continue
            while (claim := work.next()) is not None:
                job = self._prepare(model, claim)
                if job is not None:
                    return job
        return None

    def told(self, model: str, *, records: int, seconds: float) -> None:
        """Take note of how long a model's last block took, in records embedded.

        A block with few of them says little: what a block takes whatever is in it would count.
        """
        if seconds > 0 and 4 * records >= self._store.schema.block_rows:
            self._paces[model] = seconds / records

    def pace(self, model: str) -> float | None:
        """Seconds that a record of a model took in the last block; None before there was one."""
        return self._paces.get(model)

    def _leaves(self, model: str, work: WorkList) -> bool:
        """Whether what is left of a model is better left to others; see ``vnp.embed.yielding``."""
        beats = self._others()  # whoever is to count must have been seen before
        mine = self._paces.get(model)
        if mine is None:
            return False
        paces = [pace for beat in beats if (pace := pace_of(beat, model)) is not None]
        finish = others_finish(mine, paces)
        if not finish or not 0 < work.look() <= finish:
            self._waiting.pop(model, None)
            return False
        since = self._waiting.setdefault(model, self._clock())
        # By then they would have been done; who is alive but stuck does not hold anybody up.
        return self._clock() - since <= mine * self._store.schema.block_rows

    @property
    def exhausted(self) -> bool:
        """Whether no open block was left, held or not, when ``next`` last looked."""
        return all(work.n_open == 0 for work in self._lists.values())

    def _prepare(self, model: str, claim: Claim) -> Job | None:
        store = self._store.snapshot()
        if store.is_filled(model, claim.block):  # finished between the plan and the claim
            claim.release()
            return None
        encoder = self._encoder_of(model)
        try:
            nucleotide, protein = store.sequences(claim.block)
            plan, copies = self._plan(store, claim, encoder.dim)
            if plan.saved:
                nucleotide, protein = take(nucleotide, plan.embed), take(protein, plan.embed)
            tokens = encoder.tokenise(nucleotide, protein)
        except DataError as error:
            self._say(f"{model} block {claim.block} is not filled: {error}")
            self.give_up(claim, str(error))
            return None
        return Job(store, claim, encoder, tokens, plan, copies)

    def _plan(self, store: Store, claim: Claim, dim: int) -> tuple[CopyPlan, NDArray[np.float16]]:
        """Decide what to embed, and fetch the rest."""
        start, stop = store.block_bounds(claim.block)
        none = np.empty((0, dim), dtype=np.float16)
        if not self._dedup:
            return everything(stop - start), none
        twins = store.column("twin", start, stop)
        assert isinstance(twins, np.ndarray)
        original = originals(twins, start=start)
        certified = original < start
        if certified.any():
            copies, found = self._certified.take(store, model=claim.model, rows=original[certified])
            certified[certified] = found
        else:
            copies = none
        return plan_copies(original, certified=certified), copies

    def _open_blocks_of(self, model: str) -> Callable[[], NDArray[np.int64]]:
        def open_blocks() -> NDArray[np.int64]:
            self._store = self._store.snapshot()
            given_up = [failure.block for failure in self.failures if failure.model == model]
            return np.setdiff1d(self._store.open_blocks(model), given_up)

        return open_blocks
