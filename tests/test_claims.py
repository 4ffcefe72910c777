"""Claims, the plan of what to claim next, and a worker's way through a model's blocks."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from store.claim_plan import ClaimPlan, ClaimScan, read_names
from store.claims import APPEND, Claims
from store.errors import BusyError, ClaimLostError, UsageError
from store.files import WriteError
from store.heartbeat import Heartbeat, Liveness, Verdict
from store.identity import Identity
from store.worklist import WorkList

BOUNDED = settings(deadline=None, derandomize=True, max_examples=80)


class Clock:
    """A monotonic clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Worker:
    """A worker on a host of its own, so that only heartbeats tell of it."""

    heartbeat: Heartbeat
    claims: Claims
    clock: Clock

    def let_lease_pass(self, *models: str) -> None:
        """Look on while nobody beats."""
        for _ in range(15):
            self.clock.now += 5
            for model in models or ("m",):
                self.claims.states(model)


@pytest.fixture
def make_worker(tmp_path):
    def make(host: str, **options) -> Worker:
        identity = Identity(host=host, boot=host, pid_ns="n", pid=7, started=1, job=None)
        heartbeat = Heartbeat(tmp_path, identity=identity)
        heartbeat.beat()
        clock = Clock()
        claims = Claims(
            tmp_path,
            worker=heartbeat.worker,
            identity=identity,
            liveness=Liveness(tmp_path, lease=60.0, identity=identity, clock=clock),
            **options,
        )
        return Worker(heartbeat, claims, clock)

    return make


# --- one claim ------------------------------------------------------------------------------------


def test_claim_is_a_file_that_names_its_owner(tmp_path, make_worker):
    a = make_worker("a")
    claim = a.claims.try_claim("m", 17)
    assert (claim.model, claim.block, claim.epoch) == ("m", 17, 1)
    assert claim.is_current()
    assert os.listdir(tmp_path / "claims" / "m") == ["17.1"]
    assert os.listdir(tmp_path / "tmp") == []
    owner = a.claims.owner("m", 17)
    assert (owner.epoch, owner.worker, owner.identity) == (1, a.heartbeat.worker, a.claims.identity)
    assert owner.state == "live"
    assert a.claims.held == (claim,)


def test_held_block_is_refused_to_others_and_to_ourselves(make_worker):
    a, b = make_worker("a"), make_worker("b")
    assert a.claims.try_claim("m", 0) is not None
    assert b.claims.try_claim("m", 0) is None
    assert a.claims.try_claim("m", 0) is None
    assert b.claims.try_claim("other", 0) is not None
    assert b.claims.try_claim("m", 1) is not None


def test_released_block_goes_to_the_next_epoch(tmp_path, make_worker):
    a, b = make_worker("a"), make_worker("b")
    first = a.claims.try_claim("m", 3)
    first.release()
    assert not first.is_current()
    assert a.claims.owner("m", 3).state == "released"
    again = a.claims.try_claim("m", 3)
    assert again.epoch == 2
    first.release()  # the old claim has no say over the new one
    assert again.is_current()
    again.release()
    again.release()
    assert b.claims.try_claim("m", 3).epoch == 3
    assert sorted(os.listdir(tmp_path / "claims" / "m")) == [
        "3.1",
        "3.1.released",
        "3.2",
        "3.2.released",
        "3.3",
    ]


def test_claim_as_context_manager_is_released_on_error(make_worker):
    a = make_worker("a")
    with pytest.raises(RuntimeError), a.claims.try_claim("m", 0):
        raise RuntimeError
    assert a.claims.owner("m", 0).state == "released"


def test_release_all_twice(make_worker):
    a = make_worker("a")
    for block in range(5):
        a.claims.try_claim("m", block)
    assert a.claims.release_all() == 5
    assert a.claims.release_all() == 0
    assert [s.state for s in a.claims.states("m", released=True)] == ["released"] * 5


