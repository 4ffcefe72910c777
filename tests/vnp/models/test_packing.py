import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vnp.models.packing import fill, plan

LENGTHS = st.lists(st.integers(2, 60), max_size=80).map(lambda x: np.array(x, dtype=np.int64))
FEW = settings(deadline=None, derandomize=True, max_examples=200)


@FEW
@given(LENGTHS, st.integers(1, 200))
def test_every_record_once_and_no_batch_over_budget(lengths, budget):
    batches = plan(lengths, token_budget=budget)
    order = [int(record) for batch in batches for record in batch.records]
    assert sorted(order) == list(range(len(lengths)))
    for batch in batches:
        assert list(batch.lengths) == [lengths[record] for record in batch.records]
        assert batch.tokens <= budget or len(batch.records) == 1
    flat = [int(length) for batch in batches for length in batch.lengths]
    assert flat == sorted(flat)


@FEW
@given(LENGTHS, st.integers(1, 200))
def test_groups_tile_the_batch(lengths, budget):
    for batch in plan(lengths, token_budget=budget):
        at = 0
        tiled = []
        for group in batch.groups:
            assert group.start == at
            at += group.count * group.length
            tiled += [group.length] * group.count
        assert at == batch.tokens
        assert tiled == list(batch.lengths)


@FEW
@given(LENGTHS, st.integers(60, 200))
def test_even_shares_cost_no_extra_batch(lengths, budget):
    batches = plan(lengths, token_budget=budget)
    greedy, room = 0, 0
    for length in np.sort(lengths):
        if greedy == 0 or length > room:
            greedy, room = greedy + 1, budget
        room -= length
    assert len(batches) == greedy


def test_equal_records_are_shared_evenly():
    batches = plan(np.full(101, 10), token_budget=1000)
    assert [len(batch.records) for batch in batches] == [51, 50]


def test_equal_lengths_keep_their_order():
    batches = plan(np.array([5, 3, 5, 3, 5]), token_budget=100)
    assert list(batches[0].records) == [1, 3, 0, 2, 4]


def test_long_record_has_a_batch_of_its_own():
    batches = plan(np.array([900, 4, 4]), token_budget=10)
    assert [list(batch.records) for batch in batches] == [[1, 2], [0]]


def test_nothing_and_no_budget():
    assert plan(np.array([], dtype=np.int64), token_budget=5) == []
    with pytest.raises(ValueError, match="budget of 0"):
        plan(np.array([3]), token_budget=0)


@FEW
@given(LENGTHS, st.integers(1, 200), st.integers(1, 9))
def test_filled_batches_leave_no_room_for_a_record_that_is_left(lengths, budget, most):
    batches = fill(lengths, token_budget=budget, most_records=most)
    order = [int(record) for batch in batches for record in batch.records]
    assert sorted(order) == list(range(len(lengths)))
    for number, batch in enumerate(batches):
        assert list(batch.lengths) == sorted(lengths[record] for record in batch.records)
        assert [lengths[record] for record in batch.records] == list(batch.lengths)
        assert batch.tokens <= budget or len(batch.records) == 1
        assert len(batch.records) <= most
        left = [int(length) for later in batches[number + 1 :] for length in later.lengths]
        if left and len(batch.records) < most:
            assert min(left) > budget - batch.tokens


def test_filling_takes_the_longest_that_fits():
    batches = fill(np.array([7, 4, 9, 4, 3, 1]), token_budget=12, most_records=9)
    assert [list(batch.lengths) for batch in batches] == [[3, 9], [1, 4, 7], [4]]
    assert [list(batch.records) for batch in batches] == [[4, 2], [5, 1, 0], [3]]


@FEW
@given(LENGTHS, st.integers(60, 200), st.integers(0, 80))
def test_full_batches_take_those_ahead_first(lengths, budget, ahead):
    batches = fill(lengths, token_budget=budget, most_records=20, ahead=ahead)
    order = [int(record) for batch in batches for record in batch.records]
    assert sorted(order) == list(range(len(lengths)))
    waiting = set(range(min(ahead, len(lengths))))
    for batch in batches:
        assert list(batch.lengths) == sorted(lengths[batch.records])
        assert batch.tokens <= budget
        assert len(batch.records) <= 20
        chosen = set(batch.records.tolist())
        waiting -= chosen
        if waiting and len(chosen) < 20:  # for these there was no room, even without the others
            first = sum(int(lengths[record]) for record in chosen if record < ahead)
            assert first + min(int(lengths[record]) for record in waiting) > budget
