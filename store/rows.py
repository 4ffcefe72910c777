"""Rows on their way into a store: the columns of a batch of records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Columns of ``n`` records in row order; every column has length ``n``."""

    id: Ragged  # record id, unique within its sample
    contig: Ragged  # id of the contig the record was cut from
    segment: NDArray[np.int32]  # 1-based number of the window on its contig
    start: NDArray[np.int64]  # first base of the window on the contig, 0-based
    end: NDArray[np.int64]  # one past the window's last base
    strand: NDArray[np.int8]  # 1: as given, -1: reverse complement
    frame: NDArray[np.int8]  # 1, 2 or 3: offset of the first codon on the strand, plus 1
    nucleotide: Ragged  # ACGTN..., upper case
    protein: Ragged  # amino acids, one letter each
    # Bases of the contig, the same in all its records; None is for stores that do not keep it.
    contig_length: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.segment)
