"""How fast this machine embeds the records of a store, and how long the rest will take.

A worker embeds blocks, and how fast depends on what shares a batch: of few records hardly any two
have one length. So batches are measured as they come in whole blocks, some of those that a block
falls into, and tokens are counted, as batches differ in length.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.duplicates import NO_DUPLICATE
from store.geometry import rows_wanted
from store.io.ragged import Ragged, from_items
from store.read.columns import take
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import load_for
from vnp.embed.imported import refuse_imported
from vnp.embed.progress import duration, waiting
from vnp.inference.encoder import Encoder, PipelinedEncoder, Run
from vnp.inference.load import load_encoder
from vnp.models.packing import plan
from vnp.models.tokens import Tokens

log = logging.getLogger(__name__)

_BLOCKS = 4  # of the store that the sample is taken from, at most
_ROUNDS = 5  # over the same batches, about
_ENOUGH = 4.0  # seconds over all batches of a small store, again and again


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
    records_per_second: float  # of records as long as those of the store
    tokens_per_second: float
    rounds: tuple[float, ...]  # the same of each round
    busy_share: float | None  # share of the seconds the device computed; None without a clock
    rows_left: int  # of the store, not filled yet
    repeats_share: float  # of all rows, those that are copied from identical ones
    seconds_left: float  # for the rows left, with one worker like this

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
    """Embed records of a store with rows for at most about so many seconds; nothing is published.

    Fewer do where all batches are measured several times before.
    """
    refuse_imported(store, model, advice="there is nothing to measure")
    began = time.monotonic()
    # In the precision of the store, so that what is measured is what a worker does.
    encoder = load_for(store, model, config=config, load=load_encoder, warn=log.warning)
    if isinstance(encoder, PipelinedEncoder):
        encoder.qualify(store, model)
    work = [
        _Block.of(store, encoder, number, dedup=config.dedup)
        for number in middles(store.n_blocks, _BLOCKS)
    ]
    encoder.embed(work[0].tokenise(encoder, 1))
    loaded = time.monotonic() - began
    with waiting(f"bench: {model}, at most about {duration(seconds)}"):
        rounds = _rounds(encoder, work, seconds=seconds)
    records = sum(each.records for each in rounds)
    tokens = sum(each.tokens for each in rounds)
    took = sum(each.seconds for each in rounds)
    busy = [each.busy for each in rounds if each.busy is not None]
    left = int((rows_wanted(store.schema) - store.rows_filled(model)).sum())
    repeats = store.schema.repeats if config.dedup else 0
    share = repeats / store.n_rows
    usual = sum(block.tokens for block in work) / sum(block.rows for block in work)
    provenance = encoder.provenance()
    return Speed(
        model=model,
        device=provenance.environment.get("device", config.device),
        precision=provenance.identity.get("precision", "unknown"),
        load_seconds=loaded,
        records=records,
        tokens=tokens,
        seconds=took,
        records_per_second=tokens / took / usual,
        tokens_per_second=tokens / took,
        rounds=tuple(each.tokens / each.seconds / usual for each in rounds),
        busy_share=min(1.0, sum(busy) / took) if busy else None,
        rows_left=left,
        repeats_share=share,
        seconds_left=seconds_left(
            left, repeats_share=share, tokens_per_record=usual, tokens_per_second=tokens / took
        ),
    )


def seconds_left(
    rows: int, *, repeats_share: float, tokens_per_record: float, tokens_per_second: float
) -> float:
    """Seconds that rows will take; the share that repeats earlier ones is copied, at no cost."""
    return rows * (1 - repeats_share) * tokens_per_record / tokens_per_second


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of the store, in the batches that a worker cuts it into."""

    sequences: tuple[Ragged, Ragged]  # nucleotide, protein
    batches: list[NDArray[np.int64]]  # records of each
    tokens: int
    rows: int  # that the model embeds

    @classmethod
    def of(cls, store: Store, encoder: Encoder, block: int, *, dedup: bool) -> _Block:
        """Read a block and plan its batches, less what a worker copies from earlier rows."""
        sequences = store.sequences(block)
        first = np.flatnonzero(store.column("twin", *store.block_bounds(block)) == NO_DUPLICATE)
        if dedup and len(first):  # of a block of copies alone, the batches are a guess
            sequences = take(sequences[0], first), take(sequences[1], first)
        tokens = encoder.tokenise(*sequences)
        batches = plan(tokens.lengths, token_budget=encoder.token_budget)
        return cls(
            sequences, [batch.records for batch in batches], len(tokens.ids), len(tokens.lengths)
        )

    def tokenise(self, encoder: Encoder, batches: int) -> Tokens:
        """Tokenise so many batches from all over the block."""
        chosen = middles(len(self.batches), batches)
        records = np.concatenate([self.batches[number] for number in chosen]).tolist()
        nucleotide, protein = (
            from_items([column[record] for record in records]) for column in self.sequences
        )
        return encoder.tokenise(nucleotide, protein)


def middles(n: int, most: int) -> list[int]:
    """At most ``most`` of the numbers 0 .. n - 1, one from the middle of each of equal parts."""
    parts = min(n, most)
    return [(2 * part + 1) * n // (2 * parts) for part in range(parts)]


def _rounds(encoder: Encoder, work: list[_Block], *, seconds: float) -> list[_Round]:
    """Embed for so many seconds in all, or as one batch takes; less if all are measured before."""
    batches, length = 1, seconds / _ROUNDS
    most = max(len(block.batches) for block in work)
    while True:  # ever more batches, until they last most of a round or are all
        first = _round(encoder, work[:1], batches, seconds=0.0)
        if first.seconds >= length / 2 or batches >= most:
            break
        batches = int(min(batches * length / first.seconds, batches * 16)) + 1
    if batches >= most:  # more rounds would measure the same batches again
        seconds = min(seconds, max(_ENOUGH, _ROUNDS * len(work) * first.seconds))
        length = seconds / _ROUNDS
    rounds = [first] if first.seconds >= length / 2 else []
    while sum(each.seconds for each in rounds) < seconds - length / 2:
        rounds.append(_round(encoder, work, batches, seconds=length / 2))
    return rounds


def _round(encoder: Encoder, work: list[_Block], batches: int, *, seconds: float) -> _Round:
    """Embed batches of one block after the other, at least one, until so much time has passed."""
    busy, began = _busy(encoder), time.monotonic()
    records = tokens = 0
    runs: deque[Run] = deque()  # waited for as a worker does: not while in the last batch sent
    for block in cycle(work):
        some = block.tokenise(encoder, batches)
        records, tokens = records + len(some), tokens + len(some.ids)
        if isinstance(encoder, PipelinedEncoder):
            runs.append(encoder.submit(some))
            while len(runs) > 1 and not runs[0].in_last_batch:
                runs.popleft().result()
        else:
            encoder.embed(some)
        if time.monotonic() - began >= seconds:
            break
    while runs:
        runs.popleft().result()
    took = max(time.monotonic() - began, 1e-6)
    busy_now = _busy(encoder)
    spent = None if busy is None or busy_now is None else busy_now - busy
    return _Round(records, tokens, took, spent)


def _busy(encoder: Encoder) -> float | None:
    return encoder.busy_seconds if isinstance(encoder, PipelinedEncoder) else None
