"""VirNucPro embeddings on one chunked store.

The commands as functions; each returns the report that its command prints with ``--json``:

>>> import vnp                                                          # doctest: +SKIP
>>> vnp.create("run.zarr", recipe="demo", if_missing=True)              # doctest: +SKIP
>>> vnp.append("run.zarr", "sample.fa.gz", existing="skip")             # doctest: +SKIP
>>> vnp.embed("run.zarr")                                               # doctest: +SKIP
>>> vnp.open("run.zarr").merged()[:10]                                  # doctest: +SKIP

They are documented in `vnp.api`, and imported when one is first used: ``import vnp`` loads neither
NumPy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vnp.whose_store import WrongStoreError, check_store, end_if_run

if TYPE_CHECKING:
    from vnp.api import (
        append,
        create,
        embed,
        export,
        open,  # noqa: A004
        precisions,
        predict,
        residues,
        status,
        train,
        verify,
    )

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "append",
    "create",
    "embed",
    "export",
    "open",
    "precisions",
    "predict",
    "residues",
    "status",
    "train",
    "verify",
]

try:
    check_store()
except WrongStoreError as error:
    end_if_run(error)
    raise


def __getattr__(name: str) -> Any:
    if name == "embed":  # the package of that name is what is called: see vnp/embed/__init__.py
        return importlib.import_module("vnp.embed")
    if name not in __all__:
        raise AttributeError(f"module 'vnp' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module("vnp.api"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
