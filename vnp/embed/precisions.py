"""In which precision the rows of a store were computed, by the certificates of their blocks."""

from __future__ import annotations

from collections import Counter

import numpy as np

from store.errors import DamageError
from store.io.concurrent import in_order
from store.store import Store

UNKNOWN = "unknown"  # imported, damaged, or not filled


def precision_of(store: Store, model: str, block: int) -> str:
    """Precision of a block: its own in a store of mixed precision, else that of the store."""
    try:
        if store.schema.mixed_precision:
            certificate = store.certificate(model, block)
            details = certificate.details if certificate is not None else {}
        else:
            identity = (store.provenance(model) or {}).get("identity")
            details = identity if isinstance(identity, dict) else {}
    except DamageError:  # vnp verify names it
        return UNKNOWN
    return str(details.get("precision", UNKNOWN))


def begun_in(store: Store, model: str) -> str:
    """Precision that a store pins for a model, by its first filled block if provenance is lost.

    Raises
    ------
    DamageError
        If what says so is damaged.
    """
    recorded = store.provenance(model)
    if recorded is not None:
        identity = recorded.get("identity")
        return str(identity.get("precision", UNKNOWN)) if isinstance(identity, dict) else UNKNOWN
    for block in np.flatnonzero(store.rows_filled(model))[:1].tolist():
        certificate = None if store.schema.mixed_precision else store.certificate(model, block)
        if certificate is not None:
            return str(certificate.details.get("precision", UNKNOWN))
    return UNKNOWN


def rows_by_precision(store: Store, model: str) -> dict[str, int]:
    """Count the filled rows of a model by precision, most first.

    Reads every certificate of a store of mixed precision, several at a time, so not for every look
    at a large one.
    """
    filled = store.rows_filled(model)
    if not store.schema.mixed_precision:
        total = int(filled.sum())
        return {precision_of(store, model, 0): total} if total else {}
    counter: Counter[str] = Counter()
    blocks = np.flatnonzero(filled).tolist()
    found = in_order(lambda block: precision_of(store, model, block), blocks)
    for block, precision in zip(blocks, found, strict=True):
        counter[precision] += int(filled[block])
    return dict(counter.most_common())
