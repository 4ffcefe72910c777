"""One function for many items, several at a time, its answers in the order of the items.

For work that waits for a file system: while one thread waits for an answer, others ask. The first
items are done without threads and timed; what they spent waiting says how many threads pay. Items
go to the threads in slices, few of them ahead of the answers, so memory does not grow with their
number::

    trial   item item item               timed: waiting and computing
    slices  [item item ...] [item ...]   to `threads` threads, answers in order
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import TypeVar

from store.errors import UsageError

T = TypeVar("T")
R = TypeVar("R")

MOST = 48  # threads: 2 ms an answer become 40 us; more would only queue at a server
_TRIAL_ITEMS, _TRIAL_SECONDS = 32, 0.1  # the trial ends with the first of both
_SLICE_SECONDS = 0.1  # of work: handing a slice over costs 50 us
_SLICE = 64  # items at most
_AHEAD = 2  # slices for each thread


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int | None = None,
    most: int = MOST,
    parallel: int = 1,
) -> Generator[R, None, None]:
    """Yield ``function(item)`` of each item, in order.

    Parameters
    ----------
    threads
        How many call the function; None: as many as pay, at most ``most``. 1: the caller alone.
    parallel
        So many pay in any case: the function mostly computes without the interpreter.

    Raises
    ------
    UsageError
        If ``threads`` is not a positive whole number.

    An exception of the function is raised at its item's turn. It, an interrupt of the caller, or
    closing the iterator end the work: items that no thread has begun are not begun.
    """
    if threads is not None and (
        isinstance(threads, bool) or not isinstance(threads, int) or threads < 1
    ):
        raise UsageError(f"threads that check are {threads!r}: give a positive whole number")
    rest = iter(items)
    length = 1 if threads else _SLICE
    if threads is None:
        began, busy, tried = time.perf_counter(), time.thread_time(), 0
        spent = computed = 0.0
        for item in islice(rest, _TRIAL_ITEMS):
            result = function(item)
            tried += 1
            spent, computed = time.perf_counter() - began, time.thread_time() - busy
            yield result
            # What the caller does with an answer is not the function's time.
            began, busy = time.perf_counter() - spent, time.thread_time() - computed
            if spent > _TRIAL_SECONDS:
                break
        threads = max(threads_that_pay(spent, computed, most=most), min(parallel, most))
        length = max(1, min(_SLICE, int(_SLICE_SECONDS * tried / max(spent, 1e-9))))
    if threads == 1:
        yield from map(function, rest)
        return
    yield from _threaded(function, rest, threads=threads, length=length)


def threads_that_pay(spent: float, computed: float, *, most: int) -> int:
    """Threads that keep one core busy, of which some ``computed`` for so long and ``spent`` more.

    Python computes in one thread at a time, so more than that only wait for each other.
    """
    ratio = spent / max(computed, 1e-9)
    return 1 if ratio < 2 else min(most, int(ratio))


def _threaded(
    function: Callable[[T], R], items: Iterator[T], *, threads: int, length: int
) -> Iterator[R]:
    last = sys.maxsize  # part that is still worked on: those before an error are answered
    lock = threading.Lock()

    def end_with(number: int) -> None:
        nonlocal last
        with lock:
            last = min(last, number)

    def work(number: int, part: list[T]) -> tuple[list[R], BaseException | None]:
        done: list[R] = []
        try:
            for item in part:
                if number > last:
                    break
                done.append(function(item))
        except BaseException as error:  # noqa: BLE001 - raised where the answers are taken
            end_with(number)
            return done, error
        return done, None

    pool = ThreadPoolExecutor(threads, thread_name_prefix="in-order")
    pending: deque[Future[tuple[list[R], BaseException | None]]] = deque()
    numbers = count()
    try:
        while True:
            while len(pending) < _AHEAD * threads and (part := list(islice(items, length))):
                pending.append(pool.submit(work, next(numbers), part))
            if not pending:
                return
            results, error = pending.popleft().result()
            yield from results
            if error is not None:
                raise error
    finally:
        end_with(-1)
        pool.shutdown(cancel_futures=True)
