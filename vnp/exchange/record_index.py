"""From record ids to rows of a sample, for files that know rows by id."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from store.schema import Sample
from store.store import Store


class RecordIndex:
    """The record ids of one sample, which are unique within it.

    Parameters
    ----------
    store
        The store.
    sample
        The sample.
    """

    def __init__(self, store: Store, sample: Sample) -> None:
        ids = store.column("id", sample.start, sample.stop)
        assert isinstance(ids, Ragged)
        self.sample = sample
        self._row = {record: row for row, record in enumerate(ids.tolist(), start=sample.start)}

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Row of the store of each id, -1 where the sample has none of that id; shape (n,)."""
        get = self._row.get
        found = (get(record.encode("utf-8", "surrogateescape"), -1) for record in ids)
        return np.fromiter(found, dtype=np.int64, count=len(ids))
