"""One worker: claim, tokenise, embed, publish, until nothing is left to do.

Three threads, joined by bounded queues, so that reading and writing overlap with the model::

    feeder                       main           publisher
    claim, read, tokenise --job--> embed --rows--> to float16, check, publish, release

A block that cannot be filled (damaged sequences, NaN in the result) is released, named and not
tried again here; any other error ends the worker, naming the block.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from store.claims.participant import Participant
from store.errors import ClaimLostError, DataError, StoreError
from store.open import open_store
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import Encoders
from vnp.embed.in_flight import Block, Once, Result
from vnp.embed.jobs import BlockSource, Job
from vnp.embed.report import WorkerReport, shared_seconds
from vnp.inference.encoder import Encoder, PipelinedEncoder

Say = Callable[[str], None]
T = TypeVar("T")
LoadEncoder = Callable[..., Encoder]


class BlockError(StoreError):
    """An error outside the data's control, with the name of the block it happened to."""


class Stopped(Exception):  # noqa: N818 - an order, not an error
    """The worker was told to stop; blocks that are not done are dropped."""


_NOTHING_YET = object()
_LEAD = 1.0  # seconds before a block's end at which the next one is claimed, or more if need be
_GLANCE = 0.001  # seconds between two looks at a device while the next block is not there yet


