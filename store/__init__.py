"""One chunked store with many writers and no merge: usable alone, without torch and without vnp.

>>> import store                                                        # doctest: +SKIP
>>> s = store.open("run.zarr")                                          # doctest: +SKIP
>>> s.read("esm2_3b", 0, 1000)            # float16 (1000, 2560)        # doctest: +SKIP
>>> s.filled("esm2_3b")                   # bool (N,): which rows count # doctest: +SKIP
"""

from store.claims.participant import Participant
from store.errors import (
    BusyError,
    ClaimLostError,
    DamageError,
    DataError,
    NotAStoreError,
    SampleExistsError,
    StoreError,
    UsageError,
)
from store.io.ragged import Ragged
from store.open import create_store as create
from store.open import open_store as open  # noqa: A004 - store.open(...) reads best
from store.repair import repair, verify_store
from store.rows import RowBatch
from store.schema import Model, Sample, Schema
from store.store import Store

# Read by `vnp.whose_store`: PyPI has another package of this name, whose files replace ours.
__package_of__ = "vnp"

__all__ = [
    "BusyError",
    "ClaimLostError",
    "DamageError",
    "DataError",
    "Model",
    "NotAStoreError",
    "Participant",
    "Ragged",
    "RowBatch",
    "Sample",
    "SampleExistsError",
    "Schema",
    "Store",
    "StoreError",
    "UsageError",
    "create",
    "open",
    "repair",
    "verify_store",
]
