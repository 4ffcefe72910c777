"""Small checksummed JSON records in fields of fixed size.

A record is one JSON object whose member ``check`` is the checksum of the rest, followed by zeros up
to the field's size. A field of zeros is empty; anything else that does not match is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import google_crc32c

from store.errors import DamageError, UsageError
from store.io.json import parse_json

_CRC = "check"
CRC_ROOM = len(
    ',"check":"00000000"'
)  # bytes that it takes of a field, beside the rest of the record


def pack_record(record: Mapping[str, Any], *, size: int) -> bytes:
    """Write a JSON object, with its checksum, into a field of ``size`` bytes."""
    if _CRC in record:
        raise UsageError(f"a record cannot have a member {_CRC!r}")
    text = json.dumps({**record, _CRC: _checksum(record)}, separators=(",", ":")).encode()
    if len(text) > size:
        raise UsageError(f"a record of {len(text)} bytes does not fit its field of {size}")
    return text.ljust(size, b"\0")


def unpack_record(field: bytes, *, what: str) -> dict[str, Any] | None:
    """Read a record back; None when the field is empty, `DamageError` when it is damaged."""
    text = field.rstrip(b"\0")
    if not text:
        return None
    try:
        record = parse_json(text)
    except ValueError as error:
        raise DamageError(f"{what} is unreadable: {error}") from None
    if not isinstance(record, dict) or _CRC not in record:
        raise DamageError(f"{what} is unreadable: it has no checksum")
    crc = record.pop(_CRC)
    if crc != _checksum(record):
        raise DamageError(f"{what} does not match its checksum")
    return record


def _checksum(record: Mapping[str, Any]) -> str:
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    return f"{google_crc32c.value(canonical):08x}"
