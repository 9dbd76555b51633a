"""The shipper: when it delivers, in which order, what it survives, and where the entries are meanwhile."""

import ctypes
import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from doubles import (
    DEADLINE_SECONDS,
    BlockedDelivery,
    HandDrivenShipper,
    ManualClock,
    interrupted,
    lines_of,
)
from execution_logger import Settings
from execution_logger.buffer import Batch
from execution_logger.delivery import Delivery
from execution_logger.errors import DeliveryError
from execution_logger.shipper import THREAD_NAME, Shipper
from execution_logger.testing import MemoryDelivery
from waiting import wait_until

DOWN = DeliveryError("the broker is away")
MakeShipper = Callable[..., Shipper]


class Ship:
    """A shipper by hand, with its clock and its delivery."""

    def __init__(self, delivery: MemoryDelivery | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        self.delivery = delivery or MemoryDelivery()
        self.shipper = HandDrivenShipper(Settings(**settings), lambda: self.delivery, monotonic=self.clock)

    def accept(self, *numbers: int) -> None:
        """Accept entries that are numbers."""
        for number in numbers:
            assert self.shipper.accept(b"%d" % number)

    def fail(self, times: int = 1) -> None:
        """Let the next attempts fail."""
        self.delivery.failures += [DOWN] * times

    def deliver(self, after_seconds: float = 0.0) -> None:
        """Do what the thread does when that time has passed."""
        self.clock.advance(after_seconds)
        self.shipper.deliver_due()

    def deliver_when_due(self) -> float:
        """Do what the thread does when it wakes up next, and return after how many seconds that is."""
        seconds = self.shipper.seconds_until_due()
        assert seconds is not None
        self.deliver(seconds)
        return seconds


@pytest.fixture
def make_shipper() -> Iterator[MakeShipper]:
    """Makes shippers with a thread, which ends after the test."""
    shippers: list[Shipper] = []

    def make(
        delivery: Delivery | None = None, *, settings: Settings | None = None, **options: Any
    ) -> Shipper:
        used = delivery or MemoryDelivery()
        shippers.append(Shipper(settings or Settings(), lambda: used, **options))
        return shippers[-1]

    yield make
    for shipper in shippers:
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)


class TestTimer:
    """50 entries, or 2 s after the first one."""

    def test_nothing_is_due_while_nothing_waits(self) -> None:
        """The thread then sleeps without a limit."""
        assert Ship().shipper.seconds_until_due() is None

    def test_entries_are_delivered_two_seconds_after_the_first_one(self) -> None:
        """Together, and not before."""
        ship = Ship()
        ship.accept(1)
        ship.deliver(after_seconds=1.9)
        ship.accept(2)
        ship.deliver()
        assert ship.delivery.batches == []
        ship.deliver(after_seconds=0.1)
        assert ship.delivery.entries == [1, 2]
        assert ship.shipper.seconds_until_due() is None

    def test_fifty_entries_are_delivered_at_once(self) -> None:
        """Without the clock moving at all."""
        ship = Ship()
        ship.accept(*range(49))
        ship.deliver()
        assert ship.delivery.batches == []
        ship.accept(49)
        ship.deliver()
        assert [len(batch) for batch in ship.delivery.batches] == [50]

    def test_all_that_is_due_is_delivered_in_one_go(self) -> None:
        """In large batches; what is left over is younger than it is told, and goes with them."""
        ship = Ship(buffer_max_entries=2000)
        ship.accept(*range(1049))
        ship.deliver()
        assert [len(batch) for batch in ship.delivery.batches] == [500, 500, 49]
        assert ship.delivery.entries == list(range(1049))


