"""Re-reading a whole store, and naming what is not as it must be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from store.backend import Backend, Cell, Part
from store.blocks import threads_for, verify_block
from store.errors import DamageError
from store.findings import Finding, Kind, Remedy
from store.geometry import n_blocks
from store.io.concurrent import in_order
from store.io.json import parse_json


def verify(backend: Backend, *, threads: int | None = None) -> Iterator[Finding]:
    """Read every byte of the store: metadata and rows, then each model's provenance and blocks.

    Several blocks are read concurrently, see `store.io.concurrent.in_order` for ``threads``; the
    findings come in the order of the blocks.
    """
    schema = backend.schema
    yield from backend.verify()
    for model in schema.models:
        yield from _verify_provenance(backend, model.name)

        def findings_of(block: int, name: str = model.name) -> list[Finding]:
            return list(verify_block(backend, name, block))

        blocks = range(n_blocks(schema.n_rows, schema.block_rows))
        most = threads_for(schema, model.name)
        for findings in in_order(findings_of, blocks, threads=threads, most=most):
            yield from findings


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
