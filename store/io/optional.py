"""Optional libraries: import one, or say in one sentence why that is impossible.

An installed library can fail at its import in any way: a shared object that is missing (OSError),
a cache that cannot be written (RuntimeError, numba's), a version of another library that it does
not take. That costs the feature that needs it, and nothing else.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from store.errors import UsageError

# Library -> the extra of vnp that brings it: pip adds what is missing to an installed vnp.
EXTRAS = {
    "anndata": "read",
    "dask": "read",
    "pandas": "read",
    "xarray": "read",
    "zarr": "read",
    "pyarrow": "export",
    "faiss": "faiss",
    "lance": "lance",
    "anyio": "view",
    "starlette": "view",
    "uvicorn": "view",
    "umap": "umap",
    "sklearn": "train",
    "pysam": "bam",
    "ray": "ray",
    "obstore": "s3",
    "numba": "embed",
    "llvmlite": "embed",
}
_ABSENT = "is not installed"
_said: set[str] = set()  # libraries of which a warning was given
_LONGEST = 200  # characters of an error that are repeated
log = logging.getLogger(__name__)


class MissingPackageError(UsageError):
    """The call needs a library that is not installed, or cannot be imported."""


def require(name: str, *, for_what: str) -> Any:
    """Import a library for one feature; the error for a missing one says how to get it."""
    module, trouble = _import(name)
    if trouble is not None:
        raise MissingPackageError(f"{for_what} needs {name}, which {trouble}")
    return module


def available(name: str, *, for_what: str) -> Any:
    """Import a library that a feature can do without; None if it cannot be imported.

    One that is installed all the same is worth one warning.
    """
    module, trouble = _import(name)
    if trouble is not None and not trouble.startswith(_ABSENT) and name not in _said:
        _said.add(name)
        log.warning("%s is left out: %s %s", for_what, name, trouble)
    return module


def is_installed(name: str) -> bool:
    """Whether a library can be found; nothing is imported, so it may fail at its import."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # ValueError: it was imported by hand, without a spec
        return False


def require_installed(names: Iterable[str], *, for_what: str, extra: str) -> None:
    """Refuse a feature without the libraries that an extra brings; the error names all missing."""
    missing = [name for name in names if not is_installed(name)]
    if missing:
        verb = "which is" if len(missing) == 1 else "which are"
        raise MissingPackageError(
            f"{for_what} needs {', '.join(missing)}, {verb} not installed: {install(extra)}"
        )


def install(extra: str) -> str:
    """Say what brings an extra of vnp."""
    return f"pip install 'vnp[{extra}]'"


def why_not(name: str) -> str | None:
    """Say why a library cannot be imported, as the end of a sentence; None if it can."""
    return _import(name)[1]


def _import(name: str) -> tuple[Any, str | None]:
    try:
        return importlib.import_module(name), None
    except Exception as error:  # noqa: BLE001 - a library may raise anything
        top = name.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == top:
            extra = EXTRAS.get(top)
            return None, f"{_ABSENT}: {install(extra) if extra else f'pip install {name}'}"
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
        return None, f"is installed, but cannot be imported ({said})"
