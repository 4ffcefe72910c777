"""What a page carries, read as its scripts read it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any


def unpacked(part: str) -> Any:
    """JSON of a part's text."""
    return json.loads(gzip.decompress(base64.b64decode(part)))


def part_of(page: str, name: str) -> Any:
    """JSON of a part of a page."""
    [text] = re.findall(rf'id="part-{name}">([^<]*)<', page)
    return unpacked(text)
