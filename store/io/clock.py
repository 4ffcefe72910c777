"""Times as they are written into the store."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
