"""Where a model's embeddings come from, in one line, as its provenance and its name tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.errors import StoreError
from store.read.source import Source

_SHOWN = 200  # characters: what others recorded may be of any length


def origin_of(source: Source, model: str) -> str:
    """Say what made a model's embeddings, or will; empty: a model of vnp, no worker has run.

    ``imported from FILE``, ``plug-in FILE, sha256:...``, ``hf:ORG/NAME, revision ...``, or what
    the model was asked for by. A provenance that cannot be read is said to be so.
    """
    asked = source.schema.model(model).source
    try:
        recorded = source.provenance(model) or {}
    except (StoreError, OSError) as error:
        return f"cannot be read: {error}"[:_SHOWN]
    identity, environment = (_texts(recorded.get(part)) for part in ("identity", "environment"))
    files = identity.get("imported") or environment.get("imported")
    if files:
        said = f"imported from {files}"
    elif "plugin" in identity:
        said = f"plug-in {environment.get('plugin', '')}, {identity['plugin']}"
    else:
        repository = environment.get("repository", "none")
        said = asked or ("" if repository == "none" else repository)
        if said and (revision := environment.get("revision")):
            said += f", revision {revision}"
    return said[:_SHOWN]


def _texts(part: object) -> dict[str, str]:
    if not isinstance(part, Mapping):
        return {}
    items: dict[Any, Any] = dict(part)
    return {str(key): value for key, value in items.items() if isinstance(value, str)}
