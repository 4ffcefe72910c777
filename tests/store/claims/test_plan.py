"""The plan of what to claim next, and the names it is made from."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from store.claims.plan import ClaimPlan, ClaimScan, Stretch, read_names
from tests.store.claims.claiming import BOUNDED

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
        planned(blocks, scan=scan, takeable=takeable, start=start)
        for blocks in (mask, np.flatnonzero(mask))
    )
    assert by_mask.n_open == by_number.n_open == int(mask.sum())
    assert drain(by_mask) == drain(by_number)


def planned(open_blocks, *, scan, takeable, start=0):
    plan = ClaimPlan(open_blocks, scan=scan, start=start)
    stale = set(scan.block[takeable].tolist())
    plan.add_stale(each for each in plan.held if each.block in stale)
    return plan


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
    plan = planned(wanted, scan=scan, takeable=takeable, start=start)
    found = []
    for fraction in turns:
        if fraction is not None:
            plan.rotate(fraction)
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
        found = drain(planned(mask, scan=scan, takeable=takeable, start=start))
        free, stale, held = self.kinds()

        def turned(blocks):
            return [b for b in blocks if b >= start] + [b for b in blocks if b < start]

        assert [b for b, _ in found] == turned(free) + turned(stale)
        assert all(self.epoch[b] == e for b, e in found)
        plan = planned(mask, scan=scan, takeable=takeable, start=start)
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


@BOUNDED
@given(
    st.integers(1, 30),
    st.integers(0, 30),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8),
    st.data(),
)
def test_candidates_found_taken_are_dropped_and_all_others_come(blocks, skipped, fractions, data):
    """Whatever was tried before; free ones still come before stale ones."""
    taken = data.draw(st.sets(st.integers(0, blocks - 1)))
    names = [f"{block}.1" for block in taken]
    scan = read_names(names)
    plan = planned(
        np.ones(blocks, bool), scan=scan, takeable=np.ones(len(scan.block), bool), start=0
    )
    seen = [plan.next() for _ in range(min(skipped, len(plan)))]
    left = len(plan)
    if not left:
        return
    some = plan.some(fractions)
    assert some
    # Each is looked at, some with blocks beside it, which may have been claimed as well.
    stretches, here, gone = [], set(), set()
    for each in some:
        stop = each.block + data.draw(st.integers(1, 4))
        claimed = data.draw(st.sets(st.integers(each.block, stop - 1)))
        names = [f"{block}.{9 if block in claimed else 1}" for block in range(each.block, stop)
                 if block in claimed or block in taken]  # fmt: skip
        stretches.append(Stretch(each.block, stop, read_names(names)))
        gone |= claimed
        here |= set(range(each.block, stop)) - claimed
    kind = some[0].epoch
    tried = {each.block for each in seen}
    of_kind = {block for block in range(blocks) if (block in taken) == bool(kind)} - tried
    gone, here = gone & of_kind, (here - gone) & of_kind
    assert plan.update(stretches, fraction=fractions[0]) == bool(here)
    assert len(plan) == left - len(gone)
    rest = [plan.next() for _ in range(len(plan))]
    assert plan.next() is None
    if here:
        assert rest[0].block in here
    everything = {each.block for each in (*seen, *rest)} | gone
    assert everything == set(range(blocks))
    assert len(seen) + len(rest) + len(gone) == blocks
    kinds = [each.epoch for each in rest]
    assert kinds == sorted(kinds)