class TestFailures:
    """A batch stays at the head, with its id, until it is delivered."""

    def test_a_failed_batch_comes_again_before_all_others(self) -> None:
        """As the same batch: the receiver may have it already."""
        attempts: list[Batch] = []

        class Recording(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                attempts.append(batch)
                super().deliver(batch)

        ship = Ship(Recording())
        ship.fail(times=2)
        ship.accept(1, 2)
        ship.deliver(after_seconds=2.0)
        ship.accept(*range(3, 60))
        ship.deliver_when_due()
        ship.deliver_when_due()
        assert ship.delivery.entries == list(range(1, 60))
        assert [batch.id for batch in attempts] == [attempts[0].id] * 3 + [attempts[3].id]
        assert attempts[0].entries == attempts[2].entries

    def test_pauses_double_and_begin_anew_after_a_success(self) -> None:
        """From half a second, each shortened by up to a half, up to 30 s."""
        ship = Ship()
        for _ in range(2):
            ship.fail(times=9)
            ship.accept(1)
            ship.deliver(after_seconds=2.0)
            for full in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0):
                assert full / 2 <= ship.deliver_when_due() <= full
        assert ship.delivery.entries == [1, 1]
        assert ship.shipper.failed_attempts == 18

    def test_entries_that_come_meanwhile_do_not_shorten_the_pause(self) -> None:
        """A broker that is away is not asked once per fifty entries."""
        ship = Ship()
        ship.fail()
        ship.accept(1)
        ship.deliver(after_seconds=2.0)
        pause = ship.shipper.seconds_until_due()
        ship.accept(*range(200))
        ship.deliver()
        assert ship.shipper.seconds_until_due() == pause
        assert ship.shipper.failed_attempts == 1

    def test_an_outage_is_reported_when_it_begins_and_when_it_ends(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Not with every attempt; and the reason can be asked for as long as it lasts."""
        caplog.set_level(logging.INFO, "execution_logger")
        ship = Ship()
        ship.fail(times=3)
        ship.accept(1, 2)
        ship.deliver(after_seconds=2.0)
        ship.deliver_when_due()
        ship.deliver_when_due()
        assert ship.shipper.last_error == "the broker is away"
        ship.deliver_when_due()
        assert ship.shipper.last_error is None
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("WARNING", "delivery failed, entries are kept and sent again: the broker is away"),
            ("INFO", "delivery works again; 2 entries were kept"),
        ]

    def test_a_delivery_that_cannot_be_made_is_made_again(self) -> None:
        """A wrong password, or a missing folder, may be put right meanwhile."""
        delivery, failures = MemoryDelivery(), [DeliveryError("not yet")]

        def make() -> MemoryDelivery:
            if failures:
                raise failures.pop()
            return delivery

        shipper = HandDrivenShipper(Settings(), make, monotonic=(clock := ManualClock()))
        shipper.accept(b"1")
        clock.advance(2.0)
        shipper.deliver_due()
        assert shipper.last_error == "not yet"
        clock.advance(0.5)
        shipper.deliver_due()
        assert delivery.entries == [1]

    def test_a_delivery_is_kept_through_failures(self) -> None:
        """It knows best whether its connection is still good."""
        made: list[MemoryDelivery] = []

        def make() -> MemoryDelivery:
            made.append(MemoryDelivery())
            made[-1].failures = [DOWN]
            return made[-1]

        shipper = HandDrivenShipper(Settings(), make, monotonic=(clock := ManualClock()))
        for _ in range(2):
            shipper.accept(b"1")
            for _ in range(2):
                clock.advance(2.0)
                shipper.deliver_due()
        assert len(made) == 1


class TestUnexpectedErrors:
    """Nothing may end the delivering, and nothing is lost."""

    def test_the_batch_is_kept_and_the_error_counted(
        self, internal_errors: list[tuple[str, BaseException]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is reported with its traceback the first time, and counted every time."""
        ship = Ship()
        ship.delivery.failures = [ValueError("a bug"), ValueError("a bug"), KeyError("another")]
        ship.accept(1)
        ship.deliver(after_seconds=2.0)
        assert ship.shipper.last_error == "ValueError: a bug"
        for _ in range(3):
            assert ship.deliver_when_due() > 0, "a bug must not make the thread run hot"
        assert ship.delivery.entries == [1]
        assert ship.shipper.errors.count == 3
        assert [type(error) for _, error in internal_errors] == [ValueError, ValueError, KeyError]
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert ["internal error in shipper; entries are kept"] * 2 == [e.getMessage() for e in errors]
        assert all(error.exc_info for error in errors)
        internal_errors.clear()

    def test_an_error_that_cannot_even_be_shown(
        self, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """Drivers have errors whose text fails."""

        class Unprintable(Exception):  # noqa: N818 - it is an error in more than one way
            def __str__(self) -> str:
                raise ValueError

        ship = Ship()
        ship.delivery.failures = [Unprintable()]
        ship.accept(1)
        ship.deliver(after_seconds=2.0)
        assert "Unprintable" in str(ship.shipper.last_error)
        ship.deliver_when_due()
        assert ship.delivery.entries == [1]
        internal_errors.clear()

    def test_a_failing_filter_of_the_hosts_stops_nothing(
        self, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """The standard library lets errors of filters out of the logging call."""

        def broken(_: logging.LogRecord) -> bool:
            raise ZeroDivisionError

        ship = Ship()
        ship.delivery.failures = [DOWN, ValueError("a bug")]
        logging.getLogger("execution_logger").addFilter(broken)
        try:
            ship.accept(1)
            ship.deliver(after_seconds=2.0)
            ship.deliver_when_due()
            ship.deliver_when_due()
        finally:
            logging.getLogger("execution_logger").removeFilter(broken)
        assert ship.delivery.entries == [1]
        assert ship.shipper.last_error is None
        assert {where for where, _ in internal_errors} == {"logging", "shipper"}
        internal_errors.clear()

    def test_memory_that_runs_out_while_taking_makes_a_pause(
        self, monkeypatch: pytest.MonkeyPatch, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """Also when somebody waits in flush(): the thread must not run hot."""
        ship = Ship()
        ship.accept(1)
        done = ship.shipper.flush(10.0)
        with monkeypatch.context() as patched:
            patched.setattr(ship.shipper.buffer, "take", lambda: 1 / 0)
            ship.deliver()
        assert ship.shipper.failed_attempts == 1
        assert ship.deliver_when_due() > 0
        assert ship.delivery.entries == [1]
        assert done.done()
        internal_errors.clear()

    def test_a_failing_hook_before_the_thread_is_no_matter_of_the_call(
        self, make_shipper: MakeShipper, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """A logging call never raises: entries are delivered, and the error is counted."""

        def fail() -> None:
            raise ImportError

        delivery = MemoryDelivery()
        shipper = make_shipper(delivery, before_thread=fail)
        assert shipper.accept(b"1")
        shipper.flush(DEADLINE_SECONDS).result(DEADLINE_SECONDS)
        assert delivery.entries == [1]
        assert [type(error) for _, error in internal_errors] == [ImportError]
        internal_errors.clear()


class TestFlush:
    """Deliver now; nobody waits for longer than they said."""

    def test_what_waits_is_due_at_once(self) -> None:
        """One entry is enough."""
        ship = Ship()
        ship.accept(1)
        done = ship.shipper.flush(5.0)
        assert not done.done()
        ship.deliver()
        assert done.done()
        assert ship.delivery.entries == [1]

    def test_nothing_to_do_is_done_at_once(self) -> None:
        """And starts no thread: a process that never logs has none."""
        ship = Ship()
        assert ship.shipper.flush(5.0).done()
        assert ship.shipper.flush(5.0, then_stop=True).done()
        ship.accept(1)
        ship.shipper.flush(5.0)
        ship.deliver()
        assert ship.shipper.flush(5.0).done()

    def test_an_attempt_is_made_at_once_in_an_outage_too(self) -> None:
        """It may be over; and the pauses are short as long as somebody waits."""
        ship = Ship()
        ship.fail(times=10)
        ship.accept(1)
        ship.deliver(after_seconds=2.0)
        for _ in range(6):
            ship.deliver_when_due()
        done = ship.shipper.flush(5.0)
        assert ship.deliver_when_due() == 0.0
        assert ship.deliver_when_due() == 0.25
        assert ship.deliver_when_due() == 0.25
        assert not done.done()
        assert ship.deliver_when_due() == 0.25
        assert done.done()

    def test_its_attempts_do_not_lengthen_the_pauses_after_it(self) -> None:
        """Or an outage of seconds would last half a minute for hosts that flush after each workflow."""
        ship = Ship()
        ship.fail(times=100)
        ship.accept(1)
        done = ship.shipper.flush(5.0)
        for _ in range(21):
            ship.deliver_when_due()
        assert done.done()
        assert ship.shipper.failed_attempts == 21
        assert 0.25 <= ship.deliver_when_due() <= 0.5

    def test_it_is_answered_in_an_outage_when_its_time_is_over(self) -> None:
        """Nothing is dropped then, and the thread is not in a hurry any more."""
        ship = Ship()
        ship.fail(times=10)
        ship.accept(1)
        done = ship.shipper.flush(0.0)
        ship.deliver()
        assert done.done()
        assert ship.delivery.batches == []
        assert ship.shipper.buffer.held == 1

    def test_one_that_comes_during_an_attempt_gets_an_attempt_of_its_own(self) -> None:
        """The attempt under way may be older than the broker's return."""

        class FlushedMeanwhile(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                if not done:
                    done.append(ship.shipper.flush(5.0))
                    raise DOWN
                super().deliver(batch)

        done: list[Any] = []
        ship = Ship(FlushedMeanwhile())
        ship.accept(1)
        ship.deliver(after_seconds=2.0)
        assert ship.delivery.entries == [1]
        assert done[0].done()

    def test_pauses_are_never_longer_than_the_setting(self) -> None:
        """Not those of a flush either."""
        ship = Ship(retry_pause_max_seconds=0.01)
        ship.fail(times=3)
        ship.accept(1)
        ship.shipper.flush(5.0)
        ship.deliver()
        assert ship.deliver_when_due() == 0.01

    def test_an_entry_that_tells_what_was_dropped_is_waited_for(self) -> None:
        """It belongs to what is flushed, although it was recorded later."""
        delivery, marker = MemoryDelivery(), [b"99"]
        shipper = HandDrivenShipper(
            Settings(),
            lambda: delivery,
            after_delivery=lambda: bool(marker) and shipper.accept(marker.pop()),
            monotonic=ManualClock(),
        )
        shipper.accept(b"1")
        done = shipper.flush(5.0, then_stop=True)
        shipper.deliver_due()
        assert delivery.entries == [1, 99]
        assert not done.done(), "a shutdown is over when the thread has ended"
        assert shipper.seconds_until_due() == 0.0


class TestThread:
    """The thread: there when it is needed, asleep when not, and not to be killed."""

    def test_it_starts_with_the_first_entry(self, make_shipper: MakeShipper) -> None:
        """Not before; it is a daemon, which no process waits for."""
        shipper = make_shipper()
        assert not shipper.is_alive
        shipper.accept(b"1")
        (thread,) = _threads()
        assert thread.daemon
        assert thread.name == THREAD_NAME

    def test_the_timer_fires_without_another_call(self, make_shipper: MakeShipper) -> None:
        """And again, after the thread has slept."""
        delivery = BlockedDelivery()
        delivery.open()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.02))
        for count in (1, 2, 3):
            shipper.accept(b"%d" % count)
            delivery.wait_until_entered()
            wait_until(lambda: shipper.seconds_until_due() is None)
            delivery.entered.clear()
        assert delivery.entries == [1, 2, 3]

    @pytest.mark.parametrize("seconds", [1000.0, float("inf")])
    def test_a_full_batch_wakes_it_before_its_time(self, make_shipper: MakeShipper, seconds: float) -> None:
        """However far away that is: an infinite interval means full batches only."""
        delivery = BlockedDelivery()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=seconds, batch_size=3))
        delivery.open()
        for number in range(3):
            assert not delivery.entered.is_set()
            shipper.accept(b"%d" % number)
        delivery.wait_until_entered()
        wait_until(lambda: len(delivery.batches) == 1)

    def test_what_comes_during_a_delivery_is_delivered_after_it(self, make_shipper: MakeShipper) -> None:
        """Nothing waits for another call, although the thread was not asleep when it was told."""
        delivery = BlockedDelivery()
        shipper = make_shipper(delivery, settings=Settings(batch_size=3, flush_interval_seconds=0.02))
        for number in range(10):
            shipper.accept(b"%d" % number)
            if number == 2:
                delivery.wait_until_entered()
        delivery.open()
        wait_until(lambda: delivery.entries == list(range(10)))

    def test_a_shutdown_ends_it_and_closes_the_delivery(self) -> None:
        """Twice is once; an entry that comes later starts the next thread, with the next delivery."""
        made: list[_Closing] = []

        def make() -> _Closing:
            made.append(_Closing())
            return made[-1]

        shipper = Shipper(Settings(), make)
        for number in (1, 2):
            shipper.accept(b"%d" % number)
            shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
            wait_until(lambda: not _threads())
            assert shipper.flush(DEADLINE_SECONDS, then_stop=True).done()
        assert [delivery.entries for delivery in made] == [[1], [2]]
        assert [delivery.closed for delivery in made] == [1, 1]

    def test_a_delivery_that_cannot_be_closed_is_given_up(
        self, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """The shutdown ends all the same."""

        class Unclosable(MemoryDelivery):
            def close(self) -> None:
                raise SystemExit

        shipper = Shipper(Settings(), Unclosable)
        shipper.accept(b"1")
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        assert [where for where, _ in internal_errors] == ["closing the delivery"]
        internal_errors.clear()

    def test_entries_that_come_while_it_ends_are_delivered(self, make_shipper: MakeShipper) -> None:
        """By the next thread, and without another call."""
        delivery = MemoryDelivery()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.02))
        stop, barrier = threading.Event(), threading.Barrier(2)

        def stop_often() -> None:
            barrier.wait(DEADLINE_SECONDS)
            while not stop.is_set():
                shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)

        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(stop_often)
            barrier.wait(DEADLINE_SECONDS)
            for number in range(2000):
                shipper.accept(b"%d" % number)
            stop.set()
            stopping.result(DEADLINE_SECONDS)
        wait_until(lambda: shipper.buffer.held == 0)
        assert delivery.entries == list(range(2000))

    def test_a_shutdown_that_gives_up_leaves_no_other_flush_alone(self, make_shipper: MakeShipper) -> None:
        """The thread would end, and who waits longer would wait for nothing."""
        delivery, is_down = BlockedDelivery(), True

        class Down(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                if is_down:
                    raise DOWN
                delivery.deliver(batch)

        delivery.open()
        shipper = make_shipper(Down())
        shipper.accept(b"1")
        long = shipper.flush(DEADLINE_SECONDS)
        shipper.flush(0.0, then_stop=True).result(DEADLINE_SECONDS)
        is_down = False
        long.result(DEADLINE_SECONDS)
        assert delivery.entries == [1]

    def test_a_shutdown_in_an_outage_ends_it_and_keeps_the_entries(self) -> None:
        """They wait for the next call; no thread goes on for nothing."""
        delivery = MemoryDelivery()
        delivery.failures = [DOWN] * 3
        shipper = Shipper(Settings(), lambda: delivery)
        shipper.accept(b"1")
        shipper.flush(0.0, then_stop=True).result(DEADLINE_SECONDS)
        wait_until(lambda: not _threads())
        assert shipper.buffer.held == 1
        delivery.failures.clear()
        shipper.accept(b"2")
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        assert delivery.entries == [1, 2]

    def test_a_full_buffer_does_not_wake_it(self, make_shipper: MakeShipper) -> None:
        """Or it would compete with the calls exactly when there are most of them."""
        delivery = BlockedDelivery()
        shipper = make_shipper(delivery, settings=Settings(buffer_max_entries=2, batch_size=2))
        assert shipper.accept(b"1")
        assert shipper.accept(b"2")
        delivery.wait_until_entered()
        shipper._event.wait(0)
        assert not shipper.accept(b"3")
        assert not shipper._event.is_set()
        delivery.open()


class TestOwnThread:
    """What a delivery does itself: it may log and flush like everybody else."""

    def test_a_delivery_may_log_and_flush(self, make_shipper: MakeShipper) -> None:
        """It would wait for itself; so the flush is over at once, and the entry goes with the next batch."""

        class Logging(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                if not self.batches:
                    assert shipper.is_own_thread()
                    assert shipper.accept(b"2")
                    assert shipper.flush(DEADLINE_SECONDS).done()
                    assert shipper.flush(DEADLINE_SECONDS, then_stop=True).done()
                super().deliver(batch)

        delivery = Logging()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.02))
        shipper.accept(b"1")
        wait_until(lambda: delivery.entries == [1, 2])
        assert not shipper.is_own_thread()

    def test_a_delivery_may_log_while_it_is_closed(self) -> None:
        """The entry is delivered by the next thread."""

        class LoggingAtTheEnd(MemoryDelivery):
            def close(self) -> None:
                if len(self.batches) == 1:
                    shipper.accept(b"2")

        delivery = LoggingAtTheEnd()
        shipper = Shipper(Settings(), lambda: delivery)
        shipper.accept(b"1")
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        assert delivery.entries == [1, 2]


