"""Settings of a worker in one place; the command line shows only those that a user needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from store.claims.heartbeat import INTERVAL
from store.claims.liveness import LEASE
from vnp.inference.encoder import Precision


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How a worker goes about its work."""

    models: tuple[str, ...] = ()  # models to fill, in this order; none: all of the store
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:N"
    precision: Precision = "auto"  # "auto": the store's, else what suits the device
    weights_dir: Path | None = None  # looked in before the Hugging Face cache and hub
    token_budget: int | None = None  # most tokens in a batch; None: what suits the device
    threads: int | None = None  # CPU threads; None: those the process may run on
    lease: float = LEASE  # seconds of standstill after which another worker counts as dead
    heartbeat: float = INTERVAL  # seconds between signs of life
    poll: float = 2.0  # seconds between two looks for a block when others hold all open ones
    dedup: bool = True  # copy the embeddings of identical records instead of making them again
    linger: bool = True  # stay until every block is filled, ready to take over from the dead
    prefetched: int = 1  # blocks claimed and tokenised ahead of the one being embedded
    unpublished: int = 1  # embedded blocks that may wait for the disk
