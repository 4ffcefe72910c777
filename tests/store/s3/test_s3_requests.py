"""How many requests things take: they cost money and a round trip each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from threading import Event

import numpy as np
import pytest

from store.claims.heartbeat import Heartbeat
from store.claims.participant import Participant
from store.claims.plan import Candidate
from store.claims.worklist import WorkList
from store.open import create_store, open_store
from store.s3 import listing, objects
from store.s3.listing import unsettled
from store.s3.objects import PAGE, TALLY
from store.schema import Model
from tests.rows import append, embeddings
from tests.store.s3.fake import Process, stage
from tests.store.s3.test_s3_faults import PLACE


@contextmanager
def counted() -> Iterator[Counter[str]]:
    before, found = Counter(TALLY.requests), Counter[str]()
    yield found
    found.update(TALLY.requests - before)


@pytest.fixture(autouse=True)
def _server() -> Iterator[None]:
    with stage() as made, made.process(Process()) as process:
        send = process.send

        def count(verb: str, key: str, call):
            TALLY.add(verb)
            return send(verb, key, call)

        process.send = count
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objects, "send", count)
            patch.setattr(Heartbeat, "beat", lambda self: None)
            yield


def filled(rows: int, *, block_rows: int):
    store = create_store(
        PLACE, models=[Model("small", 8)], segment_length=500, block_rows=block_rows
    )
    append(store, "a", rows)
    store.pin_provenance("small", {"name": "small"})
    return store


def test_a_block_published_takes_at_most_seventeen_requests() -> None:
    store = filled(64, block_rows=8)
    with Participant(store.sidecar.room) as worker:
        for block in range(8):
            with counted() as requests:
                claim = worker.claims.try_claim("small", block, seen=0)
                assert claim is not None
                with claim:
                    store.publish(claim, embeddings(store, "small", block))
            assert requests["PUT"] == 5  # claim, values, certificate, filled, release
            assert requests["LIST"] == 0
            assert requests.total() <= 17, requests


def test_a_block_is_read_with_two_requests() -> None:
    store = filled(8, block_rows=8)
    with Participant(store.sidecar.room) as worker:
        claim = worker.claims.try_claim("small")
        assert claim is not None
        store.publish(claim, embeddings(store, "small", 0))
    with counted() as requests:
        reader = open_store(PLACE)
        reader.read("small")
    assert requests == {"GET": 3}  # the root; the flags and the values of the block
    with counted() as requests:
        reader["small"][2:5]
    assert requests == {"LIST": 1, "GET": 2}
    with counted() as requests:
        assert not reader.refresh()
    assert requests == {"GET": 1}


def test_certifying_reads_the_ends_of_blocks() -> None:
    store = filled(64, block_rows=8)
    with Participant(store.sidecar.room) as worker:
        for block in range(8):
            claim = worker.claims.try_claim("small", block)
            assert claim is not None
            store.publish(claim, embeddings(store, "small", block))
    received = TALLY.received
    with counted() as requests:
        assert store.certify("small").complete
    assert requests == {"LIST": 1, "GET": 3 * 8}
    assert TALLY.received - received < 8 * 600, "the values were not read"


def test_an_append_takes_requests_by_columns_and_not_by_samples() -> None:
    store = filled(64, block_rows=8)
    taken = []
    for number in range(6):
        with counted() as requests:
            append(store, f"s{number}", 3)
        taken.append(requests.total())
    assert max(taken) <= 110, taken


def test_claims_are_listed_again_only_where_new_ones_can_be() -> None:
    blocks = 3000
    store = filled(blocks, block_rows=1)
    with Participant(store.sidecar.room) as first:
        for block in range(2800):
            claim = first.claims.try_claim("small", block, seen=0)
            assert claim is not None
            claim.release()
        open_blocks = np.arange(2800, blocks)
        work = WorkList(first.claims, model="small", open_blocks=lambda: open_blocks)
        with counted() as requests:
            assert work.look() == 200
        assert requests["LIST"] == 6, "the first listing reads all of 5,600 names"
        for _ in range(5):
            with counted() as requests:
                assert work.look() == 200
            assert requests["LIST"] == 1, "a later one what can be new"


def test_a_free_block_among_many_taken_ones_is_searched_by_listing_stretches() -> None:
    blocks = 3000
    store = filled(blocks, block_rows=1)
    with Participant(store.sidecar.room) as ours, Participant(store.sidecar.room) as theirs:
        work = WorkList(ours.claims, model="small", open_blocks=lambda: np.arange(blocks))
        first = work.next()
        assert first is not None
        for block in range(blocks):
            if block not in (first.block, 1234):
                assert theirs.claims.try_claim("small", block, seen=0) is not None
        with counted() as requests:
            found = work.next()
        assert found is not None
        assert found.block == 1234
        assert requests["LIST"] <= 24, requests
        assert requests["HEAD"] + requests["GET"] <= 12, requests


def test_the_claims_from_a_block_on_come_as_far_as_one_request_goes() -> None:
    store = filled(8, block_rows=8)
    with Participant(store.sidecar.room) as worker:
        for block in range(600):
            claim = worker.claims.try_claim("small", block, seen=0)
            assert claim is not None
            if block < 550:
                claim.release()
        candidates = [Candidate(40, 0), Candidate(590, 0), Candidate(700, 0)]
        with counted() as requests:
            near, last, beyond = worker.claims.look_around("small", candidates)
        assert requests == {"LIST": 3}
        assert (near.first, near.stop) == (40, 539), "of the last block names may be missing"
        assert np.array_equal(near.scan.block[:-1], np.arange(40, 539))
        assert near.scan.released.all()
        assert last.first == 590
        assert np.array_equal(last.scan.block, np.arange(590, 600))
        assert not last.scan.released.any()
        assert last.stop > 1e9, "nothing comes after these"
        assert (beyond.first, len(beyond.scan.block)) == (700, 0)


def test_filled_blocks_are_listed_again_only_where_new_ones_can_be() -> None:
    blocks = 3000
    store = filled(blocks, block_rows=1)
    for block in range(blocks - 5):
        store._backend._objects.put(f"obs/filled_small/c.{block}", b"1")
    assert len(store._backend.flagged("small")) == blocks - 5
    with counted() as requests:
        assert len(store._backend.flagged("small")) == blocks - 5
    assert requests["LIST"] <= 2
    store._backend._objects.put(f"obs/filled_small/c.{blocks - 2}", b"1")
    assert blocks - 2 in store._backend.flagged("small")
    for block in range(blocks):
        store._backend._objects.put(f"obs/filled_small/c.{block}", b"1")
    assert len(store._backend.flagged("small")) == blocks
    store._backend._objects.delete("obs/filled_small/c.7")
    assert 7 not in store._backend.flagged("small"), "opened again by another process"


def test_a_long_listing_is_made_in_pieces_at_a_time(
    monkeypatch: pytest.MonkeyPatch, two_at_a_time: Callable[[str, str], Event]
) -> None:
    blocks = 5000
    store = filled(blocks, block_rows=1)
    for block in range(blocks):
        store._backend._objects.put(f"obs/filled_small/c.{block}", b"1")
        store.sidecar.room.mark(f"claims/small/{block}.1")
    met = two_at_a_time("LIST", "obs/")
    monkeypatch.setattr(listing, "_PIECE", PAGE)
    with counted() as requests:
        assert len(store._backend.flagged("small")) == blocks
    assert requests == {"LIST": 2 * 5}
    assert met.is_set()
    with Participant(open_store(PLACE).sidecar.room) as worker:
        met = two_at_a_time("LIST", "claims/")
        assert len(worker.claims.scan("small").block) == blocks
        assert met.is_set()


def test_certificates_are_read_several_at_a_time(
    two_at_a_time: Callable[[str, str], Event],
) -> None:
    store = filled(9, block_rows=1)
    with Participant(store.sidecar.room) as worker:
        for block in range(9):
            claim = worker.claims.try_claim("small", block)
            assert claim is not None
            store.publish(claim, embeddings(store, "small", block))
    met = two_at_a_time("GET", "obs/certificate")
    with counted() as requests:
        assert store.certify("small").complete
    assert requests == {"LIST": 1, "GET": 3 * 9}
    assert met.is_set()


@pytest.mark.parametrize(
    ("ranges", "size", "wanted"),
    [
        ([(0, None)], 5, [(0, None)]),
        ([(0, None)], 25, [(0, 10), (10, 20), (20, None)]),
        ([(0, 10), (30, None)], 40, [(0, 10), (30, None)]),
        ([(3, 14)], 40, [(3, 13), (13, 14)]),
        ([(5, None)], None, [(5, 15), (15, 25), (25, 35)]),
        ([], 40, []),
    ],
)
def test_ranges_are_cut_into_pieces(ranges, size, wanted) -> None:
    assert list(islice(listing.pieces(ranges, size=size, length=10), 3)) == wanted


@pytest.mark.parametrize(
    ("settled", "size", "wanted"),
    [
        ([], None, [(0, None)]),
        (range(5000), None, [(5000, None)]),
        (range(5000), 5000, []),
        ([*range(2000), *range(2010, 5000)], 5000, [(2000, 2010)]),
        (range(100, PAGE), 5000, [(0, None)]),
        (range(100, 3000), 5000, [(0, 100), (3000, None)]),
    ],
)
def test_long_runs_that_are_settled_are_jumped_over(settled, size, wanted) -> None:
    assert unsettled(np.array(list(settled), dtype=np.int64), size=size) == wanted