class TestDeath:
    """What would kill any other thread."""

    def test_an_exit_out_of_the_delivery_is_survived(
        self, make_shipper: MakeShipper, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """SystemExit ends a thread without a word; here it is an error like any other."""

        class Exiting(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                if not attempts:
                    attempts.append(threading.current_thread())
                    raise SystemExit
                attempts.append(threading.current_thread())
                super().deliver(batch)

        attempts: list[threading.Thread] = []
        delivery = Exiting()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.01))
        shipper.accept(b"1")
        wait_until(lambda: delivery.entries == [1])
        assert attempts[0] is attempts[1]
        assert [type(error) for _, error in internal_errors] == [SystemExit]
        internal_errors.clear()

    def test_an_exception_from_outside_is_survived(
        self, make_shipper: MakeShipper, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """As debuggers and timeout decorators throw them into threads: order and entries are kept."""

        class Interruptible(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                entered.set()
                while not self.batches and not interrupted_once.is_set():
                    entered.wait(0.001)
                super().deliver(batch)

        entered, interrupted_once = threading.Event(), threading.Event()
        delivery = Interruptible()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.01))
        shipper.accept(b"1")
        assert entered.wait(DEADLINE_SECONDS)
        shipper.accept(b"2")
        (thread,) = _threads()
        assert thread.ident is not None
        raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
        )
        assert raised == 1
        wait_until(lambda: internal_errors)
        interrupted_once.set()
        wait_until(lambda: delivery.entries == [1, 2])
        assert [type(error) for _, error in internal_errors] == [KeyboardInterrupt]
        internal_errors.clear()

    def test_a_thread_that_is_killed_is_replaced_by_the_next_call(
        self, make_shipper: MakeShipper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next call, not the next full batch; nothing is lost, and the order is kept."""
        delivery = MemoryDelivery()
        delivery.failures = [DOWN]
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.01))
        with monkeypatch.context() as patched:
            # Not even the place where errors are survived is safe from a debugger.
            patched.setattr(shipper, "_failed", _exit)
            patched.setattr(shipper, "_unexpected", _exit)
            shipper.accept(b"1")
            shipper.accept(b"2")
            wait_until(lambda: not _threads())
        delivery.failures.clear()
        shipper.accept(b"3")
        wait_until(lambda: delivery.entries == [1, 2, 3])

    def test_a_thread_that_is_killed_is_replaced_by_a_flush(
        self, make_shipper: MakeShipper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who waits for it is served."""
        delivery = MemoryDelivery()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.01))
        with monkeypatch.context() as patched:
            patched.setattr(shipper, "_wait_and_deliver", _exit)
            shipper.accept(b"1")
            wait_until(lambda: not _threads())
        shipper.flush(DEADLINE_SECONDS).result(DEADLINE_SECONDS)
        assert delivery.entries == [1]


