"""Records for the GPU benchmarks: as many as fill whole batches."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vnp.models.packing import fill
from vnp.models.tokens import Tokens


def whole_batches(tokens: Tokens, token_budget: int) -> Tokens:
    """Less the records of the last batch, which the others leave hardly filled.

    On a GPU it costs what a full one does, and in a store its records go with those of the next
    block.
    """
    batches = fill(tokens.lengths, token_budget=token_budget, most_records=token_budget // 16)
    chosen = np.concatenate([batch.records for batch in batches[:-1] or batches])
    return Tokens(tokens.collect(chosen), tokens.lengths[chosen])
