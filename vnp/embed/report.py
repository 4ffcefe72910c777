"""What a worker has done so far, and its report at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vnp.embed.blocks import PreparedBlock
    from vnp.embed.encoders import Encoders

_WORTH_TELLING = 0.05  # seconds
Interval = tuple[float, float]  # begin and end, by the worker's clock


@dataclass(frozen=True, slots=True)
class Failure:
    """A block that a worker could not fill, or a model that it could not load.

    It does not try it again.
    """

    model: str
    block: int | None  # None: no block of the model
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker did."""

    worker: str  # its uuid
    blocks: int  # published
    records: int  # rows in these blocks: embeddings, as a block is of one model
    copied: int  # of these, copied from identical records instead of embedded
    tokens: int  # of the records that were embedded
    seconds: float  # from the first claim to the last publication
    embed_seconds: float  # of these, in the encoder
    busy_seconds: float  # of these, the device computed, by its own clock; 0 if it has none
    # From the first block submitted to the last result, less what nothing was computed in between
    # as a model was being loaded.
    span_seconds: float
    loading_seconds: float  # models were being loaded and checked, the first one's start included
    measuring_seconds: float  # of these, eight bits measured and checked on the store's records
    failures: tuple[Failure, ...]  # blocks it could not fill
    stopped: bool  # told to stop before all was done
    fallbacks: tuple[str, ...]  # what was not as asked, or not the fast way

    def spent_loading(self) -> str:
        """Say how long loading models took, as part of a sentence."""
        text = f"{self.loading_seconds:.1f} s to load models"
        if self.measuring_seconds >= _WORTH_TELLING:
            text += f", {self.measuring_seconds:.1f} of them to measure and check eight bits"
        return text

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def described(failure: Mapping[str, Any]) -> str:
    """Say what a worker could not fill, by its report as JSON, and how it is filled without it."""
    model, block = failure["model"], failure["block"]
    if block is None:
        return f"{model}: {failure['reason']}"
    return f"{model} block {block}: {failure['reason']}"


class Accounts:
    """Counts blocks, records, tokens, seconds and failures while a worker runs.

    The main thread enters times, the publisher what it published, and any thread failures.
    """

    def __init__(self, *, block_rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._block_rows = block_rows
        self._clock = clock
        self._started = clock()
        self._blocks = self._copied = self._tokens = 0
        self.records = 0  # in the blocks published so far
        self._embed_seconds = 0.0
        self._first_submit: float | None = None
        self._last_result = 0.0
        self._idle: list[Interval] = []
        self._paces: dict[str, float] = {}
        self._failures: list[Failure] = []
        self._lock = threading.Lock()  # of the failures

    def submitted(self, at: float) -> None:
        """Record that a block was given to an encoder."""
        if self._first_submit is None:
            self._first_submit = at

    def idle(self, since: float) -> None:
        """Record that nothing was in flight until now; before the first block it does not count."""
        if self._first_submit is not None:
            self._idle.append((since, self._clock()))

    def embedded(self, model: str, *, records: int, submitted: float, ended: float) -> float:
        """Record a block that is embedded; return its seconds, each moment counted once."""
        seconds = ended - max(submitted, self._last_result)
        self._last_result = ended
        self._embed_seconds += seconds
        # A block with few records to embed is mostly what any block takes: it tells no pace.
        if seconds > 0 and 4 * records >= self._block_rows:
            self._paces[model] = seconds / records
        return seconds

    def seconds_per_record(self, model: str) -> float | None:
        """Pace of the last block of a model; None before there was one."""
        return self._paces.get(model)

    def published(self, block: PreparedBlock) -> None:
        """Record that a block is in the store; rows it had before it grew are not counted again."""
        self._blocks += 1
        self.records += block.plan.rows - block.kept
        self._copied += block.repeats
        self._tokens += len(block.tokens.ids)

    def failed(self, failure: Failure) -> None:
        """Record a block that cannot be filled."""
        with self._lock:
            self._failures.append(failure)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Blocks given up so far."""
        with self._lock:
            return tuple(self._failures)

    @property
    def left_out(self) -> list[str]:
        """Models that could not be loaded."""
        return [failure.model for failure in self.failures if failure.block is None]

    def report(self, *, worker: str, encoders: Encoders, stopped: bool) -> WorkerReport:
        """Sum up."""
        until = self._last_result  # what was loaded later is outside of the span
        idle = [(begin, min(end, until)) for begin, end in self._idle]
        waited = shared_seconds(idle, encoders.loads)
        begin = until if self._first_submit is None else self._first_submit
        return WorkerReport(
            worker=worker,
            blocks=self._blocks,
            records=self.records,
            copied=self._copied,
            tokens=self._tokens,
            seconds=self._clock() - self._started,
            embed_seconds=self._embed_seconds,
            busy_seconds=encoders.busy_seconds,
            span_seconds=max(0.0, until - begin - waited),
            loading_seconds=sum(end - start for start, end in encoders.loads),
            measuring_seconds=encoders.measuring_seconds,
            failures=self.failures,
            stopped=stopped,
            fallbacks=tuple(encoders.fallbacks),
        )


def shared_seconds(some: Sequence[Interval], others: Sequence[Interval]) -> float:
    """Seconds that lie in an interval of both lists; those of one list do not overlap."""
    return sum(
        max(0.0, min(end, other_end) - max(begin, other_begin))
        for begin, end in some
        for other_begin, other_end in others
    )