def test_release_from_within_a_claim(make_worker):
    """A handler that interrupts a claim half way may release everything without a deadlock."""
    a = make_worker("a", step=lambda name: name != "judged" or a.claims.release_all())
    a.claims.try_claim("m", 0)
    a.claims.try_claim("m", 1)
    assert [c.block for c in a.claims.held] == [1]


def test_release_all_goes_on_after_a_failure(make_worker, monkeypatch, caplog):
    a = make_worker("a")
    for block in range(3):
        a.claims.try_claim("m", block)
    real = os.open

    def failing(path, *rest):
        if str(path).endswith("1.1.released"):
            raise OSError(errno.EDQUOT, "quota exceeded")
        return real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        assert a.claims.release_all() == 2
    assert "block 1 of m could not be released" in caplog.text
    assert [c.block for c in a.claims.held] == [1]
    assert a.claims.release_all() == 1


def test_dead_owners_block_is_taken_and_the_owner_finds_out(make_worker):
    a, b = make_worker("a"), make_worker("b")
    lost = a.claims.try_claim("m", 0)
    assert b.claims.try_claim("m", 0) is None
    b.let_lease_pass()
    stolen = b.claims.try_claim("m", 0)
    assert stolen.epoch == 2
    assert stolen.is_current()
    assert not lost.is_current()
    with pytest.raises(ClaimLostError, match="block 0 of m"):
        lost.require()
    stolen.require()
    lost.release()  # comes late, and changes nothing
    assert stolen.is_current()
    assert b.claims.owner("m", 0).epoch == 2
    assert a.claims.try_claim("m", 0) is None


def test_beating_owner_keeps_its_block_for_ever(make_worker):
    a, b = make_worker("a"), make_worker("b")
    claim = a.claims.try_claim("m", 0)
    for _ in range(50):
        b.clock.now += 15
        a.heartbeat.beat()
        assert b.claims.try_claim("m", 0) is None
    assert claim.is_current()


def test_ended_owner_is_stale_at_once(make_worker):
    a, b = make_worker("a"), make_worker("b")
    a.claims.try_claim("m", 0)
    a.heartbeat.stop()
    assert b.claims.try_claim("m", 0).epoch == 2


def test_own_claim_that_was_lost_on_the_way_is_taken_again(make_worker):
    """Interrupted after its link: nobody else may take it while we live, so we do."""

    a, b = make_worker("a"), make_worker("b")
    names = ["probed", "judged", "written", "linked", "claimed"]

    def at(step):
        def interrupting(name):
            if name == step:
                raise KeyboardInterrupt

        return interrupting

    for block, name in enumerate(names):
        a.claims._step = at(name)
        with pytest.raises(KeyboardInterrupt):
            a.claims.try_claim("m", block)
        a.claims._step = lambda name: None
        made = a.claims.owner("m", block)
        assert (made is not None) == (name in ("linked", "claimed"))
        if made:
            assert b.claims.try_claim("m", block) is None
        claim = a.claims.try_claim("m", block)
        assert claim.epoch == (2 if made else 1)
        assert claim.is_current()


@pytest.mark.parametrize("content", [b"", b"\x00" * 200, b"[]", b'{"worker": "../../x"}'])
def test_unreadable_claim_is_free_after_a_lease(tmp_path, make_worker, content):
    a = make_worker("a")
    a.claims.try_claim("m", 1)
    (tmp_path / "claims" / "m" / "0.1").write_bytes(content)
    assert a.claims.try_claim("m", 0) is None
    assert "cannot be read" in str(a.claims.states("m")[0])
    a.let_lease_pass()
    assert a.claims.try_claim("m", 0).epoch == 2


def test_wiped_side_directory(tmp_path, make_worker):
    """Deleting it under a worker costs work done twice, never a claim that is not ours."""
    a, b = make_worker("a"), make_worker("b")
    old = a.claims.try_claim("m", 0)
    (tmp_path / "claims" / "m" / "0.1").unlink()
    (tmp_path / "claims" / "m").rmdir()
    (tmp_path / "tmp").rmdir()
    assert not old.is_current()
    new = b.claims.try_claim("m", 0)
    assert new.epoch == 1
    assert not old.is_current()
    old.release()
    assert new.is_current()
    assert b.claims.owner("m", 0).state == "live"


