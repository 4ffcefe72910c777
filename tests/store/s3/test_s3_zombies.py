"""Appenders that were frozen and thaw, and requests that arrive late: they find that they lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from store.backend import Cell, Part
from store.claims.participant import Participant
from store.errors import ClaimLostError, StoreError
from store.findings import Remedy
from store.io.ragged import Ragged, from_items
from store.layout import row_columns
from store.open import open_store
from store.s3.objects import Objects
from store.schema import Schema
from store.store import Store
from store.zarr.codec import decode_strings, encode_strings, with_nonce
from tests.rows import append, batch, embeddings, publish
from tests.store.s3.fake import Process, Stage, stage
from tests.store.s3.test_s3_faults import PLACE, create


@pytest.fixture
def made() -> Iterator[Stage]:
    with stage() as found, found.process(Process()):
        yield found


def rows_of(store: Store) -> list[bytes]:
    ids = store.column("id")
    assert isinstance(ids, Ragged)
    return ids.tolist()


@dataclass
class Frozen(Process):
    """A process that is stopped before its request ``at`` until others have done something."""

    meanwhile: Callable[[], None] = lambda: None

    def send(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        if self.requests == self.at and not self.came:
            self.came = True
            self.meanwhile()
        self.requests += 1
        return call()


def freeze_at(number: int) -> tuple[bool, list[str]]:
    """Freeze an append at a request while another takes its lock and appends."""
    with stage() as made:
        with made.process(Process()):
            append(create(), "a", 11)

        def other() -> None:
            made.gone.add(made.number)  # as a lease without a heartbeat says
            with made.process(Process()):
                append(open_store(PLACE), "b", 20)

        frozen = Frozen(at=number, meanwhile=other)
        with made.process(frozen), suppress(StoreError, OSError):
            append(open_store(PLACE), "z", 20)
        with made.process(Process()):
            store = open_store(PLACE)
            names = [sample.name for sample in store.schema.samples]
            wanted = [
                item
                for name, rows in zip(names, (11, 20, 20), strict=False)
                for item in batch(name, 0, rows).id.tolist()
            ]
            assert rows_of(store) == wanted, f"frozen at request {number}"
            found = [finding for finding in store.verify() if finding.is_damage]
            # Metadata of arrays are written without a condition: a stale one is only said.
            assert all(finding.remedy is Remedy.REWRITE for finding in found), found
            append(store, "c", 9)
            assert rows_of(store) == [*wanted, *batch("c", 0, 9).id.tolist()]
        return frozen.came, names


@pytest.mark.slow
def test_an_appender_that_thaws_at_any_request_undoes_nothing() -> None:
    number, came, seen = 0, True, set()
    while came:
        came, names = freeze_at(number)
        if came:
            assert "b" in names, "the other's append stands"
        seen.add(tuple(names))
        number += 1
    assert number > 60
    assert seen >= {("a", "b"), ("a", "z", "b")}


def work(*, add: float) -> None:
    """Fill what is open, with numbers that tell who did."""
    store = open_store(PLACE)
    with Participant(store.sidecar.room) as worker:
        store.pin_provenance("small", {"name": "small"})
        for block in store.open_blocks("small").tolist():
            claim = worker.claims.try_claim("small", block)
            if claim is None:
                continue
            with claim:
                values = embeddings(store, "small", block) + np.float16(add)
                store.publish(claim, values)


@pytest.mark.slow
def test_a_worker_that_thaws_at_any_request_leaves_blocks_of_one_owner() -> None:
    number, came = 0, True
    while came:
        with stage() as made:
            with made.process(Process()):
                append(create(), "a", 4)
                work(add=0)
                append(open_store(PLACE), "b", 8)  # a tail that grows, and a new block

            def other(made: Stage = made) -> None:
                made.gone.add(made.number)
                with made.process(Process()):
                    work(add=1)

            frozen = Frozen(at=number, meanwhile=other)
            with made.process(frozen), suppress(StoreError, OSError):
                work(add=2)
            with made.process(Process()):
                work(add=1)  # what a worker that dropped its block leaves open
                store = open_store(PLACE)
                certification = store.certify("small")
                assert certification.complete, f"frozen at {number}: {certification.failed}"
                assert list(store.verify()) == []
                start = embeddings(store, "small", 0)
                added = store.read("small", 0, 8) - start
                assert len(np.unique(added)) == 1, "a block is one worker's"
        came = frozen.came
        number += 1
    assert number > 30


def test_a_swap_that_arrives_late_finds_other_bytes_than_it_saw(made: Stage) -> None:
    """A leftover with the very bytes that are committed later does not let a zombie in."""
    store = create()
    append(store, "a", 8)
    key = row_columns(store.schema)["id"].chunk_key(1)
    left = encode_strings(batch("b", 0, 8).id, column=row_columns(store.schema)["id"])
    seen = Objects(PLACE).create(key, left)
    assert seen is not None
    append(store, "b", 16)
    assert Objects(PLACE).swap(key, b"of the zombie", seen) is None
    assert rows_of(open_store(PLACE))[8:16] == batch("b", 0, 8).id.tolist()
    assert list(open_store(PLACE).verify()) == []


def test_an_append_that_fails_leaves_no_bytes(made: Stage) -> None:
    store = create()
    append(store, "a", 11)
    before = dict(made.server.objects)

    def fail() -> None:
        with store.appending() as appending:
            appending.write(batch("b", 0, 50))
            raise ValueError("line 51 is not DNA")

    with pytest.raises(ValueError, match="line 51"):
        fail()
    after = {name: content for name, content in made.server.objects.items() if content}
    assert {k: v for k, v in after.items() if ".vnp/" not in k} == {
        k: v for k, v in before.items() if ".vnp/" not in k
    }
    findings = list(store.verify())
    assert findings
    for finding in findings:
        store.remove(finding)
    assert list(store.verify()) == []


def test_a_worker_of_the_smaller_tail_cannot_write_over_the_larger(made: Stage) -> None:
    store = create()
    append(store, "a", 4)
    publish(store, "small", 0)
    late = open_store(PLACE)
    append(store, "b", 4)
    old = embeddings(late, "small", 0)
    content, _ = late._backend.encode("small", old)
    key = "obsm/X_small/c.0.0"
    assert late._backend.read_values(Cell(Part.VALUES, "small", 0), 4) is not None  # judged
    publish(store, "small", 0)
    with pytest.raises(ClaimLostError, match="meanwhile"):
        late._backend.write_file(key, content + b"!")
    assert store.certify("small").complete


def test_a_chunk_with_a_nonce_reads_as_the_same_everywhere() -> None:
    import zarr
    from zarr.storage import MemoryStore

    column = row_columns(Schema(block_rows=8, segment_length=500))["contig"]
    values = from_items([b"one", b"two"])
    content = encode_strings(values, column=column)
    other = with_nonce(content)
    assert other != content != with_nonce(content)
    assert (
        decode_strings(other, column=column).tolist()
        == decode_strings(content, column=column).tolist()
    )
    files = MemoryStore()
    array = zarr.create_array(
        files, shape=(4,), chunks=(4,), dtype="int32", compressors=[zarr.codecs.ZstdCodec(level=1)]
    )
    array[:] = [1, 2, 3, 4]
    raw = files._store_dict["c/0"].to_bytes()
    frame = with_nonce(raw + b"\0\0\0\0")[:-4]
    files._store_dict["c/0"] = zarr.core.buffer.cpu.Buffer.from_bytes(frame)
    np.testing.assert_array_equal(array[:], [1, 2, 3, 4])
