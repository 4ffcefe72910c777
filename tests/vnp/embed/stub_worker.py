"""A worker with a stub model, run as a process of its own by the tests that kill and freeze it.

``python -m tests.vnp.embed.stub_worker STORE [--lease S] [--heartbeat S] [--pause-at STEP]``

The stub embeds by arithmetic on the sequences alone, so every undisturbed run gives the same rows
(`stub_rows`). With ``--pause-at`` the worker prints the step's name and waits for a line on
standard input each time it comes there: the tests freeze it at a known place.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from vnp.embed.config import WorkerConfig
from vnp.embed.worker import Worker
from vnp.inference.encoder import Provenance
from vnp.models.tokens import Tokens

DIMS = {"small": 8, "wide": 20}


def stub_rows(nucleotide: Ragged, protein: Ragged, dim: int) -> NDArray[np.float32]:
    """What the stub gives for records: float32 (n, dim), exact in float16."""
    dna = nucleotide.lengths[:, None] * 3 + protein.lengths[:, None]
    letters = np.array([sum(item) % 97 for item in nucleotide.tolist()])[:, None]
    return ((dna + letters + np.arange(dim)) % 211 / 8).astype(np.float32)


class StubEncoder:
    """An encoder without a model."""

    token_budget = 64

    def __init__(self, name: str, *, step: Callable[[str], None] = lambda _: None) -> None:
        self.name = name
        self.dim = DIMS[name]
        self.spec: Any = SimpleNamespace(name=name)
        self._step = step
        self._columns: dict[int, tuple[Ragged, Ragged]] = {}

    def provenance(self) -> Provenance:
        return Provenance(
            identity={"model": self.name, "weights": "stub", "precision": "float32"},
            environment={"device": "stub"},
        )

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:
        tokens = Tokens(np.zeros(int(nucleotide.lengths.sum()), np.int32), nucleotide.lengths)
        self._columns[id(tokens)] = (nucleotide, protein)
        return tokens

    def embed(
        self, tokens: Tokens, *, between: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        self._step("embedding")
        nucleotide, protein = self._columns.pop(id(tokens))
        if between is not None:
            between(len(tokens) // 2)
            between(len(tokens))
        rows = stub_rows(nucleotide, protein, self.dim)
        self._step("embedded")
        return rows


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--lease", type=float, default=60.0)
    parser.add_argument("--heartbeat", type=float, default=0.05)
    parser.add_argument("--pause-at", default="")
    options = parser.parse_args()

    def step(name: str) -> None:
        if name == options.pause_at:
            print(name, flush=True)
            sys.stdin.readline()

    def load(name: str, **_: object) -> StubEncoder:
        return StubEncoder(name, step=step)

    config = WorkerConfig(lease=options.lease, heartbeat=options.heartbeat, poll=0.05)
    worker = Worker(options.store, config=config, stop=threading.Event(), load=load)
    print(json.dumps(worker.run().to_json()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
