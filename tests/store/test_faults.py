"""Every call of every backend fails, or is the last before a kill: nothing is lost.

A scenario appends (twice into one block), publishes full and tail blocks, adds a model, keeps
scores and opens a block again. It is disturbed at each of its calls in turn; the next run must find
every certified row, count no other, finish, and leave the store as an undisturbed run does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.backend import Backend
from store.errors import StoreError
from store.hdf5.backend import Hdf5Backend
from store.io.ragged import Ragged
from store.schema import Model, Schema
from store.store import Store
from store.zarr.backend import ZarrBackend
from tests.rows import append, embeddings, expected, publish
from tests.store.faulty_backend import READS, WRITES, Faults, FaultyBackend, Stopped
from tests.store.memory_backend import MemoryBackend

pytestmark = pytest.mark.slow

R = 8
SCORES = np.arange(80, dtype=np.float32).reshape(-1, 2)
KINDS: dict[str, Any] = {"memory": MemoryBackend, "zarr": ZarrBackend, "h5": Hdf5Backend}
MODES: list[tuple[bool, Any]] = [
    (after, error) for after in (False, True) for error in (OSError, Stopped)
]


class Certified(dict[tuple[str, int], int]):
    """Rows that publishing has promised, by model and block."""


def fill(store: Store, promised: Certified) -> None:
    for model in store.schema.models:
        for block in store.open_blocks(model.name).tolist():
            publish(store, model.name, block)
            promised[model.name, block] = len(embeddings(store, model.name, block))


def scenario(store: Store, promised: Certified) -> None:
    """Do whatever is not done yet."""
    if store.schema.sample("a") is None:
        append(store, "a", 11)
    fill(store, promised)
    if store.schema.sample("b") is None:
        append(store, "b", 9)  # into the block of the tail, and beyond it
    if all(model.name != "late" for model in store.schema.models):
        store.add_model(Model("late", 4))
    promised.pop(("small", 0), None)
    store.reopen("small", 0)
    fill(store, promised)
    rows = [(0, store.n_rows)]
    store.save_scores("phage", digest="sha256:1", values=SCORES[: store.n_rows], rows=rows)


def facts(store: Store) -> dict[str, Any]:
    """Everything that a store says, but for times."""
    found: dict[str, Any] = {"scores": store.scores("phage").tolist()}
    for sample in store.schema.samples:
        found[f"sample {sample.name}"] = (sample.start, sample.stop, sample.repeats)
    names = ("id", "contig", "sample", "start", "digest", "twin", "nucleotide", "protein")
    for name in (*names, "contig_length"):
        values = store.column(name)
        found[name] = values.tolist() if isinstance(values, Ragged) else values.tobytes()
    for model in store.schema.models:
        found[f"values {model.name}"] = store.read(model.name).tobytes()
        found[f"provenance {model.name}"] = store.provenance(model.name)
        for block in range(store.n_blocks):
            certificate = store.certificate(model.name, block)
            assert certificate is not None
            found[f"{model.name} {block}"] = (
                certificate.rows,
                certificate.crc32c,
                certificate.worker,
            )
    return found


def assert_nothing_lost(store: Store, promised: Certified) -> None:
    assert store.n_rows in (0, 11, 20)
    for (model, block), rows in promised.items():
        start = block * R
        found = store.read(model, start, start + rows)
        np.testing.assert_array_equal(found, expected(store, model)[start : start + rows])
    for model in store.schema.models:
        filled = store.filled(model.name)
        values = store.read(model.name)
        np.testing.assert_array_equal(values[filled], expected(store, model.name)[filled])
        assert np.isnan(values[~filled]).all(), "what is not certified does not count"
        for block, rows in enumerate(store.rows_filled(model.name).tolist()):
            certificate = store.certificate(model.name, block) if rows else None
            assert not rows or (certificate is not None and certificate.rows >= rows)


def new_store(kind: str, folder: Path) -> Backend:
    folder.mkdir(parents=True)
    models = (Model("small", 8),)
    schema = Schema(block_rows=R, segment_length=500, models=models, contig_lengths=True)
    return KINDS[kind].new(folder / f"run.{kind}", schema)


def disturbed(backend: Backend, faults: Faults, promised: Certified) -> bool:
    """Run the scenario; whether the fault came."""
    try:
        scenario(Store(FaultyBackend(backend, faults)), promised)
    except (OSError, Stopped, StoreError):
        return True
    return False


def every_call(
    kind: str, folder: Path, *, counted: frozenset[str], modes: list[tuple[bool, Any]]
) -> int:
    """Disturb the scenario at each of its calls in turn; how many there were."""
    undisturbed = Store(new_store(kind, folder / "undisturbed"))
    scenario(undisturbed, Certified())
    assert list(undisturbed.verify()) == []
    wanted = facts(undisturbed)
    at, came = 0, True
    while came:
        for number, (after, error) in enumerate(modes):
            promised = Certified()
            backend = new_store(kind, folder / f"{at}.{number}")
            faults = Faults(at, after=after, error=error, counted=counted)
            came = disturbed(backend, faults, promised)
            store = Store(KINDS[kind].open(backend.path))
            assert_nothing_lost(store, promised)
            scenario(store, promised)
            assert facts(store) == wanted, f"call {at}, after={after}, {error.__name__}"
            assert list(store.verify()) == []
        at += 1
    return at


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_every_writing_call_loses_nothing(kind: str, tmp_path: Path) -> None:
    assert every_call(kind, tmp_path, counted=WRITES, modes=MODES) > 30


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_every_call_loses_nothing(kind: str, tmp_path: Path) -> None:
    # Reading has no effect, so there is nothing between "before" and "after" it.
    modes = MODES[:2] if kind == "memory" else [(False, Stopped)]
    assert every_call(kind, tmp_path, counted=WRITES | READS, modes=modes) > 80