class TestWithoutThreads:
    """A process in which no thread can start: the interpreter is about to end."""

    @pytest.fixture(autouse=True)
    def no_thread_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As Python 3.12 and later, from the moment on that the main thread has ended."""

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        monkeypatch.setattr(threading.Thread, "start", refuse)

    def test_a_call_goes_on(self) -> None:
        """The entry waits for `drive()`."""
        shipper = Shipper(Settings(), MemoryDelivery)
        assert shipper.accept(b"1")
        assert not shipper.is_alive
        assert shipper.buffer.held == 1

    def test_the_caller_delivers(self) -> None:
        """In order, all of it, and the flush is answered."""
        delivery = _Closing()
        shipper = Shipper(Settings(), lambda: delivery)
        for number in range(120):
            shipper.accept(b"%d" % number)
        done = shipper.flush(DEADLINE_SECONDS, then_stop=True)
        shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
        assert done.done()
        assert delivery.entries == list(range(120))
        assert delivery.closed == 1

    def test_the_caller_tries_again_and_stops_in_time(self) -> None:
        """An outage does not keep a process from ending."""
        clock, attempts = ManualClock(), list[float]()

        class Slow(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                attempts.append(clock())
                clock.advance(1.0)
                raise DOWN

        shipper = Shipper(Settings(), Slow, monotonic=clock)
        shipper.accept(b"1")
        shipper.flush(5.0, then_stop=True)
        shipper.drive(until=clock() + 5.0)
        assert 1 <= len(attempts) <= 5
        assert shipper.buffer.held == 1

    def test_a_delivery_that_flushes_does_not_call_itself(self) -> None:
        """The caller is the shipper's thread for that time."""

        class Flushing(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                assert shipper.is_own_thread()
                assert shipper.is_alive
                assert shipper.flush(DEADLINE_SECONDS).done()
                shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
                super().deliver(batch)

        delivery = Flushing()
        shipper = Shipper(Settings(), lambda: delivery)
        shipper.accept(b"1")
        shipper.flush(DEADLINE_SECONDS)
        shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
        assert delivery.entries == [1]
        assert not shipper.is_alive

    def test_an_impatient_user_ends_it(self) -> None:
        """Ctrl-C goes through, and leaves everything as it was."""

        class Interrupted(MemoryDelivery):
            def deliver(self, batch: Batch) -> None:
                raise KeyboardInterrupt

        shipper = Shipper(Settings(), Interrupted)
        shipper.accept(b"1")
        shipper.flush(DEADLINE_SECONDS)
        with pytest.raises(KeyboardInterrupt):
            shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
        assert shipper.buffer.held == 1
        assert not shipper.is_alive


def test_nobody_drives_while_a_thread_could(make_shipper: MakeShipper) -> None:
    """Two at a time would deliver twice; and an attempt that hangs would hang the caller."""
    delivery = BlockedDelivery()
    shipper = make_shipper(delivery)
    shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
    shipper.accept(b"1")
    shipper.flush(DEADLINE_SECONDS)
    delivery.wait_until_entered()
    shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
    assert delivery.batches == []
    delivery.open()


class TestInterruptions:
    """A signal handler, or a destructor, that logs and flushes in the middle of a call."""

    @pytest.mark.parametrize(
        "function",
        [Shipper.accept, Shipper.wake, Shipper._start, Shipper.flush, threading.Thread.start],
        ids=lambda function: function.__qualname__,
    )
    @pytest.mark.parametrize("then_stop", [False, True])
    def test_at_any_line(self, function: Callable[..., Any], then_stop: bool) -> None:  # noqa: FBT001
        """Everything is delivered once, in order, by one thread at a time, and nothing deadlocks."""
        for line in lines_of(function):
            delivery = _Alone()
            shipper = Shipper(Settings(batch_size=1, max_batch_entries=1), lambda: delivery)  # noqa: B023
            flushed: list[Any] = []

            def handle() -> None:
                shipper.accept(b"2")  # noqa: B023
                flushed.append(shipper.flush(DEADLINE_SECONDS, then_stop=then_stop))  # noqa: B023

            with interrupted(function, line, by=handle):
                shipper.accept(b"1")
                shipper.flush(DEADLINE_SECONDS).result(DEADLINE_SECONDS)
            for each in flushed:
                each.result(DEADLINE_SECONDS)
            shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
            assert sorted(map(int, delivery.entries)) == ([1, 2] if flushed else [1]), f"line {line}"
            wait_until(lambda: not _threads())

    def test_a_thread_that_ends_before_its_start_is_over_gets_a_successor(self) -> None:
        """It finds the start that made it in its way, and the entry that it leaves must not wait for a call."""
        delivery = MemoryDelivery()
        shipper = Shipper(Settings(flush_interval_seconds=0.01), lambda: delivery)

        def end_it_and_log() -> None:
            shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
            shipper.accept(b"2")

        last_line = lines_of(Shipper._start)[-1]
        with interrupted(Shipper._start, last_line, by=end_it_and_log):
            shipper.accept(b"1")
        wait_until(lambda: delivery.entries == [1, 2])
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)

    def test_by_real_signals(self) -> None:
        """Hundreds of them, at any moment of thousands of calls."""
        delivery = _Alone()
        shipper = Shipper(Settings(batch_size=1, max_batch_entries=500), lambda: delivery)
        signals, accepted = 0, 0
        chance = random.Random(0)

        def handle(*_: object) -> None:
            nonlocal signals, accepted
            signals += 1
            accepted += shipper.accept(b"1")
            shipper.flush(0.0, then_stop=signals % 3 == 0)
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 5e-4))

        before = signal.signal(signal.SIGALRM, handle)
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
            while signals < 300:
                if shipper.accept(b"0"):
                    accepted += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        wait_until(lambda: not _threads())
        assert shipper.buffer.held == 0
        assert len(delivery.entries) == shipper.buffer.queued
        assert sum(delivery.entries) == signals


