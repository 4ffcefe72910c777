"""Publishing rows that came from files, block by block, as a worker would."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.claims.participant import Participant
from store.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What became of blocks that were not filled."""

    blocks: tuple[int, ...]  # published now
    partial: tuple[int, ...]  # left open: the store and the files together lack rows of them
    busy: tuple[int, ...]  # left to workers that are filling them


def publish_blocks(
    store: Store,
    participant: Participant,
    model: str,
    blocks: Iterable[int],
    *,
    values_of: Callable[[int], NDArray[np.float16] | None],
    details_of: Callable[[int], Mapping[str, Any]],
    provenance: Mapping[str, Any],
    accept: Callable[[Mapping[str, Any]], None] = lambda _: None,
    compare: Callable[[int], None] = lambda _: None,
) -> Published:
    """Publish every open block of those given whose rows are all known.

    Parameters
    ----------
    values_of
        Embeddings of a block, float16 (rows of the block, dim), or None if it lacks a row.
    details_of
        What the certificate of a block records.
    provenance
        Recorded for the model unless something is already.
    accept
        Is shown the provenance that is recorded, before each block, and raises an error if rows
        may not go beside those of it: a worker may have begun the model just now.
    compare
        Is given each block just before it is published, under its claim, and each one that somebody
        else has filled; it raises an error if rows that the store has contradict those given here.
    """
    done: list[int] = []
    partial: list[int] = []
    busy: list[int] = []
    for block in blocks:
        if store.is_filled(model, block):
            compare(block)
            continue
        values = values_of(block)
        if values is None:
            partial.append(block)
            continue
        claim = participant.claims.try_claim(model, block)
        if claim is None:
            log.info(f"{model} block {block} is being filled by a worker; left to it")
            busy.append(block)
            continue
        with claim:
            compare(block)
            if store.is_filled(model, block):
                continue
            accept(store.pin_provenance(model, provenance))
            store.publish(claim, values, details_of(block))
            done.append(block)
    return Published(tuple(done), tuple(partial), tuple(busy))
