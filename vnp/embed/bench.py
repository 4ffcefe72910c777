"""How fast this machine embeds the records of a store, and how long the rest will take."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from store.geometry import rows_wanted
from store.io.ragged import Ragged
from store.read.sample import spread
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import load_for
from vnp.inference.encoder import Encoder, PipelinedEncoder
from vnp.inference.load import load_encoder

log = logging.getLogger(__name__)

_FIRST = 32  # records of the first, smallest measurement
_BLOCKS = 8  # that the sample is taken from, at least
_ROUNDS = 5  # over the same records, about


@dataclass(frozen=True, slots=True)
class Speed:
    """One model on this machine's device."""

    model: str
    device: str
    precision: str
    load_seconds: float  # loading and the first small batch, kernels compiled
    records: int  # tokenised and embedded, in all rounds together
    tokens: int  # of these records
    seconds: float  # that they took
    records_per_second: float
    tokens_per_second: float
    rounds: tuple[float, ...]  # records per second of each round
    busy_share: float | None  # share of the seconds the device computed; None without a clock
    rows_left: int  # of the store, not filled yet
    seconds_left: float  # for these, with one worker like this

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Round:
    records: int
    tokens: int
    seconds: float
    busy: float | None  # seconds that the device computed; None without a clock


def measure(store: Store, *, model: str, config: WorkerConfig, seconds: float) -> Speed:
    """Embed records of a store with rows for about so many seconds; nothing is published."""
    began = time.monotonic()
    # In the precision of the store, so that what is measured is what a worker does.
    encoder = load_for(store, model, config=config, load=load_encoder, warn=log.warning)
    _embed(encoder, _records(store, _FIRST))
    loaded = time.monotonic() - began
    rounds = _rounds(encoder, store, seconds=seconds)
    records = sum(each.records for each in rounds)
    tokens = sum(each.tokens for each in rounds)
    took = sum(each.seconds for each in rounds)
    busy = [each.busy for each in rounds if each.busy is not None]
    left = int((rows_wanted(store.schema) - store.rows_filled(model)).sum())
    provenance = encoder.provenance()
    return Speed(
        model=model,
        device=provenance.environment.get("device", config.device),
        precision=provenance.identity.get("precision", "unknown"),
        load_seconds=loaded,
        records=records,
        tokens=tokens,
        seconds=took,
        records_per_second=records / took,
        tokens_per_second=tokens / took,
        rounds=tuple(each.records / each.seconds for each in rounds),
        busy_share=min(1.0, sum(busy) / took) if busy else None,
        rows_left=left,
        seconds_left=left * took / records,
    )


def _rounds(encoder: Encoder, store: Store, *, seconds: float) -> list[_Round]:
    """Embed for so many seconds in all, or for as long as one small sample takes."""
    count, length = _FIRST, seconds / _ROUNDS
    while True:  # ever larger samples, until one lasts most of a round or is the whole store
        sample = _records(store, count)
        first = _round(encoder, sample, seconds=0.0)
        if first.seconds >= length / 2 or count >= store.n_rows:
            break
        count = int(min(count * length / first.seconds, count * 16)) + 1
    rounds = [first] if first.seconds >= length / 2 else []
    while sum(each.seconds for each in rounds) < seconds - length / 2:
        rounds.append(_round(encoder, sample, seconds=length / 2))
    return rounds


def _round(encoder: Encoder, sample: tuple[Ragged, Ragged], *, seconds: float) -> _Round:
    """Embed a sample once, and again until so many seconds have passed."""
    busy, began = _busy(encoder), time.monotonic()
    times = tokens = 0
    took = 0.0
    while not times or took < seconds:
        tokens += _embed(encoder, sample)
        times += 1
        took = max(time.monotonic() - began, 1e-6)
    busy_now = _busy(encoder)
    spent = None if busy is None or busy_now is None else busy_now - busy
    return _Round(times * len(sample[0]), tokens, took, spent)


def _records(store: Store, count: int) -> tuple[Ragged, Ragged]:
    """Sequences of so many records from all over the store, or a few more."""
    blocks = max(_BLOCKS, -(-count // store.schema.block_rows))
    return spread(store, count=count, blocks=blocks)


def _embed(encoder: Encoder, sample: tuple[Ragged, Ragged]) -> int:
    tokens = encoder.tokenise(*sample)
    encoder.embed(tokens)
    return len(tokens.ids)


def _busy(encoder: Encoder) -> float | None:
    return encoder.busy_seconds if isinstance(encoder, PipelinedEncoder) else None
