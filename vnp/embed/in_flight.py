"""Blocks in flight: given to a device, and not yet drained from it.

A pipelined encoder takes the next block while it computes the last one, so that the device never
waits for the host: the next one is submitted before the result of this one is waited for, and a
block whose last records are in the last batch sent is not waited for either. So two or three are in
flight; of those with so few records to embed that they share batches up to `MOST_IN_FLIGHT`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from store.claims.claims import Claim
from store.errors import DataError
from vnp.embed.blocks import BlockError, EmbeddedBlock, PreparedBlock
from vnp.embed.handover import Shutdown, Stopped
from vnp.embed.report import Accounts
from vnp.embed.schedule import Prefetch
from vnp.inference.encoder import PipelinedEncoder, Run

T = TypeVar("T")

MOST_IN_FLIGHT = 64  # blocks


@dataclass(slots=True)
class _Flight:
    """One block that was given to an encoder."""

    block: PreparedBlock
    submitted: float  # when
    asked_for_next: bool = False  # each block asks for one more, once
    run: Run | None = None  # on a pipelined encoder
    ended: float | None = None  # when its last row was there


class BlocksInFlight:
    """Submits blocks to their encoders and drains them, oldest first. For one thread.

    ``deliver`` takes a block that is embedded, ``give_up`` one that cannot be, and the reason;
    ``progress`` is told after every batch how many records of a block are done. When a shutdown is
    requested, a submission or a batch raises `Stopped`.
    """

    def __init__(
        self,
        *,
        accounts: Accounts,
        prefetch: Prefetch,
        shutdown: Shutdown,
        deliver: Callable[[EmbeddedBlock], object],
        give_up: Callable[[Claim, str], None],
        progress: Callable[[PreparedBlock, int], None],
        clock: Callable[[], float],
    ) -> None:
        self._accounts = accounts
        self._prefetch = prefetch
        self._shutdown = shutdown
        self._deliver = deliver
        self._give_up = give_up
        self._progress = progress
        self._clock = clock
        self._flights: deque[_Flight] = deque()  # oldest first
        self._block_seconds = 0.0  # that the last block took

    def __len__(self) -> int:
        return len(self._flights)

    def submit(self, block: PreparedBlock) -> None:
        """Give a block to its encoder, then drain the one before it; a BlockError if it fails."""
        if len(block.tokens):
            # Batches of this encoder would not tell when blocks of another end.
            while self._flights and self._flights[0].block.encoder is not block.encoder:
                self._drain(self._flights.popleft())
        flight = _Flight(block, self._clock())
        self._prefetch.submitted()
        self._accounts.submitted(flight.submitted)
        self._attempt(flight, partial(self._start, flight))
        self._ask_for_next(flight)
        while len(self._flights) > 1 and not self._would_run_dry():
            self._drain(self._flights.popleft())

    def poll(self) -> None:
        """Drain the oldest block if it is done, without waiting for it."""
        flight = self._flights[0]
        assert flight.run is not None
        ready = self._attempt(flight, flight.run.ready)  # may drain it: see ``_between``
        if ready is not False and self._is_oldest(flight):
            self._flights.popleft()
            if ready:
                self._drain(flight)

    def drain(self, *, keep: int = 0) -> None:
        """Wait for blocks, oldest first, until so many are in flight."""
        while len(self._flights) > keep:
            self._drain(self._flights.popleft())

    def _start(self, flight: _Flight) -> None:
        block = flight.block
        if self._shutdown.requested:
            raise Stopped
        if not len(block.tokens):
            empty = np.empty((0, block.encoder.dim), dtype=np.float32)
            self._deliver(EmbeddedBlock(block, empty, 0.0))
        elif isinstance(block.encoder, PipelinedEncoder):
            flight.run = block.encoder.submit(block.tokens, between=self._between(flight))
            self._flights.append(flight)
        else:
            rows = block.encoder.embed(block.tokens, between=self._between(flight))
            flight.ended = self._clock()
            self._finish(flight, rows)

    def _drain(self, flight: _Flight) -> None:
        assert flight.run is not None
        rows = self._attempt(flight, flight.run.result)
        if rows is not None:
            self._finish(flight, rows)

    def _finish(self, flight: _Flight, rows: NDArray[np.float32]) -> None:
        self._block_seconds = self._accounts.embedded(
            flight.block.claim.model,
            records=len(rows),
            submitted=flight.submitted,
            ended=self._clock() if flight.ended is None else flight.ended,
        )
        self._prefetch.embedded(flight.block.claim.model, self._block_seconds)
        self._deliver(EmbeddedBlock(flight.block, rows, self._block_seconds))

    def _attempt(self, flight: _Flight, step: Callable[[], T]) -> T | None:
        """Take a step of a block; None if the block is given up."""
        try:
            return step()
        except DataError as error:
            self._give_up(flight.block.claim, str(error))
            return None
        except (Stopped, BlockError):
            raise
        except Exception as error:
            others = [each.block.name for each in self._flights if each is not flight]
            also = f" (or {others[0]}, which was on the device too)" if others else ""
            raise BlockError(
                f"{flight.block.name}{also}: {type(error).__name__}: {error}"
            ) from error

    def _between(self, flight: _Flight) -> Callable[[int], None]:
        """What happens between two batches: stop if told to, ask for the next block, tell others.

        A block whose last batch is done is drained here, also while the next one is being
        submitted.
        """
        total = len(flight.block.tokens)
        if self._block_seconds:
            self._ask_for_next(flight, seconds_left=self._block_seconds)  # if blocks are short

        def between(done: int) -> None:
            if done == total:
                flight.ended = self._clock()
                if self._is_oldest(flight):
                    self._drain(self._flights.popleft())
            elif self._shutdown.requested:
                raise Stopped
            spent = self._clock() - flight.submitted
            self._ask_for_next(flight, seconds_left=spent * (total - done) / max(done, 1))
            self._progress(flight.block, done)

        return between

    def _ask_for_next(self, flight: _Flight, *, seconds_left: float = 0.0) -> None:
        if not flight.asked_for_next and self._prefetch.is_due(seconds_left):
            flight.asked_for_next = True
            self._prefetch.request()

    def _would_run_dry(self) -> bool:
        """Whether waiting for the oldest block would leave the device with nothing to do."""
        run = self._flights[0].run
        return run is not None and run.in_last_batch and len(self._flights) <= MOST_IN_FLIGHT

    def _is_oldest(self, flight: _Flight) -> bool:
        return bool(self._flights) and self._flights[0] is flight