def test_directory_that_another_worker_makes_meanwhile(tmp_path, make_worker):
    """Many workers start at once: each may find its directory missing, and then there."""

    def link(source, target):
        if not target.parent.exists():
            target.parent.mkdir()
            raise FileNotFoundError(errno.ENOENT, "no such directory")
        os.link(source, target)

    (tmp_path / "claims").mkdir()
    (tmp_path / "tmp").mkdir(exist_ok=True)
    assert make_worker("a", link=link).claims.try_claim("m", 0).epoch == 1


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "x" * 101, "a b", "ä"])
def test_bad_names_are_refused(make_worker, name):
    with pytest.raises(UsageError, match="name of a model"):
        make_worker("a").claims.try_claim(name, 0)


def test_write_errors_surface_and_leave_nothing(tmp_path, make_worker):
    def full(source, target):
        raise OSError(errno.ENOSPC, "no space")

    a = make_worker("a", link=full)
    with pytest.raises(WriteError, match=r"m/0\.1"):
        a.claims.try_claim("m", 0)
    assert os.listdir(tmp_path / "tmp") == []
    assert a.claims.held == ()
    assert a.claims.scan("m").block.tolist() == []


@BOUNDED
@given(replies=st.lists(st.sampled_from(["fine", "lost", "repeated"]), min_size=1, max_size=8))
def test_nfs_errors_after_a_link_that_was_made_count_as_won(tmp_path_factory, replies):
    """The client sends again what the server did already, and is told that the name exists."""
    left = list(replies)

    def link(source, target):
        os.link(source, target)
        reply = left.pop(0)
        if reply == "lost":
            raise OSError(errno.EIO, "no answer")
        if reply == "repeated":
            raise FileExistsError(errno.EEXIST, "exists")

    directory = tmp_path_factory.mktemp("nfs")
    identity = Identity(host="h", boot="b", pid_ns="n", pid=7, started=1, job=None)
    heartbeat = Heartbeat(directory, identity=identity)
    claims = Claims(
        directory,
        worker=heartbeat.worker,
        identity=identity,
        liveness=Liveness(directory),
        link=link,
    )
    for epoch in range(1, len(replies) + 1):
        claim = claims.try_claim("m", 5)
        assert claim is not None
        assert claim.epoch == epoch
        assert claim.is_current()
        claim.release()
    assert os.listdir(directory / "tmp") == []


# --- the appender's lock --------------------------------------------------------------------------


def test_lock_of_a_living_owner_is_busy(make_worker):
    a, b = make_worker("a"), make_worker("b")
    with a.claims.acquire(APPEND):

        def sleep(seconds):
            b.clock.sleep(seconds)
            a.heartbeat.beat()

        with pytest.raises(BusyError, match="append is locked by process 7 on a"):
            b.claims.acquire(APPEND, sleep=sleep)
        with pytest.raises(BusyError, match="this very process"):
            a.claims.acquire(APPEND)
    assert b.claims.acquire(APPEND).epoch == 2


def test_lock_of_a_dead_owner_is_taken_after_a_lease(make_worker):
    a, b = make_worker("a"), make_worker("b")
    lost = a.claims.acquire(APPEND)
    before = b.clock.now
    assert b.claims.acquire(APPEND, sleep=b.clock.sleep).epoch == 2
    assert 60 <= b.clock.now - before <= 62
    assert not lost.is_current()
    assert b.claims.models() == [APPEND]


# --- listings -------------------------------------------------------------------------------------


def test_states_name_every_claim(make_worker):
    a, b, c = make_worker("a"), make_worker("b"), make_worker("c")
    for block, worker in enumerate((a, b, c, a)):
        worker.claims.try_claim("m", block)
    a.claims.held[1].release()
    b.heartbeat.stop()
    watcher = make_worker("w").claims
    assert [(s.block, s.state) for s in watcher.states("m")] == [
        (0, "unknown"),
        (1, "ended"),
        (2, "unknown"),
    ]
    assert [s.block for s in watcher.states("m", released=True)] == [0, 1, 2, 3]
    some = watcher.states("m", open_blocks=np.array([True, False, True, True, True]))
    assert [s.block for s in some] == [0, 2]
    assert "epoch 1: process 7 on b, ended" in str(watcher.states("m")[1])
    assert watcher.states("nothing") == []
    assert watcher.owner("m", 9) is None
    assert watcher.models() == ["m"]


