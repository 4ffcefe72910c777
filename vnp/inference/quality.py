"""Are eight bits good enough for a store: its records, in fp8 or int8 and bfloat16, compared.

What quantising costs depends on weights and sequences, so a worker asked for it first embeds a few
hundred of the store's records both ways. The result goes into the provenance; below the bounds the
worker refuses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.errors import DataError
from store.io.ragged import Ragged
from store.io.words import count
from store.read.sample import spread
from store.store import Store
from vnp.models.similarity import row_similarity

SAMPLE_RECORDS = 384
_SAMPLE_BLOCKS = 6

# Least cosine of a record's two means, over the sample: for the worst record and in the middle.
LEAST_LOWEST = 0.995
LEAST_MEDIAN = 0.999
# For who asks for the fastest precision that is good enough, and not for one by name.
LEAST_OF_AUTO = 0.9995


class QualityError(DataError):
    """Eight bits change this store's embeddings by more than the bound."""

    def __init__(self, message: str, lowest: float) -> None:
        super().__init__(message)
        self.lowest = lowest  # cosine of the worst record


@dataclass(frozen=True, slots=True)
class Quality:
    """How near the embeddings in eight bits are to those in bfloat16."""

    precision: str  # fp8 or int8
    records: int  # compared
    lowest: float  # cosine of the worst record
    median: float  # cosine in the middle

    def environment(self) -> dict[str, str]:
        """What is recorded of it in the provenance."""
        return {
            f"{self.precision}_check_records": str(self.records),
            f"{self.precision}_cosine_lowest": f"{self.lowest:.6f}",
            f"{self.precision}_cosine_median": f"{self.median:.6f}",
        }

    def require(self, model: str) -> None:
        """Refuse what is below the bounds.

        Raises
        ------
        QualityError
            With both cosines and what to do.
        """
        # Written so that NaN is refused too.
        if not (self.lowest >= LEAST_LOWEST and self.median >= LEAST_MEDIAN):
            raise QualityError(
                f"{model} in {self.precision} is too far from bfloat16 on "
                f"{count(self.records, 'record')} of this store: lowest cosine {self.lowest:.5f} "
                f"(at least {LEAST_LOWEST}), median "
                f"{self.median:.5f} (at least {LEAST_MEDIAN}); use --precision bfloat16",
                self.lowest,
            )


def compare(
    eight_bits: NDArray[np.float32], bfloat16: NDArray[np.float32], *, precision: str
) -> Quality:
    """Compare embeddings row by row, (n, dim) each."""
    cosines, _ = row_similarity(eight_bits, bfloat16)
    return Quality(precision, len(cosines), float(cosines.min()), float(np.median(cosines)))


def sample(store: Store) -> tuple[Ragged, Ragged]:
    """Take the records to compare with: (nucleotide, protein)."""
    return spread(store, count=SAMPLE_RECORDS, blocks=_SAMPLE_BLOCKS)
