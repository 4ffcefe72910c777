"""One worker: claims, tokenises, embeds and publishes blocks until nothing is left to do.

Three threads, joined by bounded hand-overs, so that reading and writing overlap with the model::

      feeder                     main                      publisher
    +-------------+ Prepared   +---------------+ Embedded +---------------------+
    | Scheduler   | Block      | BlocksInFlight| Block    | publish             |
    | claim, read,| ---------> | submit, drain | -------> | to float16, check,  |
    | tokenise    |            | the encoder   |          | write, release      |
    +-------------+            +---------------+          +---------------------+
          ^        Prefetch:          |
          +---- more blocks ----------+          Accounts: every thread enters what it did

The heavy steps of every thread run without the interpreter's lock: tokenising is compiled code,
and so are conversions, checksums and compression. So what launches kernels does not wait for them.
A worker that is killed loses what it computed of the blocks in flight and of those being published;
those read ahead (`vnp.embed.schedule.Prefetch`) cost nothing but their claims, which are released,
or taken over once the worker is found dead, as that of any block in hand.

A block that cannot be filled (damaged sequences, NaN in the result) is released, named and not
tried again by this worker. Any other error ends the worker, naming the block: one of the feeder
once the current blocks are published, one of the others at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from store.claims.heartbeat import INTERVAL
from store.claims.liveness import LEASE
from store.claims.participant import Participant
from store.errors import ClaimLostError, DataError
from store.location import Location
from store.open import open_store
from vnp.embed.blocks import BlockError, EmbeddedBlock, PreparedBlock, publish
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import Encoders
from vnp.embed.handover import HandOver, NothingYetError, Shutdown, Stopped
from vnp.embed.in_flight import BlocksInFlight
from vnp.embed.report import Accounts, WorkerReport
from vnp.embed.schedule import Prefetch, Scheduler
from vnp.embed.start import Start
from vnp.inference.encoder import Encoder
from vnp.inference.load import load_encoder
from vnp.models import registry

log = logging.getLogger(__name__)

_GLANCE = 0.001  # seconds between two looks at a device while the next block is not there yet
_LOOK = 0.05  # seconds between two looks at whether to end while there is nothing to do


class Worker:
    """Fills blocks of a store. It handles no signals and can run in any thread; run it once.

    Parameters
    ----------
    path
        The store.
    config
        Settings.
    stop
        When set, the worker drops what is not done, releases its claims and returns.
    load
        Loads an encoder, with the parameters of `vnp.inference.load.load_encoder`.
    clock
        Monotonic clock in seconds.

    Raises
    ------
    UsageError
        If the store has no such model.
    """

    def __init__(
        self,
        path: Location,
        *,
        config: WorkerConfig,
        stop: threading.Event,
        load: Callable[..., Encoder] = load_encoder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = Start()
        self._start("imports")
        registry.load_plugins(config.plugins)
        store = open_store(path)
        config = config.for_store(store.schema)
        self._start("the store is open")
        store.sidecar.make()
        self._config = config
        self._clock = clock
        self._shutdown = Shutdown(stop)
        self._participant = Participant(
            store.sidecar.room, interval=config.heartbeat or INTERVAL, lease=config.lease or LEASE
        )
        self._encoders = Encoders(store, config=config, load=load, clock=clock)
        self._accounts = Accounts(block_rows=store.schema.block_rows, clock=clock)
        self._scheduler = Scheduler(
            store,
            claims=self._participant.claims,
            models=config.models,
            encoder_of=self._encoders.get,
            accounts=self._accounts,
            dedup=config.dedup,
            # A worker that does not stay leaves nothing to others either.
            others=self._participant.others if config.linger else tuple,
            each_stands_for=lambda: self._participant.each_stands_for if config.linger else 1.0,
            clock=clock,
        )
        self._prefetch = Prefetch(config.prefetched, spares=self._scheduler.spares)
        self._prepared: HandOver[PreparedBlock] = HandOver(config.prefetched, self._shutdown)
        self._embedded: HandOver[EmbeddedBlock] = HandOver(config.unpublished, self._shutdown)
        self._in_flight = BlocksInFlight(
            accounts=self._accounts,
            prefetch=self._prefetch,
            shutdown=self._shutdown,
            deliver=self._embedded.put,
            give_up=self._scheduler.give_up,
            progress=self._report_progress,
            clock=clock,
        )

    def run(self) -> WorkerReport:
        """Work until everything is filled, until nothing can be taken, or until told to stop.

        Raises
        ------
        StoreError
            If the store, the weights or the disk keep it from working.
        """
        with self._participant:
            feeder = threading.Thread(target=self._feed, name="feeder", daemon=True)
            publisher = threading.Thread(target=self._publish, name="publisher", daemon=True)
            feeder.start()
            publisher.start()
            try:
                with contextlib.suppress(Stopped):
                    self._embed()
            except BaseException:
                self._shutdown.abandon()
                raise
            finally:
                self._embedded.close()
                feeder.join()
                publisher.join()
            self._shutdown.raise_error()
            return self._accounts.report(
                worker=self._participant.worker,
                encoders=self._encoders,
                stopped=self._shutdown.stopped,
            )

    def _feed(self) -> None:
        with self._keeping_errors():
            try:
                while not self._shutdown.requested:
                    if self._prefetch.wait(_LOOK) and not self._feed_one():
                        return
            finally:
                self._prepared.close()

    def _feed_one(self) -> bool:
        """Hand the next block over; False when no more will come."""
        began, loads = self._clock(), len(self._encoders.loads)
        block = self._scheduler.next()
        if block is not None:
            self._start("a block is claimed, its model loaded, it is tokenised")
            loaded = len(self._encoders.loads) > loads
            self._prefetch.prepared(
                None if loaded else self._clock() - began, model=block.claim.model
            )
            if not self._prepared.put(block):
                block.claim.release()
            elif self._config.linger:
                self._participant.others(early=True)  # the device has work meanwhile
        elif self._scheduler.exhausted or not self._config.linger:
            return False
        else:
            # Listing a large store takes long: the last blocks are published meanwhile.
            self._rest(max(self._config.poll, 2 * (self._clock() - began)))
        return True

    def _rest(self, seconds: float) -> None:
        """Wait before another look for blocks, but no longer than this worker's last ones take."""
        in_hand = bool(self._participant.claims.held)
        for _ in range(math.ceil(seconds / _LOOK)):
            self._shutdown.wait(min(seconds, _LOOK))
            if self._shutdown.requested or (in_hand and not self._participant.claims.held):
                return

    def _embed(self) -> None:
        while (block := self._next_block()) is not None:
            self._in_flight.submit(block)
        self._in_flight.drain()

    def _next_block(self) -> PreparedBlock | None:
        """The next block, None at the end; blocks in flight are drained as they are done."""
        while self._in_flight:
            try:
                return self._prepared.take(_GLANCE)
            except NothingYetError:
                self._in_flight.poll()
        began = self._clock()
        block = self._prepared.take()
        self._accounts.idle(began)
        return block

    def _publish(self) -> None:
        with self._keeping_errors(abandon=True):
            while (block := self._embedded.take()) is not None:
                self._publish_one(block)

    def _publish_one(self, block: EmbeddedBlock) -> None:
        prepared = block.prepared
        try:
            publish(block)
        except ClaimLostError as error:
            log.warning(f"{prepared.name}: {error}; dropped")
        except DataError as error:
            self._scheduler.give_up(prepared.claim, str(error))
            return
        except Exception as error:
            raise BlockError(f"{prepared.name}: {type(error).__name__}: {error}") from error
        else:
            self._accounts.published(prepared)
            self._start("the first block is published")
        prepared.claim.release()

    @contextmanager
    def _keeping_errors(self, *, abandon: bool = False) -> Iterator[None]:
        """Keep an error for the main thread; the current blocks are finished unless abandoned."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised again by the main thread
            self._shutdown.note(error)
            if abandon:
                self._shutdown.abandon()

    def _report_progress(self, block: PreparedBlock, done: int) -> None:
        """Tell other processes, with the next heartbeat, how far a block is."""
        self._start("the first batch is computed")
        model = block.claim.model
        progress = {
            "model": model,
            "block": block.claim.block,
            "in_block": done,
            "records": self._accounts.records + done,
            "record_seconds": self._accounts.seconds_per_record(model),
            "left_out": self._accounts.left_out,
        }
        self._participant.heartbeat.report(progress)