class _Closing(MemoryDelivery):
    """Counts how often it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class _Alone(MemoryDelivery):
    """Fails when two threads deliver at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self._busy = threading.Lock()

    def deliver(self, batch: Batch) -> None:
        assert self._busy.acquire(blocking=False), "two threads deliver at the same time"
        super().deliver(batch)
        self._busy.release()


def _exit(*_: object) -> None:
    raise SystemExit


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


class Accounting(RuleBasedStateMachine):
    """Any sequence of calls, failures and pauses: accepted = delivered + waiting + dropped, in order."""

    @initialize(
        batch_size=st.integers(1, 5),
        more=st.integers(0, 5),
        buffer_max_entries=st.integers(1, 40),
        buffer_max_bytes=st.integers(1024, 3000),
    )
    def begin(self, batch_size: int, more: int, buffer_max_entries: int, buffer_max_bytes: int) -> None:
        """Start with small limits, which are met often."""
        self.clock = ManualClock()
        self.delivery = MemoryDelivery()
        self.settings = Settings(
            batch_size=batch_size,
            max_batch_entries=batch_size + more,
            max_entry_bytes=1024,
            max_batch_bytes=1024,
            buffer_max_entries=buffer_max_entries,
            buffer_max_bytes=buffer_max_bytes,
        )
        self.shipper = HandDrivenShipper(self.settings, lambda: self.delivery, monotonic=self.clock)
        self.accepted: list[bytes] = []
        self.calls = self.dropped = 0
        self.flushes: list[tuple[Any, int, float]] = []
        self.shutdowns: list[tuple[Any, int, float]] = []

    @rule(size=st.integers(0, 1000), times=st.integers(1, 6))
    def accept(self, size: int, times: int) -> None:
        """The host logs."""
        for _ in range(times):
            self.calls += 1
            entry = b'["%d","%s"]' % (self.calls, b"x" * size)
            if self.shipper.accept(entry):
                self.accepted.append(entry)
            else:
                self.dropped += 1

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule()
    def deliver(self) -> None:
        """The thread wakes up, and ends if that was asked for."""
        self.shipper.deliver_due()
        self.shipper._ended()

    @rule(times=st.integers(1, 4), error=st.sampled_from([DOWN, ValueError("a bug")]))
    def break_down(self, times: int, error: Exception) -> None:
        """The next attempts fail."""
        self.delivery.failures += [error] * times

    @rule()
    def repair(self) -> None:
        """The broker is back."""
        self.delivery.failures.clear()

    @rule(timeout_seconds=st.floats(0, 10), then_stop=st.booleans())
    def flush(self, timeout_seconds: float, then_stop: bool) -> None:  # noqa: FBT001
        """Somebody waits."""
        done = self.shipper.flush(timeout_seconds, then_stop=then_stop)
        request = (done, len(self.accepted), self.clock() + timeout_seconds)
        (self.shutdowns if then_stop else self.flushes).append(request)

    @precondition(lambda self: not self.delivery.failures)
    @rule()
    def deliver_all(self) -> None:
        """After a flush that nothing disturbs, nothing waits, and everybody has an answer."""
        self.shipper.flush(100.0)
        self.clock.advance(30.0)
        for _ in range(3):  # a shutdown on its way ends each of the first two
            self.deliver()
        assert self.shipper.buffer.held == 0
        assert all(done.done() for done, *_ in self.flushes + self.shutdowns)

    @invariant()
    def nothing_is_lost_doubled_or_out_of_order(self) -> None:
        """What was accepted is delivered or waits, and the account says so."""
        buffer = self.shipper.buffer
        delivered = [entry for batch in self.delivery.batches for entry in batch.entries]
        assert delivered == self.accepted[: len(delivered)]
        assert buffer.settled == len(delivered)
        assert buffer.queued == len(self.accepted)
        assert buffer.held == len(self.accepted) - len(delivered)
        assert buffer.held_bytes == sum(map(len, self.accepted[len(delivered) :]))
        assert self.calls == buffer.settled + buffer.held + self.dropped

    @invariant()
    def limits_are_kept(self) -> None:
        """Of the memory, and of each batch."""
        assert self.shipper.buffer.held <= self.settings.buffer_max_entries
        assert self.shipper.buffer.held_bytes <= self.settings.buffer_max_bytes
        for batch in self.delivery.batches:
            assert len(batch) <= self.settings.max_batch_entries
            assert batch.size_bytes <= self.settings.max_batch_bytes or len(batch) == 1

    @invariant()
    def nobody_is_answered_too_early(self) -> None:
        """Before all is delivered, or the time is over."""
        for done, ticket, expires_at in self.flushes + self.shutdowns:
            if done.done():
                assert self.shipper.buffer.settled >= ticket or self.clock() >= expires_at

    @invariant()
    def what_waits_has_its_time(self) -> None:
        """Within the longest pause there will be an attempt; an empty shipper sleeps."""
        seconds = self.shipper.seconds_until_due()
        if self.shipper.buffer.held:
            assert seconds is not None
            assert 0 <= seconds <= self.settings.retry_pause_max_seconds
        elif not self.shipper._flushes and not self.shipper._stops:
            assert seconds is None


