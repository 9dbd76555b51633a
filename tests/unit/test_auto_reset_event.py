"""The event that wakes the shipper's thread."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

from doubles import DEADLINE_SECONDS, signals
from execution_logger.shipping.thread import AutoResetEvent


def test_waiting_clears_it() -> None:
    """One setting wakes once."""
    event = AutoResetEvent()
    event.set()
    assert event.wait(0)
    assert not event.wait(0)


def test_setting_it_twice_wakes_once() -> None:
    """It is a flag, not a counter: a thousand entries make no thousand rounds."""
    event = AutoResetEvent()
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait(0)
    assert not event.is_set()
    assert not event.wait(0)


def test_it_wakes_a_thread_that_waits_without_limit() -> None:
    """An idle thread waits like that."""
    event = AutoResetEvent()
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(event.wait)
        event.set()
        assert woken.result(DEADLINE_SECONDS)


def test_a_wait_may_be_endless() -> None:
    """More seconds than the platform can count are no error: an interval may be infinite."""
    event = AutoResetEvent()
    event.set()
    assert event.wait(math.inf)


def test_setting_it_from_many_threads_raises_in_none() -> None:
    """Which of them was first is nobody's business."""
    event, barrier = AutoResetEvent(), threading.Barrier(8)

    def set_often() -> None:
        barrier.wait(DEADLINE_SECONDS)
        for _ in range(2000):
            event.set()
            event.wait(0)

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(set_often) for _ in range(8)]:
            each.result(DEADLINE_SECONDS)


def test_a_signal_handler_may_set_it_while_it_is_being_set() -> None:
    """`threading.Event` would wait there for the thread that it interrupts, for ever."""
    event = AutoResetEvent()
    with signals(1000, event.set) as over:
        while not over.is_set():
            event.set()
            event.wait(0)
