"""How the threads of a worker hand blocks over, and how they end together."""

from __future__ import annotations

import threading

import pytest

from vnp.embed.handover import HandOver, NothingYetError, Shutdown


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def shutdown(stop: threading.Event) -> Shutdown:
    return Shutdown(stop)


def test_items_come_in_order_and_none_after_the_last(shutdown: Shutdown) -> None:
    numbers: HandOver[int] = HandOver(1, shutdown)

    def feed() -> None:
        for number in range(50):
            assert numbers.put(number)
        numbers.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert [numbers.take() for _ in range(51)] == [*range(50), None]
    feeder.join()


def test_who_does_not_want_to_wait_is_told_that_there_is_nothing_yet(shutdown: Shutdown) -> None:
    numbers: HandOver[int] = HandOver(1, shutdown)
    with pytest.raises(NothingYetError):
        numbers.take(0.001)
    numbers.close()
    assert numbers.take(0.001) is None


def test_told_to_stop_nothing_more_is_handed_over_but_what_there_is_is_taken(
    shutdown: Shutdown, stop: threading.Event
) -> None:
    numbers: HandOver[int] = HandOver(1, shutdown)
    assert numbers.put(1)
    stop.set()
    assert not numbers.put(2)
    assert numbers.take() == 1
    numbers.close()
    assert numbers.take() is None


def test_an_error_ends_a_thread_that_waits_for_an_item_that_will_not_come(
    shutdown: Shutdown,
) -> None:
    numbers: HandOver[int] = HandOver(1, shutdown)
    taken: list[int | None] = []
    taker = threading.Thread(target=lambda: taken.append(numbers.take()))
    taker.start()
    shutdown.note(OSError("disk full"))
    shutdown.note(ValueError("what followed from it"))
    shutdown.abandon()
    taker.join(timeout=60)
    assert taken == [None]
    with pytest.raises(OSError, match="disk full"):
        shutdown.raise_error()
