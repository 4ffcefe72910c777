"""Optional libraries: import one, or say in one sentence how to install it."""

from __future__ import annotations

import importlib
from typing import Any

from store.errors import UsageError

# Name to import -> what to give pip, where the two differ.
_PACKAGES = {"faiss": "faiss-cpu", "dask.array": "'dask[array]'"}


class MissingPackageError(UsageError):
    """The call needs a library that is not installed."""


def require(name: str, *, for_what: str) -> Any:
    """Import a library for one feature; the error for a missing one says how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
            raise  # it is installed, and lacks something itself
        package = _PACKAGES.get(name, name)
        raise MissingPackageError(
            f"{for_what} needs {name}, which is not installed: pip install {package}"
        ) from None
