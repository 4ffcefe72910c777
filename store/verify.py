"""Re-reading a whole store, and naming what is not as it must be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from store.backend import Backend, Cell, Part
from store.blocks import threads_for, verify_block
from store.errors import DamageError
from store.findings import Finding, Kind, Remedy
from store.geometry import n_blocks
from store.io.concurrent import in_order, processors
from store.io.json import parse_json

# Threads that read large blocks although nothing waits: a fourth of their time is in the checksum,
# which holds the interpreter.
_READERS = min(4, processors())
_PARALLEL_BYTES = 1 << 20


def verify(backend: Backend, *, threads: int | None = None) -> Iterator[Finding]:
    """Read every byte of the store: metadata and rows, then each model's provenance and blocks.

    Several blocks are read concurrently, see `store.io.concurrent.in_order` for ``threads``; the
    findings come in the order of the blocks.
    """
    schema = backend.schema
    yield from backend.verify()
    for model in schema.models:
        yield from _verify_provenance(backend, model.name)

        buffers = _Buffers(schema.block_rows, model.dim)

        def findings_of(
            block: int, name: str = model.name, buffers: _Buffers = buffers
        ) -> list[Finding]:
            return list(verify_block(backend, name, block, buffer=buffers.rows))

        blocks = range(n_blocks(schema.n_rows, schema.block_rows))
        most = threads_for(schema, model.name)
        parallel = _READERS if buffers.rows.nbytes >= _PARALLEL_BYTES else 1
        found = in_order(findings_of, blocks, threads=threads, most=most, parallel=parallel)
        for findings in found:
            yield from findings


class _Buffers(threading.local):
    """Memory for the rows of a block, of each thread: fresh memory costs as much as reading."""

    def __init__(self, rows: int, dim: int) -> None:
        self.rows = np.empty((rows, dim), np.float16)


def read_provenance(backend: Backend, model: str) -> dict[str, Any] | None:
    """Return a model's provenance, or None; DamageError if it is damaged."""
    content = backend.read(Cell(Part.PROVENANCE, model))
    if content is None:
        return None
    try:
        value = parse_json(content)
    except ValueError as error:
        raise DamageError(str(error)) from None
    if not isinstance(value, dict):
        raise DamageError("provenance is not a JSON object")
    return value


def _verify_provenance(backend: Backend, model: str) -> Iterator[Finding]:
    name = backend.name(Cell(Part.PROVENANCE, model))
    try:
        provenance = read_provenance(backend, model)
    except DamageError as error:
        yield Finding(Kind.DAMAGED, name, str(error), Remedy.REPIN, model)
        return
    if provenance is None and len(backend.flagged(model)):
        detail = f"blocks of {model} are filled but its provenance is missing"
        yield Finding(Kind.MISSING, name, detail, Remedy.REPIN, model)