# --- reading names --------------------------------------------------------------------------------


def slow_names(names):
    """Read names one by one, obviously."""
    top: dict[int, int] = {}
    for name in names:
        parts = name.split(".")
        if len(parts) == 2:
            top[int(parts[0])] = max(top.get(int(parts[0]), 0), int(parts[1]))
    return [(b, e, f"{b}.{e}.released" in names) for b, e in sorted(top.items())]


claim_names = st.builds("{}.{}".format, st.integers(0, 12), st.integers(1, 5))
marker_names = st.builds("{}.{}.released".format, st.integers(0, 12), st.integers(1, 5))
alien_names = st.sampled_from(
    [".nfs00012", "x.1", "1.x", "1", "1.", ".1", "1.1.relea", "1.1.1", "-1.2", "9" * 30 + ".1"]
)


@BOUNDED
@given(
    names=st.lists(claim_names | marker_names, unique=True, max_size=40),
    aliens=st.lists(alien_names, unique=True, max_size=3),
    random=st.randoms(use_true_random=False),
)
def test_names_are_read_as_one_by_one(names, aliens, random):
    mixed = names + aliens
    random.shuffle(mixed)
    scan = read_names(mixed)
    rows = zip(scan.block.tolist(), scan.epoch.tolist(), scan.released.tolist(), strict=True)
    assert list(rows) == slow_names(names)


# --- the plan -------------------------------------------------------------------------------------


@BOUNDED
@given(data=st.data(), n=st.integers(0, 20), start=st.integers(0, 25))
def test_mask_and_numbers_give_the_same_plan(data, n, start):
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    scan = read_names(data.draw(st.lists(claim_names | marker_names, max_size=20)))
    takeable = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(scan.block), max_size=len(scan.block))),
        dtype=bool,
    )
    by_mask, by_number = (
        ClaimPlan(blocks, scan=scan, takeable=takeable, start=start)
        for blocks in (mask, np.flatnonzero(mask))
    )
    assert by_mask.n_open == by_number.n_open == int(mask.sum())
    assert drain(by_mask) == drain(by_number)


def drain(plan):
    found = []
    while (candidate := plan.next()) is not None:
        found.append((candidate.block, candidate.epoch))
    return found


@BOUNDED
@given(
    kinds=st.lists(st.sampled_from(["free", "released", "stale", "held", "filled"]), max_size=25),
    start=st.integers(0, 30),
    turns=st.lists(st.none() | st.floats(0, 1, exclude_max=True), max_size=40),
)
def test_turning_loses_no_candidate_and_keeps_free_ones_first(kinds, start, turns):
    known = [b for b, kind in enumerate(kinds) if kind != "free"]
    scan = ClaimScan(
        block=np.array(known, dtype=np.int64),
        epoch=np.array([b + 1 for b in known], dtype=np.int64),
        released=np.array([kinds[b] in ("released", "filled") for b in known], dtype=bool),
    )
    takeable = np.array([kinds[b] == "stale" for b in known], dtype=bool)
    wanted = np.array([kind != "filled" for kind in kinds], dtype=bool)
    plan = ClaimPlan(wanted, scan=scan, takeable=takeable, start=start)
    found = []
    for fraction in turns:
        if fraction is not None:
            plan.turn(fraction)
        elif (candidate := plan.next()) is not None:
            found.append((candidate.block, candidate.epoch))
    found += drain(plan)
    free = [(b, b + 1 if k != "free" else 0) for b, k in enumerate(kinds) if k[:2] in ("fr", "re")]
    stale = [(b, b + 1) for b, k in enumerate(kinds) if k == "stale"]
    assert sorted(found[: len(free)]) == free
    assert sorted(found[len(free) :]) == stale


