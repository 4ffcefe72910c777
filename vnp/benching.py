"""How fast this machine embeds the records of a store, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from store.interface import Store
from store.progress import rows_wanted
from store.ragged import Ragged, concatenate
from vnp.config import WorkerConfig
from vnp.models.encoder import Encoder, PipelinedEncoder, Precision, load_encoder

_FIRST = 32  # records of the first, smallest measurement


@dataclass(frozen=True, slots=True)
class Speed:
    """One model on this machine's device."""

    model: str
    device: str
    precision: str
    load_seconds: float  # loading and the first small batch, kernels compiled
    records: int  # measured
    tokens: int  # of these
    seconds: float  # in which they were tokenised and embedded
    busy_share: float | None  # of these, the device computed; None where it has no clock
    rows_left: int  # of the store, not filled yet
    seconds_left: float  # for these, with one worker like this

    @property
    def records_per_second(self) -> float:
        """Rate in records."""
        return self.records / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Rate in tokens."""
        return self.tokens / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        rates = {
            "records_per_second": self.records_per_second,
            "tokens_per_second": self.tokens_per_second,
        }
        return {**asdict(self), **rates}


def measure(
    store: Store,
    *,
    model: str,
    config: WorkerConfig,
    seconds: float,
    say: Callable[[str], None],
    load: Callable[..., Encoder] = load_encoder,
) -> Speed:
    """Embed records of a store for about so many seconds; nothing is published.

    Parameters
    ----------
    store
        A store with at least one row.
    model
        One of its models.
    config
        Device, precision and where the weights are.
    seconds
        How long to measure, loading left out.
    say
        Told about fall-backs.
    load
        Loads an encoder; tests put their own here.
    """
    began = time.monotonic()
    encoder = load(
        model,
        device=config.device,
        precision=_precision(store, model, config.precision),
        weights_dir=config.weights_dir,
        token_budget=config.token_budget,
        threads=config.threads,
        warn=say,
    )
    _embed(encoder, _records(store, _FIRST))
    loaded = time.monotonic() - began
    # Ever larger samples, until one lasts long enough to be believed or the store has no more.
    count = _FIRST
    while True:
        sample = _records(store, count)
        busy = _busy(encoder)
        began = time.monotonic()
        tokens = _embed(encoder, sample)
        took = max(time.monotonic() - began, 1e-6)
        if took >= seconds / 2 or len(sample[0]) < count:
            break
        count = int(min(count * seconds / took, count * 16)) + 1
    busy_now = _busy(encoder)
    records = len(sample[0])
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
        busy_share=None if busy is None or busy_now is None else min(1.0, (busy_now - busy) / took),
        rows_left=left,
        seconds_left=left * took / records,
    )


def _precision(store: Store, model: str, asked: Precision) -> Precision:
    """Precision asked for; else the store's, so that what is measured is what a worker does."""
    standing = store.provenance(model)
    identity = standing.get("identity") if standing is not None else None
    known = identity.get("precision") if isinstance(identity, dict) else None
    return cast("Precision", known) if asked == "auto" and isinstance(known, str) else asked


def _records(store: Store, count: int) -> tuple[Ragged, Ragged]:
    """Sequences of the first records of as many blocks as it takes."""
    nucleotide, protein = [], []
    rows = 0
    for block in range(store.n_blocks):
        dna, aa = store.sequences(block)
        take = min(count - rows, len(dna))
        nucleotide.append(dna.slice(0, take))
        protein.append(aa.slice(0, take))
        rows += take
        if rows == count:
            break
    return concatenate(nucleotide), concatenate(protein)


def _embed(encoder: Encoder, sample: tuple[Ragged, Ragged]) -> int:
    tokens = encoder.tokenise(*sample)
    encoder.embed(tokens)
    return len(tokens.ids)


def _busy(encoder: Encoder) -> float | None:
    return encoder.busy_seconds if isinstance(encoder, PipelinedEncoder) else None
