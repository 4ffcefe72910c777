"""Who embedded what, where and how fast: read from the certificates that workers leave."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from store.certificate import Certificate
from store.errors import DamageError
from store.read.sample import evenly
from store.store import Store
from vnp.report.binning import timeline
from vnp.report.data import MOST_CERTIFICATES, MOST_GROUPS, MOST_WORKERS, Work, WorkerRow

Environments: TypeAlias = dict[str, dict[str, int]]  # field -> value -> blocks

# What may differ between the blocks of a model, in the order in which it is shown.
FIELDS = ("device", "engine", "attention", "vnp", "torch", "tokenizers")
_MOST_VALUES = 8  # of one field; the rest is counted together


@dataclass(slots=True)
class _Tally:
    """What one worker left."""

    device: str = ""
    blocks: float = 0.0
    records: float = 0.0
    seconds: float = 0.0
    first: float = float("inf")
    last: float = float("-inf")
    where: list[int] = field(default_factory=list)  # its blocks, as numbers of all that were read


def read_work(
    store: Store, filled: dict[str, NDArray[np.int64]]
) -> tuple[Work, dict[str, Environments]]:
    """Read the certificates, or an even sample of them, and count each for those it stands for."""
    environments: dict[str, Environments] = {}
    tallies: dict[str, _Tally] = {}
    begin: list[float] = []
    end: list[float] = []
    records: list[float] = []
    read = of = 0
    for model in store.schema.models:
        blocks = np.flatnonzero(filled[model.name])
        chosen = blocks[evenly(len(blocks), MOST_CERTIFICATES)]
        of += len(blocks)
        weight = len(blocks) / max(len(chosen), 1)
        counters = {name: Counter[str]() for name in FIELDS}
        for block in chosen.tolist():
            certificate = _certificate(store, model.name, block)
            if certificate is None:
                continue
            read += 1
            for name, counter in counters.items():
                if name in certificate.details:
                    counter[str(certificate.details[name])] += 1
            tally = tallies.setdefault(certificate.worker, _Tally())
            published, seconds = _times(certificate)
            tally.device = tally.device or str(certificate.details.get("device", "unknown"))
            tally.blocks += weight
            tally.records += weight * certificate.rows
            tally.seconds += weight * seconds
            tally.first = min(tally.first, published - seconds)
            tally.last = max(tally.last, published)
            tally.where.append(len(begin))
            begin.append(published - seconds)
            end.append(published)
            records.append(weight * certificate.rows)
        environments[model.name] = {
            name: _fewest({value: round(weight * n) for value, n in counter.most_common()})
            for name, counter in counters.items()
            if counter
        }
    ranked = sorted(tallies.items(), key=lambda item: (-item[1].records, item[0]))
    room = MOST_GROUPS if len(ranked) <= MOST_GROUPS else MOST_GROUPS - 1
    group = np.full(len(begin), min(len(ranked), room), dtype=np.int64)
    for number, (_, tally) in enumerate(ranked[:room]):
        group[tally.where] = number
    names = [worker for worker, _ in ranked[:room]]
    if len(ranked) > room:
        names.append(f"{len(ranked) - room:,} other workers")
    work = Work(
        certificates=read,
        of=of,
        workers=tuple(
            WorkerRow(
                worker=worker,
                device=tally.device,
                blocks=round(tally.blocks),
                records=round(tally.records),
                seconds=tally.seconds,
                first=tally.first,
                last=tally.last,
            )
            for worker, tally in ranked[:MOST_WORKERS]
        ),
        more_workers=max(len(ranked) - MOST_WORKERS, 0),
        timeline=timeline(
            np.array(begin), np.array(end), np.array(records), group, groups=tuple(names)
        ),
    )
    return work, environments


def _certificate(store: Store, model: str, block: int) -> Certificate | None:
    try:
        return store.certificate(model, block)
    except DamageError:
        return None  # vnp verify names it; the report counts what it has read


def _times(certificate: Certificate) -> tuple[float, float]:
    """When a block was published, seconds since 1970, and how long it took."""
    published = datetime.fromisoformat(certificate.published).timestamp()
    seconds = certificate.details.get("seconds", 0.0)
    good = isinstance(seconds, int | float) and 0 <= seconds < float("inf")
    return published, float(seconds) if good else 0.0


def _fewest(counts: dict[str, int]) -> dict[str, int]:
    """The most frequent values, and how many blocks have others."""
    if len(counts) <= _MOST_VALUES:
        return counts
    items = list(counts.items())
    left = sum(count for _, count in items[_MOST_VALUES - 1 :])
    return {**dict(items[: _MOST_VALUES - 1]), "others": left}
