"""Values of a file that may be damaged or hostile: showing them, checking them, checksums."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from typing import Any

import google_crc32c


def shown(value: object) -> str:
    """Write a value, not at any length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def is_count(value: object, most: int, *, least: int = 0) -> bool:
    """Whether a value is a whole number in a range."""
    return type(value) is int and least <= value <= most


def to_object(part: Any) -> dict[str, Any]:
    """Return a dataclass as JSON, without the fields that have the value of absent ones."""
    unsaid = {field.name for field in fields(part) if getattr(part, field.name) == field.default}
    return {name: value for name, value in asdict(part).items() if name not in unsaid}


def from_object(kind: type[Any], item: dict[str, Any]) -> Any:
    """Build a dataclass from its JSON object; KeyError or ValueError if that is impossible."""
    values = {}
    for field in fields(kind):
        value = (
            item[field.name] if field.default is MISSING else item.get(field.name, field.default)
        )
        if type(value).__name__ != field.type:
            raise ValueError(f"{kind.__name__}.{field.name} is {shown(value)}, not {field.type}")
        values[field.name] = value
    return kind(**values)


def checksum(body: dict[str, Any]) -> str:
    """CRC-32C of a JSON object, with sorted keys and no blanks, as eight hex digits."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return f"{google_crc32c.value(canonical):08x}"
