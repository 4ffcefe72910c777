"""A model as an encoder on a GPU: batches in flight over three streams.

A batch passes through one of three slots, so that while one computes, the next one's tokens are on
their way in and the last one's rows on their way out::

    host      plan, write pinned tokens                           rows to their places
    copy in        `-- loaded -->.
    compute                      `-- encode, pool -- computed -->.
    copy out                                                     `-- returned -->'

Each arrow is an event, and nothing is read or overwritten before the event that frees it. The host
is never more than three batches ahead, and a slot may belong to the next block already while
another still carries the last batches of this one.

Where a record's numbers do not depend on its neighbours (``spans``), batches span blocks: records
that do not fill a batch are held until the next block's fill it, and go on their way by themselves
when the device has nothing else to do. Every batch then has the same number of rows, as products
are computed in one way for one number of rows: it makes no difference to a record which one takes
it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from store.store import Store
from vnp.inference.batch_layout import plan_layout
from vnp.inference.device import is_out_of_memory
from vnp.inference.encoder import Between
from vnp.inference.loop import Engine, LoopEncoder, Settings, Workspace
from vnp.inference.quality import compare, sample
from vnp.inference.runs import Part, Records, left_by
from vnp.inference.streams import Streams
from vnp.models.errors import RecordTooLongError
from vnp.models.packing import Batch, fill, padded_rows
from vnp.models.spec import ModelSpec
from vnp.models.tokens import Tokenise, Tokens

_SLOTS = 3
_LEAST_TOKENS = 16  # average tokens of a record, below which a batch is not filled to the budget


class _Slot:
    """Buffers and events of one batch in flight."""

    def __init__(self, streams: Streams, *, records: int, dim: int, integers: int) -> None:
        self.tokens_host = streams.pinned(integers, torch.int32)
        self.tokens = torch.empty(integers, dtype=torch.int32, device=streams.device)
        self.rows = torch.empty((records, dim), dtype=torch.float32, device=streams.device)
        self.rows_host = streams.pinned((records, dim), torch.float32)
        self.began, self.computed = streams.event(timed=True), streams.event(timed=True)
        self.loaded, self.returned = streams.event(), streams.event()
        self.parts: list[Part[EngineRun]] = []


class EngineRun:
    """The records of one ``submit``."""

    def __init__(self, encoder: EngineEncoder, count: int, between: Between | None) -> None:
        self.rows = np.empty((count, encoder.dim), dtype=np.float32)
        self.done = 0
        self.between = between
        self.error: RecordTooLongError | None = None  # why there will be no rows
        self._encoder = encoder

    @property
    def held(self) -> bool:
        """Whether records wait for those of the next ``submit`` to fill a batch."""
        return self._encoder.holds(self)

    @property
    def in_last_batch(self) -> bool:
        """See ``vnp.inference.encoder.Run``."""
        return self.held or self._encoder.sent_last(self)

    def ready(self) -> bool:
        """Take in what has drained; whether that is all of the rows.

        Records that are held go on their way if the device has nothing else to do.
        """
        self._encoder.retire_returned()
        if self.error is None and self.done < len(self.rows):
            self._encoder.flush_if_dry()
        return self.error is not None or self.done == len(self.rows)

    def result(self) -> NDArray[np.float32]:
        """Wait for the rows."""
        if self.done < len(self.rows) and self.held:
            self._encoder.flush()
        while self.error is None and self.done < len(self.rows):
            self._encoder.retire()
        if self.error is not None:
            raise self.error
        return self.rows


class EngineEncoder(LoopEncoder):
    """A pipelined encoder; see ``vnp.inference.encoder.PipelinedEncoder``."""

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        tokenizer: Tokenise,
        *,
        spans: bool = False,
        **settings: Unpack[Settings],
    ) -> None:
        """Make an encoder; ``spans``: a record's rows do not depend on its neighbours."""
        super().__init__(spec, engine, tokenizer, **settings)
        self._spans = spans
        self._held: Records[EngineRun] = Records.none()
        self._streams = Streams(settings["placement"].device)
        self._free: deque[_Slot] = deque()
        self._in_flight: deque[_Slot] = deque()
        self._busy = 0.0
        # In eight bits: makes the same encoder in bfloat16, to be checked against.
        self.reference: Callable[[], LoopEncoder] | None = None

    @property
    def busy_seconds(self) -> float:
        """Seconds that the device has computed so far, by its own clock."""
        return self._busy

    def embed(self, tokens: Tokens, *, between: Between | None = None) -> NDArray[np.float32]:
        """Embed records; see ``vnp.inference.encoder.Encoder.embed``."""
        return self.submit(tokens, between=between).result()

    def submit(self, tokens: Tokens, *, between: Between | None = None) -> EngineRun:
        """Start to embed records; see ``vnp.inference.encoder.PipelinedEncoder.submit``."""
        run = EngineRun(self, len(tokens), between)
        ahead = len(self._held)  # they have waited: the first batches take them
        self._held = self._held.followed_by(Records.of(run, tokens))
        try:
            self._send(ahead=ahead, flush=not self._spans)
        except BaseException:
            self._abandon(run)
            raise
        if run.error is not None:
            raise run.error
        return run

    def holds(self, run: EngineRun) -> bool:
        """Whether records of a run wait for others to fill a batch."""
        return any(each is run for each in self._held.runs)

    def sent_last(self, run: EngineRun) -> bool:
        """Whether the last batch on its way has records of a run."""
        return bool(self._in_flight) and any(part.run is run for part in self._in_flight[-1].parts)

    def flush(self) -> None:
        """Send what is held on its way."""
        self._send(ahead=0, flush=True)

    def flush_if_dry(self) -> None:
        """Send what is held on its way if the device has nothing else to do."""
        if not self._in_flight:
            self.flush()

    def qualify(self, store: Store, model: str) -> None:  # noqa: ARG002
        """In eight bits, compare some of the store's records with bfloat16, and note it.

        Raises
        ------
        QualityError
            If they differ by more than the bound.
        """
        if self.reference is None or not store.n_rows:
            return
        tokens = self.tokenise(*sample(store))
        found = compare(
            self.embed(tokens), self.reference().embed(tokens), precision=self._placement.precision
        )
        self._streams.release_memory()
        self.environment |= found.environment()
        found.require(self.spec.name)

    def retire(self) -> None:
        """Wait for the oldest batch in flight and put its rows in place."""
        slot = self._in_flight.popleft()
        self._free.append(slot)
        slot.returned.synchronize()
        parts, slot.parts = slot.parts, []
        # Batches follow each other on one stream, so the time between is idle, not shared.
        self._busy += slot.began.elapsed_time(slot.computed) / 1000
        rows_nD = slot.rows_host.numpy()
        runs = [part.run for part in parts if part.run is not None]
        for part in parts:
            if part.run is not None:
                many = len(part.rows)
                part.run.rows[part.rows] = rows_nD[
                    slice(many) if isinstance(part.at, slice) else part.at
                ]
                part.run.done += many
        for run in runs:
            if run.between is not None:
                run.between(run.done)

    def retire_returned(self) -> None:
        """Put in place the rows of all batches that have drained; wait for none."""
        while self._in_flight and self._in_flight[0].returned.query():
            self.retire()

    # -- inner ----------------------------------------------------------------------------------

    @property
    def _most_records(self) -> int:
        return max(1, self.token_budget // _LEAST_TOKENS)

    @property
    def _full_rows(self) -> int:
        return padded_rows(self.token_budget, token_budget=self.token_budget)

    def _send(self, *, ahead: int, flush: bool) -> None:
        """Send records on their way, the first ``ahead`` of those held before the others.

        Without ``flush`` those that do not fill a batch stay. When memory runs out, what is on its
        way stays there, and the rest goes in smaller batches.
        """
        while len(self._held):
            records = self._held
            batches = self._plan(records.tokens, ahead=ahead, flush=flush)
            failed: Batch | None = None
            left = np.ones(len(records), dtype=bool)
            self._held = records.some(left_by(batches, len(records)))
            try:
                for batch in batches:
                    failed = batch
                    self._start(batch, records)
                    left[batch.records] = False
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if failed is None or not is_out_of_memory(error):
                    raise
            else:
                return
            finally:
                if failed is not None and left[failed.records].any():
                    self._held = records.some(np.flatnonzero(left))
            # Out of the except clause, where the failed attempt's tensors are gone.
            assert failed is not None
            ahead = int(left[:ahead].sum())
            run = records.runs[records.run_of[failed.records[0]]]
            try:
                self.reduce_budget(
                    Batch(records.row_of[failed.records], failed.lengths), len(run.rows)
                )
            except RecordTooLongError as error:  # of one record, and told to whom it concerns
                run.error = error
                self._abandon(run)
                ahead = 0

    def _plan(self, tokens: Tokens, *, ahead: int, flush: bool) -> list[Batch]:
        batches = fill(
            tokens.lengths,
            token_budget=self.token_budget,
            most_records=self._most_records,
            ahead=ahead,
        )
        if not flush and len(batches[-1].records) < self._most_records:
            last = padded_rows(batches[-1].tokens, token_budget=self.token_budget)
            if last < self._full_rows:
                del batches[-1]
        return batches

    @torch.inference_mode()
    def _start(self, batch: Batch, records: Records[EngineRun]) -> None:
        """Send one batch on its way, waiting for a slot if all are taken."""
        rows = padded_rows(batch.tokens, token_budget=self.token_budget)
        if self._spans:
            rows = max(rows, self._full_rows)
        ids = records.tokens.collect(batch.records)
        plan = plan_layout(batch, ids, rows=rows, pooling=self.spec.pooling)
        work = self._workspace(rows)
        slot = self._slot(plan.size)
        plan.write(slot.tokens_host.numpy(), padding=self._engine.padding_id)
        streams = self._streams
        with streams.copy_in:
            slot.tokens[: plan.size].copy_(slot.tokens_host[: plan.size], non_blocking=True)
            slot.loaded.record()
        out_nD = slot.rows[: len(batch.records)]
        with streams.compute:
            slot.loaded.wait()
            slot.began.record()
            self._engine(plan.on(slot.tokens), work, out_nD)
            slot.computed.record()
        with streams.copy_out:
            slot.computed.wait()
            slot.rows_host[: len(out_nD)].copy_(out_nD, non_blocking=True)
            slot.returned.record()
        slot.parts = records.parts(batch.records)
        self._in_flight.append(slot)

    def _workspace(self, rows: int) -> Workspace:
        if self._work is None or self._work.rows < rows:
            self._drain()
            self._work = None  # freed before more is asked for
            self._work = self._engine.workspace(max(rows, self._full_rows))
            self._streams.synchronize()  # weights and buffers were made on another stream
        return self._work

    def _slot(self, integers: int) -> _Slot:
        """A slot whose last batch has left it, with room for so many integers."""
        if not self._free and len(self._in_flight) < _SLOTS:
            self._free.append(self._new_slot(integers))
        while not self._free:
            self.retire()
        slot = self._free.popleft()
        if len(slot.tokens) < integers:
            slot = self._new_slot(integers)
        return slot

    def _new_slot(self, integers: int) -> _Slot:
        # Two integers a row, four a tile (one a short record or some 128 tokens), two a record.
        usual = 3 * self.token_budget + 8 * self._most_records
        return _Slot(
            self._streams,
            records=self._most_records,
            dim=self.dim,
            integers=max(integers, usual),
        )

    def _drain(self) -> None:
        while self._in_flight:
            self.retire()

    def _abandon(self, run: EngineRun) -> None:
        """Let what is in flight drain; rows of this run go nowhere."""
        self._held = self._held.without(run)
        for slot in self._in_flight:
            for part in slot.parts:
                if part.run is run:
                    part.run = None
        for slot in self._in_flight:
            slot.returned.synchronize()

    def reduce_budget(self, batch: Batch, records: int) -> None:
        """Halve the token budget, and give buffers of the old one back to the device."""
        super().reduce_budget(batch, records)
        self._drain()
        self._work = None
        self._free.clear()
        self._streams.release_memory()
