"""A model tried in one precision on a store's own records; the store stays as it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import check_weights, load_in
from vnp.embed.imported import refuse_imported
from vnp.inference.calibrated import Int8Encoder
from vnp.inference.encoder import Encoder, Precision
from vnp.inference.load import load_encoder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trial:
    """Records embedded by one model in one precision."""

    precision: str  # what it came to
    device: str  # the product's name
    rows: NDArray[np.float32]  # (n, dim)
    records_per_second: float  # of a second run over the same records, tokenising left out


def try_precision(
    store: Store,
    model: str,
    sequences: tuple[Ragged, Ragged],
    *,
    precision: Precision,
    config: WorkerConfig,
    load: Callable[..., Encoder] = load_encoder,
) -> Trial:
    """Embed records in a precision, twice: the second run is timed.

    In int8 with the scales that the store records, else with some measured now and kept nowhere.

    Parameters
    ----------
    store, model
        A store with rows, and its name of the model.
    sequences
        Nucleotide and protein sequences of n records, as `vnp.inference.quality.sample` gives them.
    precision
        Of the layers, whichever the store was begun in.
    config
        Device, weights and token budget.

    Raises
    ------
    ModelMismatchError
        If the model or its weights are not the store's.
    ImportedModelError
        If no model here makes the store's embeddings.
    """
    refuse_imported(store, model, advice="there is nothing to try")
    encoder = load_in(store, model, precision=precision, config=config, load=load, warn=log.warning)
    check_weights(store, model, encoder)
    if isinstance(encoder, Int8Encoder):
        encoder.take_scales(store, model)
    tokens = encoder.tokenise(*sequences)
    encoder.embed(tokens)  # kernels are compiled and buffers made
    began = time.monotonic()
    rows = encoder.embed(tokens)
    seconds = max(time.monotonic() - began, 1e-6)
    provenance = encoder.provenance()
    return Trial(
        precision=provenance.identity.get("precision", precision),
        device=provenance.environment.get("device", config.device),
        rows=rows,
        records_per_second=len(rows) / seconds,
    )
