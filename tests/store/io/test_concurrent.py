"""Many items, several at a time: order, errors, interrupts, and how far it runs ahead."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from store.errors import UsageError
from store.io import concurrent
from store.io.concurrent import MOST, in_order, threads_that_pay


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_answers_come_in_the_order_of_the_items(count, threads):
    assert list(in_order(str, range(count), threads=threads)) == list(map(str, range(count)))


def test_so_many_are_at_work_at_a_time():
    meeting = threading.Barrier(4)  # nobody passes before four have come
    answers = in_order(lambda item: (item, meeting.wait(60))[0], range(40), threads=4)
    assert list(answers) == list(range(40))


def test_what_computes_without_the_interpreter_gets_threads_though_nothing_waits(monkeypatch):
    monkeypatch.setattr(concurrent, "threads_that_pay", lambda *_, most: 1)
    monkeypatch.setattr(concurrent, "_TRIAL_ITEMS", 5)
    meeting = threading.Barrier(3)

    def work(item):
        if 5 <= item < 8:  # of the first after the trial each waits for the others
            meeting.wait(60)
        return item

    monkeypatch.setattr(concurrent, "_SLICE", 1)
    assert list(in_order(work, range(40), parallel=3)) == list(range(40))
    alone = threading.active_count()
    for _ in in_order(str, range(40), parallel=9, most=1):
        assert threading.active_count() == alone


def test_an_error_is_raised_at_its_turn_and_nothing_new_is_begun():
    begun = []

    def work(item):
        begun.append(item)
        if item == 5:
            raise ValueError("item 5")
        return item

    before = threading.active_count()  # other tests leave servers running
    answers = in_order(work, range(10_000), threads=3)
    assert [next(answers) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="item 5"):
        next(answers)
    assert len(begun) < 100
    assert threading.active_count() == before


def test_what_comes_before_an_error_is_answered_however_threads_are_switched():
    def work(item):
        if item == 5:
            raise ValueError("item 5")
        return item

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            answers = in_order(work, range(100), threads=3)
            assert [next(answers) for _ in range(5)] == list(range(5))
            with pytest.raises(ValueError, match="item 5"):
                next(answers)
    finally:
        sys.setswitchinterval(interval)


def test_an_error_of_the_first_items_is_raised_too():
    answers = in_order(lambda item: 1 // (item - 3), range(1000))
    assert [next(answers) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(answers)


@pytest.mark.parametrize("ended", ["closed", "interrupted"])
def test_the_caller_can_end_it_early(ended):
    begun, before = [], threading.active_count()
    answers = in_order(lambda item: begun.append(item) or item, iter(range(10**9)), threads=4)
    assert next(answers) == 0
    if ended == "closed":
        answers.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            answers.throw(KeyboardInterrupt)
    assert len(begun) < 100
    assert threading.active_count() == before


def test_it_runs_only_a_little_ahead_of_the_answers():
    taken = []

    def items():
        for item in range(10_000):
            taken.append(item)
            yield item

    answers = in_order(str, items(), threads=4)
    for asked in range(1, 200):
        next(answers)
        assert len(taken) <= asked + 2 * 4


@pytest.mark.parametrize(
    ("spent", "computed", "threads"),
    [
        (1.0, 1.0, 1),  # a local disk: all in memory
        (1.9, 1.0, 1),
        (10.0, 1.0, 10),
        (6.1, 0.1, MOST),
        (1.0, 0.0, MOST),
    ],
)
def test_threads_for_what_the_first_items_waited(spent, computed, threads):
    assert threads_that_pay(spent, computed, most=MOST) == threads
    assert threads_that_pay(spent, computed, most=3) == min(threads, 3)


@pytest.mark.parametrize("threads", [0, -1, True, 2.5, "3", float("nan")])
def test_a_number_of_threads_is_a_positive_whole_number(threads: Any) -> None:
    with pytest.raises(UsageError, match="give a positive whole number"):
        list(in_order(str, [1], threads=threads))
