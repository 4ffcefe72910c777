"""What a worker did, and in which time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vnp.embed.jobs import Failure


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker did."""

    worker: str  # its uuid
    blocks: int  # published
    records: int  # in these blocks
    copied: int  # of these, copied from identical records instead of embedded
    tokens: int  # of the records that were embedded
    seconds: float  # from the first claim to the last publication
    embed_seconds: float  # of these, in the encoder
    busy_seconds: float  # of these, the device computed, by its own clock; 0 if it has none
    span_seconds: float  # from the first block submitted to the last result, less loading_seconds
    loading_seconds: float  # between those two, nothing was computed as a model was being loaded
    failures: tuple[Failure, ...]  # blocks it could not fill
    stopped: bool  # told to stop before all was done
    fallbacks: tuple[str, ...]  # what was not as asked, or not the fast way

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def shared_seconds(
    some: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]
) -> float:
    """Seconds that lie in an interval of both lists; those of one list do not overlap."""
    return sum(
        max(0.0, min(end, other_end) - max(begin, other_begin))
        for begin, end in some
        for other_begin, other_end in others
    )
