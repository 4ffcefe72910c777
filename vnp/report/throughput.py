"""Who embedded what, where and how fast: read from the certificates that workers leave."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from store.certificate import Certificate
from store.errors import DamageError
from store.io.words import count
from store.read.sample import evenly
from store.store import Store
from vnp.report.binning import timeline
from vnp.report.data import MOST_CERTIFICATES, MOST_GROUPS, MOST_WORKERS, Work, WorkerRow

Environments: TypeAlias = dict[str, dict[str, int]]  # field -> value -> blocks

# What may differ between the blocks of a model, in the order in which it is shown.
FIELDS = ("precision", "device", "engine", "attention", "vnp", "torch", "tokenizers")
_MOST_VALUES = 8  # of one field; the rest is counted together


def read_work(
    store: Store, filled: dict[str, NDArray[np.int64]]
) -> tuple[Work, dict[str, Environments]]:
    """Read the certificates, or an even sample of them that represents the rest."""
    read: list[WorkerRow] = []
    environments: dict[str, Environments] = {}
    of = 0
    for model in store.schema.models:
        blocks = np.flatnonzero(filled[model.name])
        of += len(blocks)
        chosen = blocks[evenly(len(blocks), MOST_CERTIFICATES)]
        weight = len(blocks) / max(len(chosen), 1)
        counters = {name: Counter[str]() for name in FIELDS}
        for block in chosen.tolist():
            try:
                certificate = store.certificate(model.name, block)
            except DamageError:
                continue  # vnp verify names it; the report counts what it can read
            if certificate is None:
                continue
            read.append(_block(certificate, weight))
            for name, counter in counters.items():
                if name in certificate.details:
                    counter[str(certificate.details[name])] += 1
        environments[model.name] = {
            name: _fewest({value: round(weight * n) for value, n in counter.most_common()})
            for name, counter in counters.items()
            if counter
        }
    return _work(read, of), environments


def _block(certificate: Certificate, weight: float) -> WorkerRow:
    published = datetime.fromisoformat(certificate.published).timestamp()
    seconds = certificate.details.get("seconds", 0.0)
    if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        seconds = 0.0
    return WorkerRow(
        worker=certificate.worker,
        device=str(certificate.details.get("device", "unknown")),
        blocks=weight,
        records=weight * certificate.rows,
        seconds=weight * seconds,
        first=published - seconds,
        last=published,
    )


def _work(read: Sequence[WorkerRow], of: int) -> Work:
    of_worker: dict[str, list[WorkerRow]] = defaultdict(list)
    for block in read:
        of_worker[block.worker].append(block)
    workers = [
        replace(
            blocks[0],
            blocks=sum(block.blocks for block in blocks),
            records=sum(block.records for block in blocks),
            seconds=sum(block.seconds for block in blocks),
            first=min(block.first for block in blocks),
            last=max(block.last for block in blocks),
        )
        for blocks in of_worker.values()
    ]
    workers.sort(key=lambda row: (-row.records, row.worker))
    room = MOST_GROUPS if len(workers) <= MOST_GROUPS else MOST_GROUPS - 1
    groups = [row.worker for row in workers[:room]]
    if len(workers) > room:
        groups.append(count(len(workers) - room, "other worker"))
    group = {row.worker: min(number, room) for number, row in enumerate(workers)}
    return Work(
        certificates=len(read),
        of=of,
        workers=tuple(workers[:MOST_WORKERS]),
        more_workers=max(len(workers) - MOST_WORKERS, 0),
        timeline=timeline(
            np.array([block.first for block in read]),
            np.array([block.last for block in read]),
            np.array([block.records for block in read]),
            np.array([group[block.worker] for block in read], dtype=np.int64),
            groups=groups,
        ),
    )


def _fewest(counts: dict[str, int]) -> dict[str, int]:
    """The most frequent values, and how many blocks have others."""
    if len(counts) <= _MOST_VALUES:
        return counts
    items = list(counts.items())
    left = sum(n for _, n in items[_MOST_VALUES - 1 :])
    return {**dict(items[: _MOST_VALUES - 1]), "others": left}
