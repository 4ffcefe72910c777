"""What each exit code means, and which code answers which end."""

from __future__ import annotations

DONE = 0  # every promised row is certified
DATA_ERROR = 1  # an error in the data or the store
USAGE_ERROR = 2
INCOMPLETE = 3  # some promised rows are missing
INTERRUPTED = 130  # by Ctrl-C or a signal


def of_error(error: BaseException) -> int:
    """Code of a command that an error ended."""
    from store.errors import UsageError

    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return USAGE_ERROR if isinstance(error, UsageError) else DATA_ERROR


def of_result(*, complete: bool, interrupted: bool = False, refused: int | None = None) -> int:
    """Code of a command that came to its end; ``refused`` is how every worker refused to work."""
    if complete:
        return DONE
    if interrupted:
        return INTERRUPTED
    return refused if refused in (DATA_ERROR, USAGE_ERROR) else INCOMPLETE