@pytest.mark.usefixtures("forgiven")
class TestAccounting(Accounting.TestCase):  # type: ignore[misc,name-defined] # made at run time
    """Runs the machine."""

    settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.fixture
def forgiven(internal_errors: list[tuple[str, BaseException]]) -> Iterator[None]:
    """The machine breaks things on purpose."""
    yield
    internal_errors.clear()


def test_eight_threads_lose_nothing(make_shipper: MakeShipper) -> None:
    """While a ninth flushes all the time: each thread's entries arrive once, in its order."""
    delivery = _Alone()
    shipper = make_shipper(delivery, settings=Settings(batch_size=7, flush_interval_seconds=0.001))
    barrier, entries = threading.Barrier(9), 400

    def log(thread: int) -> None:
        barrier.wait(DEADLINE_SECONDS)
        for number in range(entries):
            assert shipper.accept(b"%d" % (thread * entries + number))

    def flush() -> None:
        barrier.wait(DEADLINE_SECONDS)
        while shipper.buffer.queued < 8 * entries:
            shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)

    with ThreadPoolExecutor(9) as pool:
        for each in [pool.submit(flush), *(pool.submit(partial(log, thread)) for thread in range(8))]:
            each.result(DEADLINE_SECONDS)
    shipper.flush(DEADLINE_SECONDS).result(DEADLINE_SECONDS)
    for thread in range(8):
        own = [number for number in map(int, delivery.entries) if number // entries == thread]
        assert own == list(range(thread * entries, (thread + 1) * entries))
    assert shipper.buffer.held == 0