class PlannerMachine(RuleBasedStateMachine):
    """Workers that plan, claim, fill, release, die and come back, against a model in memory.

    The model is the truth about the claims; each worker's plan may be as old as it likes. The rules
    of claiming (next epoch if nothing changed) are the model's, the choice is the planner's.
    """

    N_WORKERS = 4

    @initialize(n=st.integers(1, 12))
    def begin(self, n):
        self.filled = [False] * n
        self.epoch = [0] * n  # highest epoch of each block
        self.owner = [None] * n  # its owner; None: never claimed or released
        self.dead: set[int] = set()
        self.plans = {}
        self.history: set[tuple[int, int]] = set()

    def picture(self):
        known = [b for b, e in enumerate(self.epoch) if e]
        scan = ClaimScan(
            block=np.array(known, dtype=np.int64),
            epoch=np.array([self.epoch[b] for b in known], dtype=np.int64),
            released=np.array([self.owner[b] is None for b in known], dtype=bool),
        )
        takeable = np.array([self.owner[b] in self.dead for b in known], dtype=bool)
        return scan, takeable

    def kinds(self):
        """Open blocks by what may be done with them, slowly."""
        free, stale, held = [], [], []
        for block, filled in enumerate(self.filled):
            if filled:
                continue
            if self.owner[block] is None:
                free.append(block)
            elif self.owner[block] in self.dead:
                stale.append(block)
            else:
                held.append(block)
        return free, stale, held

    @rule(worker=st.integers(0, N_WORKERS - 1), start=st.integers(0, 15))
    def plan(self, worker, start):
        scan, takeable = self.picture()
        mask = ~np.array(self.filled, dtype=bool)
        found = drain(ClaimPlan(mask, scan=scan, takeable=takeable, start=start))
        free, stale, held = self.kinds()

        def turned(blocks):
            return [b for b in blocks if b >= start] + [b for b in blocks if b < start]

        assert [b for b, _ in found] == turned(free) + turned(stale)
        assert all(self.epoch[b] == e for b, e in found)
        plan = ClaimPlan(mask, scan=scan, takeable=takeable, start=start)
        assert (plan.n_open, plan.n_held) == (len(free + stale + held), len(held))
        assert len(plan) == len(found)
        self.plans[worker] = plan

    @precondition(lambda self: self.plans)
    @rule(data=st.data())
    def claim(self, data):
        worker = data.draw(st.sampled_from(sorted(self.plans)))
        left = len(self.plans[worker])
        candidate = self.plans[worker].next()
        if candidate is None:
            assert left == 0
            return
        assert len(self.plans[worker]) == left - 1
        block = candidate.block
        owner = self.owner[block]
        if worker in self.dead or self.epoch[block] != candidate.epoch:
            return
        if owner is not None and owner not in self.dead:
            return  # came back to life since the plan was made
        self.epoch[block] += 1
        self.owner[block] = worker
        assert (block, self.epoch[block]) not in self.history
        self.history.add((block, self.epoch[block]))

    @rule(data=st.data(), fill=st.booleans())
    def finish(self, data, fill):
        held = [b for b, owner in enumerate(self.owner) if owner is not None]
        if held:
            block = data.draw(st.sampled_from(held))
            if self.owner[block] not in self.dead:
                self.filled[block] = self.filled[block] or fill
                self.owner[block] = None

    @rule(worker=st.integers(0, N_WORKERS - 1))
    def die_or_thaw(self, worker):
        self.dead ^= {worker}

    @rule(more=st.integers(1, 3))
    def append(self, more):
        self.filled += [False] * more
        self.epoch += [0] * more
        self.owner += [None] * more

    @invariant()
    def epochs_are_dense(self):
        for block, epoch in enumerate(getattr(self, "epoch", [])):
            assert all((block, e) in self.history for e in range(1, epoch + 1))


PlannerMachine.TestCase.settings = settings(
    deadline=None, derandomize=True, max_examples=60, stateful_step_count=40
)
TestPlanner = PlannerMachine.TestCase


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