class Worker:
    """Fills blocks of a store.

    Parameters
    ----------
    path
        The store.
    config
        Settings.
    stop
        When set, the worker drops what is not done, releases its claims and returns.
    say
        Told what a user should know, one line each.
    load
        Loads an encoder; `vnp.inference.encoder.load_encoder` unless a test has its own.
    """

    def __init__(
        self,
        path: Path,
        *,
        config: WorkerConfig,
        stop: threading.Event,
        say: Say,
        load: LoadEncoder | None = None,
    ) -> None:
        self._store = open_store(path)
        self._store.sidecar.make()
        self._config = config
        self._stop = stop
        self._over = threading.Event()  # set when an error leaves nothing to carry on for
        self._say = say
        self._jobs: queue.Queue[Job | None] = queue.Queue(config.prefetched)
        self._results: queue.Queue[Result | None] = queue.Queue(config.unpublished)
        self._wanted = threading.Event()  # it is time to claim the next block
        self._wanted.set()
        self._preparation = 0.0  # seconds that the last block took to claim, read and tokenise
        self._computation = 0.0  # seconds that the last block took to embed
        self._error: BaseException | None = None
        self._encoders = Encoders(self._store, config=config, say=say, load=load)
        self._blocks = self._records = self._copied = self._tokens = 0
        self._embed_seconds = self._first_submit = self._last_result = 0.0
        self._waits: list[tuple[float, float]] = []  # when there was nothing to compute
        self._underway: deque[Block] = deque()  # on the device, oldest first

    def run(self) -> WorkerReport:
        """Work until everything is filled, until nothing can be taken, or until told to stop.

        Raises
        ------
        StoreError
            If the store, the weights or the disk keep it from working.
        """
        models = self._config.models or tuple(model.name for model in self._store.schema.models)
        for model in models:
            self._store.schema.model(model)
        started = time.monotonic()
        with Participant(
            self._store.sidecar.path, interval=self._config.heartbeat, lease=self._config.lease
        ) as self._presence:
            self._source = BlockSource(
                self._store,
                claims=self._presence.claims,
                models=models,
                encoder_of=self._encoders.get,
                say=self._say,
                dedup=self._config.dedup,
                # A worker that does not stay leaves nothing to others either.
                others=self._presence.others if self._config.linger else tuple,
            )
            feeder, publisher = (
                threading.Thread(target=self._guarded, args=(part, ends), name=name, daemon=True)
                # Blocks in hand need no more of the feeder: they are finished if it fails.
                for name, part, ends in (
                    ("feeder", self._feed, False), ("publisher", self._publish_all, True),
                )
            )  # fmt: skip
            feeder.start()
            publisher.start()
            try:
                with contextlib.suppress(Stopped):
                    self._embed_all()
            except BaseException:
                self._over.set()
                raise
            finally:
                self._put(self._results, None)
                while feeder.is_alive():  # it may have a job for us; its claim is released below
                    with contextlib.suppress(queue.Empty):
                        self._jobs.get(timeout=0.05)
                publisher.join()
            if self._error is not None:
                raise self._error
            until = self._last_result  # what was loaded later does not lie in the span
            waits = [(begin, min(end, until)) for begin, end in self._waits]
            loading = shared_seconds(waits, self._encoders.loads)
            return WorkerReport(
                worker=self._presence.worker,
                blocks=self._blocks,
                records=self._records,
                copied=self._copied,
                tokens=self._tokens,
                seconds=time.monotonic() - started,
                embed_seconds=self._embed_seconds,
                busy_seconds=self._encoders.busy_seconds,
                span_seconds=max(0.0, until - self._first_submit - loading),
                loading_seconds=loading,
                failures=self._source.failures,
                stopped=self._stop.is_set(),
                fallbacks=self._encoders.fallbacks,
            )

    # -- the three parts ----------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            while not self._ending():
                if not self._wanted.wait(timeout=0.05):
                    continue
                began, loads = time.monotonic(), len(self._encoders.loads)
                job = self._source.next()
                if job is not None:
                    if len(self._encoders.loads) == loads:  # else it says nothing of the next
                        self._preparation = time.monotonic() - began
                    self._wanted.clear()
                    if not self._put(self._jobs, job):
                        job.claim.release()
                elif self._source.exhausted or not self._config.linger:
                    return
                else:
                    self._stop.wait(self._config.poll)
        finally:
            self._put(self._jobs, None)

    def _embed_all(self) -> None:
        """Submit each block before the last one is waited for: the device never waits."""
        while (job := self._next_job()) is not None:
            self._leave_other_encoders(job)
            block = Block(job, time.monotonic(), Once(self._wanted))
            self._first_submit = self._first_submit or block.began
            self._embedding(job, partial(self._submit, block))
            block.want_next()
            while len(self._underway) > 1:
                self._finish(self._underway.popleft())
        while self._underway:
            self._finish(self._underway.popleft())

    def _leave_other_encoders(self, job: Job) -> None:
        """Finish what another encoder has underway: this one's batches would not tell its end."""
        while (
            self._underway and len(job.tokens) and self._underway[0].job.encoder is not job.encoder
        ):
            self._finish(self._underway.popleft())

    def _next_job(self) -> Job | None:
        """The next job, None at the end; what is underway is finished when it is done."""
        while self._underway:
            job = self._take(self._jobs, patience=_GLANCE)
            if job is not _NOTHING_YET:
                return job  # type: ignore[no-any-return]
            self._glance(self._underway[0])
        waited = time.monotonic()
        job = self._take(self._jobs)
        if self._first_submit:
            self._waits.append((waited, time.monotonic()))
        return job  # type: ignore[no-any-return]

    def _glance(self, block: Block) -> None:
        assert block.run is not None
        ready = self._embedding(block.job, block.run.ready)  # may finish it, see ``_between``
        if ready is not False and self._underway and self._underway[0] is block:
            self._underway.popleft()
            if ready:
                self._finish(block)

    def _submit(self, block: Block) -> None:
        job = block.job
        if self._ending():
            raise Stopped
        if not len(job.tokens):
            self._hand_over(block, np.empty((0, job.encoder.dim), dtype=np.float32))
        elif isinstance(job.encoder, PipelinedEncoder):
            block.run = job.encoder.submit(job.tokens, between=self._between(block))
            self._underway.append(block)
        else:
            rows = job.encoder.embed(job.tokens, between=self._between(block))
            block.ended = time.monotonic()
            self._hand_over(block, rows)

    def _finish(self, block: Block) -> None:
        assert block.run is not None
        rows = self._embedding(block.job, block.run.result)
        if rows is not None:
            self._hand_over(block, rows)

    def _hand_over(self, block: Block, rows: NDArray[np.float32]) -> None:
        seconds = 0.0
        if len(rows):
            ended = time.monotonic() if block.ended is None else block.ended
            seconds = ended - max(block.began, self._last_result)  # each moment counts once
            self._last_result = ended
            self._source.told(block.job.claim.model, records=len(rows), seconds=seconds)
            self._embed_seconds += seconds
            self._computation = seconds
        self._put(self._results, Result(block.job, rows, seconds))

    def _embedding(self, job: Job, step: Callable[[], T]) -> T | None:
        """Take a step of a block; None if the block is given up."""
        try:
            return step()
        except DataError as error:
            self._give_up(job, str(error))
            return None
        except (Stopped, BlockError):
            raise
        except Exception as error:
            others = [block.job.name for block in self._underway if block.job is not job]
            also = f" (or {others[0]}, which was on the device too)" if others else ""
            raise BlockError(f"{job.name}{also}: {type(error).__name__}: {error}") from error

    def _publish_all(self) -> None:
        while (result := self._take(self._results)) is not None:
            job, claim = result.job, result.job.claim
            try:
                with np.errstate(over="ignore"):  # what exceeds float16 is found as infinity
                    embedded = result.embedded.astype(np.float16)
                values = job.plan.assemble(embedded, job.copies)
                job.store.publish(
                    claim,
                    values,
                    details={
                        **job.encoder.provenance().environment,
                        "seconds": round(result.seconds, 3),
                        "copied": job.plan.saved,
                        "identity": job.encoder.provenance().identity_hash(),
                    },
                )
            except ClaimLostError as error:
                self._say(f"{job.name}: {error}; dropped")
                claim.release()
                continue
            except DataError as error:
                self._give_up(job, str(error))
                continue
            except Exception as error:
                raise BlockError(f"{job.name}: {type(error).__name__}: {error}") from error
            claim.release()
            self._blocks += 1
            self._records += len(values)
            self._copied += job.plan.saved
            self._tokens += len(job.tokens.ids)

    # -- inner ----------------------------------------------------------------------------------

    def _between(self, block: Block) -> Callable[[int], None]:
        """Between two batches: stop if told to, tell how far the block is, want the next in time.

        The next block is claimed when this one has little left, not when it begins: a slow worker
        that held two blocks would be the last to finish by that one. A block whose last batch is
        home is finished here, also if that is while the next one is being submitted.
        """
        job, began, total = block.job, block.began, len(block.job.tokens)
        if self._computation and self._is_due(self._computation):
            block.want_next()  # a short block wants it at once

        def between(done: int) -> None:
            if done == total:
                block.ended = time.monotonic()
                if self._underway and self._underway[0] is block:
                    self._finish(self._underway.popleft())
            elif self._ending():
                raise Stopped
            if self._is_due((time.monotonic() - began) * (total - done) / max(done, 1)):
                block.want_next()
            self._presence.heartbeat.report(
                {
                    "model": job.claim.model,
                    "block": job.claim.block,
                    "in_block": done,
                    "records": self._records + done,
                    "record_seconds": self._source.pace(job.claim.model),
                }
            )

        return between

    def _is_due(self, left: float) -> bool:
        """Whether the next block should be claimed with so many seconds of this one left."""
        return left <= max(_LEAD, 4 * self._preparation)

    def _give_up(self, job: Job, reason: str) -> None:
        self._source.give_up(job.claim, reason)
        self._say(f"{job.name} is not filled: {reason}")

    def _ending(self) -> bool:
        return self._stop.is_set() or self._over.is_set()

    def _put(self, where: queue.Queue[Any], item: object) -> bool:
        """Put, giving way when the worker ends by an error; the end mark always gets through."""
        while True:
            try:
                where.put(item, timeout=0.1)
            except queue.Full:
                if self._over.is_set() or (item is not None and self._stop.is_set()):
                    return False
            else:
                return True

    def _take(self, where: queue.Queue[Any], *, patience: float | None = None) -> Any:
        """Take the next item; None at the end, `_NOTHING_YET` if patience (seconds) ends before."""
        while True:
            try:
                return where.get(timeout=0.1 if patience is None else patience)
            except queue.Empty:
                if self._over.is_set():
                    return None
                if patience is not None:
                    return _NOTHING_YET

    def _guarded(self, part: Callable[[], None], ends: bool) -> None:
        try:
            part()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            self._error = self._error or error
            if ends:
                self._over.set()
