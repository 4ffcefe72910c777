"""What the extra ``view`` brings, and the one error of ``vnp view`` without it."""

from __future__ import annotations

from store.io.optional import require


def require_view() -> None:
    """Refuse to serve without what serves; `MissingPackageError` says what to install."""
    for name in ("starlette", "uvicorn"):
        require(name, for_what="vnp view")
