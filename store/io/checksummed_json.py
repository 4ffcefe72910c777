"""Small JSON records with a checksum inside, in fields of fixed size.

A sealed record is one JSON object whose member ``check`` covers the rest, followed by zeros up
to the field's size. A field of zeros is empty; anything else that does not match is damage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import google_crc32c

from store.errors import DamageError, UsageError

_CRC = "check"


def seal(record: Mapping[str, Any], *, size: int) -> bytes:
    """Lay a JSON object out in a field of ``size`` bytes.

    Raises
    ------
    UsageError
        If it does not fit.
    """
    if _CRC in record:
        raise UsageError(f"a record cannot have a member {_CRC!r}")
    text = _dump({**record, _CRC: _checksum(record)})
    if len(text) > size:
        raise UsageError(f"a record of {len(text)} bytes does not fit its field of {size}")
    return text.ljust(size, b"\0")


def unseal(field: bytes, *, what: str) -> dict[str, Any] | None:
    """Read a record back; None when the field is empty.

    Raises
    ------
    DamageError
        If it is damaged.
    """
    text = field.rstrip(b"\0")
    if not text:
        return None
    try:
        record = json.loads(text)
    except ValueError as error:
        raise DamageError(f"{what} is unreadable: {error}") from None
    if not isinstance(record, dict) or _CRC not in record:
        raise DamageError(f"{what} is unreadable: it carries no checksum")
    crc = record.pop(_CRC)
    if crc != _checksum(record):
        raise DamageError(f"{what} does not match its checksum")
    return record


def _dump(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def _checksum(record: Mapping[str, Any]) -> str:
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    return f"{google_crc32c.value(canonical):08x}"
