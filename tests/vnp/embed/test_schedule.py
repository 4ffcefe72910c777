"""Which block comes next and when; the last ones are left to workers that finish them sooner."""

from __future__ import annotations

import pytest

from store.claims.heartbeat import Beat
from store.claims.participant import Participant
from store.open import create_store
from store.schema import Model
from tests.rows import append
from tests.vnp.embed.stub_worker import StubEncoder
from vnp.embed.report import Accounts
from vnp.embed.schedule import Prefetch, Scheduler, blocks_finished_by_others, pace_of


def beat(**progress):
    return Beat("f" * 32, None, 1, ended=False, progress=progress)


def test_pace_is_of_the_same_model_and_a_number():
    assert pace_of(beat(model="small", record_seconds=0.5), "small") == 0.5
    assert pace_of(beat(model="wide", record_seconds=0.5), "small") is None
    assert pace_of(beat(model="small", record_seconds=2), "small") == 2.0
    odd_ones = (None, "1", float("nan"), float("inf"), 0, -1.0, [1], {}, True, 10**400, 5e-324)
    for odd in odd_ones:
        assert pace_of(beat(model="small", record_seconds=odd), "small") is None
    assert pace_of(beat(), "small") is None


@pytest.mark.parametrize(
    ("paces", "blocks"),
    [
        ([], 0),
        ([10.0, 6.0, 30.0], 0),  # one of 6 s is working on a block: it would not end sooner
        ([5.0], 1),
        ([5.1], 1),  # about half
        ([1.0], 9),
        ([1.0, 5.0, 20.0], 10),
    ],
)
def test_blocks_that_others_finish_meanwhile(paces, blocks):
    assert blocks_finished_by_others(10.0, paces) == blocks


class OneWorker:
    """A worker's scheduler and accounts, with five open blocks of 16 rows."""

    def __init__(self, folder, others, *, clock=lambda: 0.0):
        store = create_store(
            folder / "run.zarr", models=[Model("small", 8)], segment_length=500, block_rows=16
        )
        append(store, "a", 70)
        store.sidecar.make()
        self.accounts = Accounts(block_rows=16, clock=clock)
        self.scheduler = Scheduler(
            store,
            claims=Participant(store.sidecar.path).claims,
            models=("small",),
            encoder_of=StubEncoder,
            accounts=self.accounts,
            others=lambda: others,
            clock=clock,
        )
        self._embedded_until = 0.0

    def next(self):
        return self.scheduler.next()

    def embeds(self, *, records=16, seconds=16.0):
        began = self._embedded_until
        self._embedded_until += seconds
        self.accounts.embedded(
            "small", records=records, submitted=began, ended=self._embedded_until
        )


def test_a_slow_worker_leaves_the_last_blocks_and_takes_them_if_the_others_die(tmp_path):
    others = []
    worker = OneWorker(tmp_path, others)
    assert worker.next() is not None  # it knows no pace yet, of nobody
    worker.embeds()
    assert worker.accounts.seconds_per_record("small") == 1.0
    assert worker.next() is not None  # there is nobody else
    others.append(beat(model="small", record_seconds=0.4))
    assert worker.next() is not None  # the other would do one of the three that are left
    others.append(beat(model="small", record_seconds=0.5))
    assert worker.next() is None  # two that are left, two are done sooner by others
    assert not worker.scheduler.exhausted
    assert worker.next() is None
    others.clear()
    assert [worker.next() is not None for _ in range(3)] == [True, True, False]


def test_it_does_not_wait_longer_than_it_would_have_taken(tmp_path):
    now = [100.0]
    others = [beat(model="small", record_seconds=0.01)]  # alive, but stuck
    worker = OneWorker(tmp_path, others, clock=lambda: now[0])
    assert worker.next() is not None
    worker.embeds()
    assert worker.next() is None
    now[0] += 15.9
    assert worker.next() is None
    now[0] += 0.2
    for _ in range(4):
        assert worker.next() is not None
    assert worker.next() is None


def test_a_fast_worker_leaves_nothing(tmp_path):
    others = [beat(model="small", record_seconds=seconds) for seconds in (0.9, 1.0, 1.1, 50.0)]
    worker = OneWorker(tmp_path, others)
    for _ in range(5):
        assert worker.next() is not None
        worker.embeds()
    assert worker.next() is None


def test_a_block_with_few_records_to_embed_tells_no_pace(tmp_path):
    worker = OneWorker(tmp_path, [])
    worker.embeds(records=0, seconds=1.0)
    worker.embeds(records=16, seconds=0.0)
    worker.embeds(records=3, seconds=12.0)  # of 16; mostly what any block takes
    assert worker.accounts.seconds_per_record("small") is None
    worker.embeds(records=4, seconds=12.0)
    assert worker.accounts.seconds_per_record("small") == 3.0


def test_the_next_block_is_asked_for_once_one_is_prepared_and_when_little_is_left():
    prefetch = Prefetch()
    assert prefetch.wait(0), "the first block is wanted at once"
    prefetch.prepared(0.5)
    assert not prefetch.wait(0)
    assert (prefetch.is_due(2.1), prefetch.is_due(2.0)) == (False, True)  # 4 times as long
    prefetch.request()
    assert prefetch.wait(0)
    prefetch.prepared(None)  # a model was loaded too: that says nothing about the next block
    assert (prefetch.is_due(2.1), prefetch.is_due(2.0)) == (False, True)
    prefetch.prepared(0.01)
    assert (prefetch.is_due(1.1), prefetch.is_due(1.0)) == (False, True)  # at least a second


def test_short_blocks_are_read_ahead_if_others_can_do_without_them():
    spared = []

    def spares(blocks):
        spared.append(blocks)
        return blocks <= 3

    prefetch = Prefetch(5, spares=spares)
    prefetch.prepared(0.01, model="small")
    assert not prefetch.wait(0), "how long its blocks take is not known yet"
    prefetch.submitted()
    prefetch.request()
    assert prefetch.wait(0)
    prefetch.prepared(0.01, model="small")
    prefetch.embedded("small", 0.2)
    for more in (2, 3):
        assert prefetch.wait(0)
        assert spared[-1] == more
        prefetch.prepared(0.01, model="small")
    assert not prefetch.wait(0), "others need the next one"
    prefetch.submitted()
    assert prefetch.wait(0)
    prefetch.embedded("small", 0.4)
    assert not prefetch.wait(0), "three make more than a second"
    prefetch.prepared(None, model="wide")
    assert not prefetch.wait(0), "another model's blocks may take longer"


def test_no_more_is_read_ahead_than_leaves_as_much_to_each_other_worker(tmp_path):
    others = [beat(model="small"), beat(model="small")]
    worker = OneWorker(tmp_path, others)
    assert worker.next() is not None  # four blocks are left
    assert worker.scheduler.spares(2)
    assert not worker.scheduler.spares(3)
    others.clear()
    assert worker.next() is not None
    assert worker.scheduler.spares(100)
