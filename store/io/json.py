"""Untrusted JSON: every way in which it can be wrong is a ValueError."""

from __future__ import annotations

import json
from typing import Any

LONGEST = 64 << 20  # bytes; twice the root metadata of 100,000 samples


def parse_json(text: bytes | str) -> Any:
    """Parse JSON; ValueError if it is not JSON, is nested too deeply or is too long."""
    if len(text) > LONGEST:
        raise ValueError(f"{len(text):,} bytes are more than such a file can have")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
