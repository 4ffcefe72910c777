"""How far embeddings lie from others of the same records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]


def row_similarity(here: Rows, there: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare rows (n, dim) pairwise, in float64.

    A row of zeros has cosine 1 and difference 0 to another one, and 0 and 1 to anything else. A
    row with NaN has cosine 0.

    Returns
    -------
    cosine : float64 (n,)
        Cosine similarity, in [-1, 1].
    relative : float64 (n,)
        ``|here - there| / |there|``.
    """
    here, there = here.astype(np.float64), there.astype(np.float64)
    product = np.einsum("nd,nd->n", here, there)
    gap = np.linalg.norm(here - there, axis=1)
    size = np.linalg.norm(there, axis=1)
    length = np.linalg.norm(here, axis=1) * size
    cosine = np.divide(product, length, out=(gap == 0).astype(np.float64), where=length > 0)
    relative = np.divide(gap, size, out=(gap > 0).astype(np.float64), where=size > 0)
    return cosine.clip(-1, 1), relative
