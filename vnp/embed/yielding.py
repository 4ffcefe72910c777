"""The last blocks of a run: a slow worker leaves them to others that will be done sooner.

A worker that needs an hour for a block must not take the last one a moment before a worker that
needs a minute is free. So where others are at least twice as fast, and could finish every block
that is left after the one in hand, before this worker had finished one, it waits. It asks again
while it waits, and if the others are gone it takes the block.
"""

from __future__ import annotations

from collections.abc import Iterable

from store.claims.heartbeat import Beat

_ABOUT = 1.05  # times are alike if they differ by so much
_LEAST, _MOST = 1e-9, 1e6  # seconds for a record


def pace_of(beat: Beat, model: str) -> float | None:
    """Seconds that another worker takes for a record of a model, if it is at it and tells."""
    seconds = beat.progress.get("record_seconds")
    if beat.progress.get("model") != model or isinstance(seconds, bool):
        return None
    if not isinstance(seconds, int | float):
        return None
    # A file may hold anything; whatever is no time for a record is none.
    return float(seconds) if _LEAST < seconds < _MOST else None


def others_finish(mine: float, paces: Iterable[float]) -> int:
    """Blocks that others begin and finish, after those in hand, while this worker does one.

    Parameters
    ----------
    mine, paces
        Seconds for a record, of this worker and of the others.
    """
    return sum(max(0, int(_ABOUT * mine / pace) - 1) for pace in paces)
