"""A worker's way through the open blocks of a model."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from store.claims.claims import Claims
from store.claims.heartbeat import Heartbeat
from store.claims.liveness import Liveness, Verdict
from store.claims.process import Identity
from store.claims.worklist import WorkList
from tests.store.claims.claiming import BOUNDED

# --- the work list --------------------------------------------------------------------------------


def work_list(worker, filled, **options):
    return WorkList(worker.claims, model="m", open_blocks=lambda: ~filled, **options)


def test_one_worker_gets_every_block_once_and_in_order(make_worker):
    filled = np.zeros(50, dtype=bool)
    a = make_worker("a")
    todo = work_list(a, filled, start=30)
    got = []
    while (claim := todo.next()) is not None:
        got.append(claim.block)
        filled[claim.block] = True
        claim.release()
    assert got == [*range(30, 50), *range(30)]
    assert (todo.n_open, todo.n_held) == (0, 0)
    assert a.claims.scan("m").epoch.tolist() == [1] * 50


@BOUNDED
@given(
    turns=st.lists(st.integers(0, 5), min_size=1, max_size=300),
    patience=st.integers(1, 8),
    n=st.integers(1, 30),
)
def test_workers_share_without_claiming_twice(tmp_path_factory, turns, patience, n):
    """Whatever the order of their turns, no block is claimed again after it was filled."""
    directory = tmp_path_factory.mktemp("share")
    filled = np.zeros(n, dtype=bool)
    workers = []
    for i in range(6):
        identity = Identity(host=str(i), boot="b", pid_ns="n", pid=7, started=1, job=None)
        heartbeat = Heartbeat(directory, identity=identity, worker=f"{i:032x}")
        claims = Claims(
            directory,
            worker=heartbeat.worker,
            identity=identity,
            liveness=Liveness(directory, identity=identity),
        )
        todo = WorkList(
            claims, model="m", open_blocks=lambda: ~filled, start=5 * i, patience=patience
        )
        workers.append((claims, todo))
    for turn in [*turns, *([0, 1, 2, 3, 4, 5] * 2), *([0] * (n + 1))]:
        claims, todo = workers[turn]
        if claims.held:  # a turn: fill what we hold, or take the next
            filled[claims.held[0].block] = True
            claims.release_all()
        claim = todo.next()
        assert claim is None or not filled[claim.block]
    for claims, _ in workers:
        for claim in claims.held:
            filled[claim.block] = True
            claim.release()
    assert filled.all()
    assert workers[0][1].next() is None
    assert workers[0][0].scan("m").epoch.tolist() == [1] * n


def test_blocks_of_the_dead_come_last_and_none_is_forgotten(make_worker):
    filled = np.zeros(8, dtype=bool)
    a, b = make_worker("a"), make_worker("b")
    taken = [a.claims.try_claim("m", block) for block in (0, 1, 6)]
    todo = work_list(b, filled, start=0)
    mine = [todo.next() for _ in range(5)]
    assert [c.block for c in mine] == [2, 3, 4, 5, 7]
    assert todo.next() is None
    assert (todo.n_open, todo.n_held) == (8, 8)
    for claim in mine:
        filled[claim.block] = True
        claim.release()
    taken[1].release()  # given back unfilled
    b.let_lease_pass()
    assert [todo.next().block for _ in range(3)] == [1, 0, 6]
    assert todo.next() is None
    assert all(not claim.is_current() for claim in taken)


def test_frozen_owner_that_thaws_between_plan_and_claim_keeps_its_block(make_worker):
    filled = np.zeros(2, dtype=bool)
    a, b = make_worker("a"), make_worker("b")
    claims = [a.claims.try_claim("m", block) for block in (0, 1)]
    b.let_lease_pass()
    todo = work_list(b, filled, start=0)
    assert todo.next().block == 0  # the plan holds block 1 too, as stale
    a.heartbeat.beat()
    b.clock.now += 5
    assert todo.next() is None
    assert [c.is_current() for c in claims] == [False, True]
    assert b.claims.owner("m", 1).verdict is Verdict.LIVE


def test_growing_store_is_noticed(make_worker):
    filled = {"now": np.zeros(1, dtype=bool)}
    todo = WorkList(make_worker("a").claims, model="m", open_blocks=lambda: ~filled["now"])
    claim = todo.next()
    assert claim.block == 0
    filled["now"] = np.array([True, False, False])
    claim.release()
    assert [todo.next().block, todo.next().block, todo.next()] == [1, 2, None]


def test_tail_block_that_grew_is_open_again(make_worker):
    filled = np.zeros(1, dtype=bool)
    a, b = make_worker("a"), make_worker("b")
    for epoch, worker in ((1, a), (2, b), (3, a)):
        claim = work_list(worker, filled).next()
        assert claim.epoch == epoch
        claim.release()


def test_a_lone_worker_begins_at_the_first_open_block_and_others_elsewhere(make_worker):
    filled = np.zeros(4096, dtype=bool)
    filled[:3] = True
    first, second = (
        WorkList(make_worker(name).claims, model="m", open_blocks=lambda: ~filled)
        for name in ("a", "b")
    )
    lone = first.next()
    other = second.next()
    assert lone.block == 3
    assert other.block == int(other.worker[:8], 16) % 4096 != 4
    assert (first.next().block, second.next().block) == (4, other.block + 1)


def test_a_claim_that_is_released_while_a_plan_is_made_is_not_made_again(make_worker):
    """The publisher releases a filled block between the feeder's two listings."""
    worker = make_worker("a")
    claim = worker.claims.try_claim("m", 3)

    def open_blocks():
        claim.release()  # filled just after this listing
        return np.array([3])

    work = WorkList(worker.claims, model="m", open_blocks=open_blocks)
    assert work.next() is None
    assert worker.claims.owner("m", 3).epoch == 1


