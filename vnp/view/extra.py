"""What the extra ``view`` brings, and the one error of ``vnp view`` without it."""

from __future__ import annotations

from store.io.optional import EXTRAS, require, require_installed


def require_view() -> None:
    """Refuse to serve without what serves; `MissingPackageError` says what to install."""
    names = [name for name, extra in EXTRAS.items() if extra == "view"]
    require_installed(names, for_what="vnp view", extra="view")
    for name in names:  # one that is installed may fail at its import
        require(name, for_what="vnp view")
