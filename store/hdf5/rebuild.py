"""Rebuilding a store's file from its rows, where another program moved or broke its structures.

A new file is made beside the old one and takes its place in one step. It has every row, and every
block whose certificate and rows agree; other blocks are open in it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from store import blocks, counts
from store.backend import Backend, Cell, Part
from store.claims.claims import APPEND
from store.claims.participant import Participant
from store.errors import BusyError, DamageError
from store.geometry import block_bounds, n_blocks
from store.io.files import fsync_dir
from store.layout import row_columns
from store.schema import Schema
from store.sidecar import sidecar_of
from store.verify import read_provenance

log = logging.getLogger(__name__)


def rebuild(old: Backend, create: Callable[[Path, Schema], Backend]) -> None:
    """Put a new file in the place of a store's; the caller holds the appender's lock.

    ``create`` makes an empty store.

    Raises
    ------
    BusyError
        If a worker holds a claim.
    DamageError
        If rows cannot be read; the old file stays.
    """
    path = old.path
    assert isinstance(path, Path)
    sidecar = sidecar_of(path)
    _require_idle(sidecar.path)
    made = sidecar.make().temporary("rebuild").with_suffix(path.suffix)
    try:
        new = _with_rows(old, partial(create, made))
        for model in old.schema.models:
            _copy_blocks(old, new, model.name)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        shutil.copymode(path, made)
        made.replace(path)
        fsync_dir(path.parent)
    finally:
        made.unlink(missing_ok=True)
        shutil.rmtree(sidecar_of(made).path, ignore_errors=True)
    log.warning(
        "%s was rebuilt from its rows: another program had changed it, and what it added is not "
        "there",
        old.path,
    )


def _require_idle(sidecar: Path) -> None:
    claims = Participant(sidecar).claims
    for model in claims.models():
        for state in claims.states(model) if model != APPEND else ():
            if state.verdict is None or not state.verdict.stale:
                raise BusyError(
                    f"block {state.block} of {model} is claimed by {state.identity or 'a worker'}: "
                    "wait until the workers are done, or end them, then run the command again"
                )


def _with_rows(old: Backend, create: Callable[[Schema], Backend]) -> Backend:
    """Make a file with all rows, scores and models of a store, and no block filled."""
    schema = old.schema
    new = create(replace(schema, samples=(), scores=()))
    change = new.begin(lambda: None)
    try:
        for name in row_columns(schema):
            for block in range(n_blocks(schema.n_rows, schema.block_rows)):
                start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
                change.append(name, old.read_column(name, block, stop - start))
        change.commit(replace(schema, scores=()))
    finally:
        change.abort()
    new = new.newest()
    for scores in schema.scores:
        try:
            values = old.read_scores(scores.name, 0, schema.n_rows)
        except DamageError:
            log.warning("scores %s are lost: run 'vnp predict --save' again", scores.name)
            continue
        change = new.begin(lambda: None)
        try:
            change.write_scores(scores.name, values, [(0, len(values))], kept=0)
            change.commit(new.schema.with_scores(scores))
        finally:
            change.abort()
        new = new.newest()
    return new


def _copy_blocks(old: Backend, new: Backend, model: str) -> None:
    """Copy a model's provenance and its blocks, each as it was certified."""
    try:
        known = read_provenance(old, model) is not None
    except DamageError:
        known = False  # the next worker records it again
    if known:
        cell = Cell(Part.PROVENANCE, model)
        new.create(cell, old.read(cell) or b"")
    for block in np.flatnonzero(counts.rows_filled(old, model)).tolist():
        if any(found.is_damage for found in blocks.verify_block(old, model, block)):
            log.warning("block %d of %s is damaged: it is open in the new file", block, model)
            continue
        blocks.copy_block(old, new, model, block)