def test_where_most_are_taken_it_finds_what_is_left(make_worker):
    """Others took nearly all since the plan was made: no look at each, and no new plan."""
    plans = []
    ours, theirs = make_worker("a"), make_worker("b")
    work = WorkList(
        ours.claims,
        model="m",
        open_blocks=lambda: plans.append(1) or np.arange(400),
    )
    assert work.next().block == 0
    for block in range(1, 400):
        if block % 40 != 37:
            theirs.claims.try_claim("m", block)
    found = [work.next().block for _ in range(5)]
    assert all(block % 40 == 37 for block in found)
    assert len(set(found)) == 5
    assert len(plans) <= 3


def test_of_many_held_blocks_a_plan_judges_the_next_ones_each_time(make_worker):
    """Those of a worker that ended are all found, and none of one that lives."""
    ours, ended, living = (make_worker(name) for name in "abc")
    for block in range(300):
        (ended if block % 30 == 7 else living).claims.try_claim("m", block)
    ended.heartbeat.stop()
    read = []
    is_takeable = ours.claims.is_takeable
    ours.claims.is_takeable = lambda model, held: read.append(held) or is_takeable(model, held)
    work = work_list(ours, np.zeros(300, dtype=bool))
    looks = [(work.next(), len(read)) for _ in range(20)]
    assert sorted(claim.block for claim, _ in looks if claim) == list(range(7, 300, 30))
    assert looks[0][1] <= 64 * 3
    assert {each.block for each in read} == set(range(300))
    assert work.n_open == 300


def test_of_many_workers_few_list_again_and_the_dead_are_seen_without(make_worker):
    ours, theirs = make_worker("a"), make_worker("b")
    plans = []
    work = WorkList(
        ours.claims,
        model="m",
        open_blocks=lambda: plans.append(1) or np.arange(40),
        others=lambda: 640.0,  # a tenth lists
    )
    for block in range(40):
        theirs.claims.try_claim("m", block)
    asked = 200
    assert all(work.next() is None for _ in range(asked))
    assert work.n_open == work.n_held == 40
    assert 2 <= len(plans) <= asked // 4
    theirs.heartbeat.stop()
    ours.clock.sleep(2)
    listed = len(plans)
    claims = []
    asks = 0
    while not claims and asks < 40:  # some of those who wait look each time
        claims += filter(None, [work.next()])
        asks += 1
    assert len(plans) <= listed + asks // 4 + 1
    rest = [work.next() for _ in range(60)]
    claims += filter(None, rest)
    assert sorted(claim.block for claim in claims) == list(range(40))
