"""The shipper's thread: there when it is needed, asleep when not, and not to be killed."""

import ctypes
import inspect
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from doubles import DEADLINE_SECONDS, BlockedDelivery, assemble, interrupted, lines_of, numbers, signals
from execution_logger import Settings
from execution_logger.delivery import Delivery
from execution_logger.delivery.interface import Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.shipping import thread as shipper_module
from execution_logger.shipping.forks import is_to_be_forked
from execution_logger.shipping.thread import THREAD_NAME, Shipper
from execution_logger.testing import MemoryDelivery
from waiting import wait_until

DOWN = DeliveryError("the broker is away")
MakeShipper = Callable[..., Shipper]


class Closing(MemoryDelivery):
    """Counts how often it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    def close(self) -> None:
        """Count."""
        self.closed += 1


class Alone(MemoryDelivery):
    """Fails when two threads deliver at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self._busy = threading.Lock()

    def deliver(self, batch: Batch) -> Receipt:
        """Keep the batch."""
        assert self._busy.acquire(blocking=False), "two threads deliver at the same time"
        receipt = super().deliver(batch)
        self._busy.release()
        return receipt


class Noted:
    """A function of which a test can wait for the first call."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._called = threading.Event()

    def __call__(self, *args: Any) -> object:
        """Call it."""
        self._called.set()
        return self._function(*args)

    def wait_until_called(self) -> None:
        """Return when it has been called."""
        assert self._called.wait(DEADLINE_SECONDS)


def leave(*_: object) -> None:
    """End the thread."""
    raise SystemExit


def threads() -> list[threading.Thread]:
    """Those of all shippers."""
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


@pytest.fixture
def make_shipper() -> Iterator[MakeShipper]:
    """Makes shippers with a thread, which ends after the test."""
    shippers: list[Shipper] = []

    def make(
        delivery: Delivery | None = None, *, settings: Settings | None = None, **options: Any
    ) -> Shipper:
        used = delivery or MemoryDelivery()
        shippers.append(assemble(Shipper, lambda: used, settings, **options))
        return shippers[-1]

    yield make
    for shipper in shippers:
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)


class TestThread:
    """The thread: there when it is needed, asleep when not, and not to be killed."""

    def test_it_starts_with_the_first_entry(self, make_shipper: MakeShipper) -> None:
        """Not before; it is a daemon, which no process waits for."""
        shipper = make_shipper()
        assert not shipper.is_alive
        shipper.accept(b"1")
        (thread,) = threads()
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
            wait_until(lambda: shipper.seconds_until_due() == math.inf)
            delivery.entered.clear()
        assert numbers(delivery) == [1, 2, 3]

    @pytest.mark.parametrize("seconds", [1000.0, 1e300])
    def test_a_full_batch_wakes_it_before_its_time(self, make_shipper: MakeShipper, seconds: float) -> None:
        """However far away that is, even further than the platform can count."""
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
        wait_until(lambda: numbers(delivery) == list(range(10)))

    @pytest.mark.parametrize("ended_by", ["a flush", "the largest batch"])
    def test_entries_gather_after_a_batch(
        self, make_shipper: MakeShipper, monkeypatch: pytest.MonkeyPatch, ended_by: str
    ) -> None:
        """At high rates they make fewer and larger batches: until somebody waits, or for the largest."""
        monkeypatch.setattr(shipper_module, "_LINGER_SECONDS", 1000.0)
        delivery = MemoryDelivery()
        settings = Settings(batch_size=3, max_batch_entries=9, flush_interval_seconds=1000.0)
        shipper = make_shipper(delivery, settings=settings)
        lingering = Noted(shipper._linger_over.wait)
        monkeypatch.setattr(shipper._linger_over, "wait", lingering)
        for number in range(3):
            shipper.accept(b"%d" % number)
        lingering.wait_until_called()
        last = 10 if ended_by == "a flush" else 12
        for number in range(3, last):
            shipper.accept(b"%d" % number)
        if ended_by == "a flush":
            shipper.flush(DEADLINE_SECONDS).result(DEADLINE_SECONDS)
        wait_until(lambda: numbers(delivery) == list(range(last)))
        assert [len(batch) for batch in delivery.batches] == [3, last - 3]

    @pytest.mark.parametrize("when", ["before the batch", "after the batch"])
    def test_a_shutdown_waits_for_no_others(
        self, make_shipper: MakeShipper, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        """Who asks the thread to end has nothing to gather."""
        monkeypatch.setattr(shipper_module, "_LINGER_SECONDS", 1000.0)
        settings = Settings(batch_size=3, flush_interval_seconds=1000.0)
        shipper = make_shipper(MemoryDelivery(), settings=settings)
        lingering = Noted(shipper._linger_over.wait)
        monkeypatch.setattr(shipper._linger_over, "wait", lingering)
        for number in range(3 if when == "after the batch" else 1):
            shipper.accept(b"%d" % number)
        if when == "after the batch":
            lingering.wait_until_called()
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)

    def test_entries_gather_no_longer_than_one_alone_waits(self, make_shipper: MakeShipper) -> None:
        """A short flush interval is what somebody has asked for."""
        shipper = make_shipper(MemoryDelivery(), settings=Settings(flush_interval_seconds=0.02))
        assert shipper._linger_seconds == 0.02

    def test_a_shutdown_ends_it_and_closes_the_delivery(self) -> None:
        """Twice is once; an entry that comes later starts the next thread, with the next delivery."""
        made: list[Closing] = []

        def make() -> Closing:
            made.append(Closing())
            return made[-1]

        shipper = assemble(Shipper, make)
        for number in (1, 2):
            shipper.accept(b"%d" % number)
            shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
            wait_until(lambda: not threads())
            assert shipper.flush(DEADLINE_SECONDS, then_stop=True).done()
        assert [numbers(delivery) for delivery in made] == [[1], [2]]
        assert [delivery.closed for delivery in made] == [1, 1]

    def test_uwsgis_master_has_no_thread(
        self, make_shipper: MakeShipper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker that is forked while one has the interpreter hangs; who flushes does its work."""
        uwsgi = SimpleNamespace(worker_id=lambda: 0, masterpid=os.getpid, opt={"master": True})
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
        delivery = MemoryDelivery()
        shipper = make_shipper(delivery, settings=Settings(batch_size=1))
        for number in (1, 2):
            shipper.accept(b"%d" % number)
        assert (threads(), numbers(delivery)) == ([], [])
        assert shipper.flush(DEADLINE_SECONDS).wait().complete
        assert (threads(), numbers(delivery)) == ([], [1, 2])
        uwsgi.worker_id = lambda: 1
        shipper.accept(b"3")
        assert threads()
        assert shipper.flush(DEADLINE_SECONDS).wait().complete

    @pytest.mark.parametrize(
        ("worker", "master", "options", "expected"),
        [
            (0, "own", {}, True),
            (0, "none", {}, True),
            (0, "other", {}, False),
            (1, "other", {}, False),
            (1, "none", {}, False),
            (0, "own", {"py-call-uwsgi-fork-hooks": True}, False),
            (0, "own", {"py-call-osafterfork": True}, True),
        ],
        ids=["master", "loading", "mule", "worker", "only process", "fork hooks", "hook in the child"],
    )
    def test_which_of_uwsgis_processes_are_forked(
        self,
        monkeypatch: pytest.MonkeyPatch,
        worker: int,
        master: str,
        options: dict[str, bool],
        expected: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        """As they tell by themselves."""
        master_id = {"own": os.getpid(), "none": 0, "other": 1}[master]
        uwsgi = SimpleNamespace(worker_id=lambda: worker, masterpid=lambda: master_id, opt=options)
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
        assert is_to_be_forked() is expected
        monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace())
        assert not is_to_be_forked()

    def test_a_delivery_that_cannot_be_closed_is_given_up(
        self, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """The shutdown ends all the same."""

        class Unclosable(MemoryDelivery):
            def close(self) -> None:
                raise SystemExit

        shipper = assemble(Shipper, Unclosable)
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
        assert numbers(delivery) == list(range(2000))

    def test_a_shutdown_that_gives_up_leaves_no_other_flush_alone(self, make_shipper: MakeShipper) -> None:
        """The thread would end, and who waits longer would wait for nothing."""
        delivery, is_down = BlockedDelivery(), True

        class Down(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                if is_down:
                    raise DOWN
                return delivery.deliver(batch)

        delivery.open()
        shipper = make_shipper(Down())
        shipper.accept(b"1")
        long = shipper.flush(DEADLINE_SECONDS)
        shipper.flush(0.0, then_stop=True).result(DEADLINE_SECONDS)
        is_down = False
        long.result(DEADLINE_SECONDS)
        assert numbers(delivery) == [1]

    def test_a_shutdown_in_an_outage_ends_it_and_keeps_the_entries(self) -> None:
        """They wait for the next call; no thread goes on for nothing."""
        delivery = MemoryDelivery()
        delivery.failures = [DOWN] * 3
        shipper = assemble(Shipper, lambda: delivery)
        shipper.accept(b"1")
        shipper.flush(0.0, then_stop=True).result(DEADLINE_SECONDS)
        wait_until(lambda: not threads())
        assert shipper.buffer.held == 1
        delivery.failures.clear()
        shipper.accept(b"2")
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        assert numbers(delivery) == [1, 2]

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
        assert numbers(delivery) == [1]
        assert [type(error) for _, error in internal_errors] == [ImportError]
        internal_errors.clear()

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
            def deliver(self, batch: Batch) -> Receipt:
                if not self.batches:
                    assert shipper.is_own_thread()
                    assert shipper.accept(b"2")
                    assert shipper.flush(DEADLINE_SECONDS).done()
                    assert shipper.flush(DEADLINE_SECONDS, then_stop=True).done()
                return super().deliver(batch)

        delivery = Logging()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.02))
        shipper.accept(b"1")
        wait_until(lambda: numbers(delivery) == [1, 2])
        assert not shipper.is_own_thread()

    def test_a_delivery_may_log_while_it_is_closed(self) -> None:
        """The entry is delivered by the next thread."""

        class LoggingAtTheEnd(MemoryDelivery):
            def close(self) -> None:
                if len(self.batches) == 1:
                    shipper.accept(b"2")

        delivery = LoggingAtTheEnd()
        shipper = assemble(Shipper, lambda: delivery)
        shipper.accept(b"1")
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        assert numbers(delivery) == [1, 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
class TestDeath:
    """What would kill any other thread."""

    def test_an_exit_out_of_the_delivery_is_survived(
        self, make_shipper: MakeShipper, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """SystemExit ends a thread without a word; here it is an error like any other."""

        class Exiting(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                if not attempts:
                    attempts.append(threading.current_thread())
                    raise SystemExit
                attempts.append(threading.current_thread())
                return super().deliver(batch)

        attempts: list[threading.Thread] = []
        delivery = Exiting()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.01))
        shipper.accept(b"1")
        wait_until(lambda: numbers(delivery) == [1])
        assert attempts[0] is attempts[1]
        assert [type(error) for _, error in internal_errors] == [SystemExit]
        internal_errors.clear()

    def test_an_exception_from_outside_is_survived(
        self, make_shipper: MakeShipper, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """As debuggers and timeout decorators throw them into threads: order and entries are kept."""

        class Interruptible(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                attempts.append(batch)
                while not is_over:  # in steps that leave no lock behind when they are interrupted
                    lock.acquire(timeout=0.001)
                return super().deliver(batch)

        attempts: list[Batch] = []
        is_over: list[bool] = []
        lock = threading.Lock()
        lock.acquire()
        delivery = Interruptible()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.01))
        shipper.accept(b"1")
        wait_until(lambda: attempts)
        shipper.accept(b"2")
        (thread,) = threads()
        assert thread.ident is not None
        raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
        )
        assert raised == 1
        wait_until(lambda: internal_errors)
        is_over.append(True)
        wait_until(lambda: numbers(delivery) == [1, 2])
        assert [type(error) for _, error in internal_errors] == [KeyboardInterrupt]
        internal_errors.clear()

    def test_a_thread_that_is_killed_is_replaced_by_the_next_call(
        self, make_shipper: MakeShipper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next call, not the next full batch; nothing is lost, and the order is kept."""
        delivery = MemoryDelivery()
        delivery.failures += [DOWN] * 10
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.01))
        with monkeypatch.context() as patched:
            # Not even the place where errors are survived is safe from a debugger.
            patched.setattr(shipper.sender, "failed", leave)
            shipper.accept(b"1")
            shipper.accept(b"2")
            wait_until(lambda: not threads())
        delivery.failures.clear()
        shipper.accept(b"3")
        wait_until(lambda: numbers(delivery) == [1, 2, 3])

    def test_a_thread_that_is_killed_is_replaced_by_a_flush(
        self, make_shipper: MakeShipper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who waits for it is served."""
        delivery = MemoryDelivery()
        shipper = make_shipper(delivery, settings=Settings(flush_interval_seconds=0.01))
        with monkeypatch.context() as patched:
            patched.setattr(shipper, "_wait_and_deliver", leave)
            shipper.accept(b"1")
            wait_until(lambda: not threads())
        shipper.flush(DEADLINE_SECONDS).result(DEADLINE_SECONDS)
        assert numbers(delivery) == [1]


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
        shipper = assemble(Shipper, MemoryDelivery)
        assert shipper.accept(b"1")
        assert not shipper.is_alive
        assert shipper.buffer.held == 1

    def test_the_caller_delivers(self) -> None:
        """In order, all of it, and the flush is answered."""
        delivery = Closing()
        shipper = assemble(Shipper, lambda: delivery)
        for number in range(120):
            shipper.accept(b"%d" % number)
        done = shipper.flush(DEADLINE_SECONDS, then_stop=True)
        shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
        assert done.done()
        assert numbers(delivery) == list(range(120))
        assert delivery.closed == 1

    def test_the_caller_tries_again_and_stops_in_time(self) -> None:
        """An outage does not keep a process from ending."""
        delivery = MemoryDelivery()
        delivery.failures = [DOWN] * 1000
        shipper = assemble(Shipper, lambda: delivery, Settings(retry_pause_max_seconds=0.02))
        shipper.accept(b"1")
        done = shipper.flush(0.1, then_stop=True)
        shipper.drive(until=time.monotonic() + 0.1)
        assert shipper.buffer.held == 1
        assert not shipper.is_alive
        del delivery.failures[2:]
        shipper.flush(DEADLINE_SECONDS)
        shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
        assert (numbers(delivery), delivery.failures) == ([1], [])
        assert done.done()

    def test_a_delivery_that_flushes_does_not_call_itself(self) -> None:
        """The caller is the shipper's thread for that time."""

        class Flushing(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                assert shipper.is_own_thread()
                assert shipper.is_alive
                assert shipper.flush(DEADLINE_SECONDS).done()
                shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
                return super().deliver(batch)

        delivery = Flushing()
        shipper = assemble(Shipper, lambda: delivery)
        shipper.accept(b"1")
        shipper.flush(DEADLINE_SECONDS)
        shipper.drive(until=time.monotonic() + DEADLINE_SECONDS)
        assert numbers(delivery) == [1]
        assert not shipper.is_alive

    def test_an_impatient_user_ends_it(self) -> None:
        """Ctrl-C goes through, and leaves everything as it was."""

        class Interrupted(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                raise KeyboardInterrupt

        shipper = assemble(Shipper, Interrupted)
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
            delivery = Alone()
            shipper = assemble(Shipper, lambda: delivery, Settings(batch_size=1, max_batch_entries=1))  # noqa: B023
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
            assert sorted(numbers(delivery)) == ([1, 2] if flushed else [1]), f"line {line}"
            wait_until(lambda: not threads())

    def test_a_thread_that_ends_before_its_start_is_over_gets_a_successor(self) -> None:
        """It finds its own start in the way, and the entry that it leaves must not wait for a call."""
        delivery = MemoryDelivery()
        shipper = assemble(Shipper, lambda: delivery, Settings(flush_interval_seconds=0.01))

        def end_it_and_log() -> None:
            shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
            shipper.accept(b"2")

        last_line = lines_of(Shipper._start)[-1]
        with interrupted(Shipper._start, last_line, by=end_it_and_log):
            shipper.accept(b"1")
        wait_until(lambda: numbers(delivery) == [1, 2])
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)

    def test_a_shutdown_that_is_answered_before_it_wakes_the_thread_starts_no_other(self) -> None:
        """The thread was awake already; another one would sleep for ever, with nothing to do."""
        delivery = Closing()
        shipper = assemble(Shipper, lambda: delivery)
        shipper.accept(b"1")
        lines, first = inspect.getsourcelines(Shipper.flush)
        waking = first + next(number for number, line in enumerate(lines) if "self.wake(" in line)

        def let_it_end() -> None:
            shipper._event.set()
            wait_until(lambda: not shipper.is_alive)

        with interrupted(Shipper.flush, waking, by=let_it_end):
            done = shipper.flush(DEADLINE_SECONDS, then_stop=True)
        done.result(DEADLINE_SECONDS)
        wait_until(lambda: not threads())
        assert not shipper.is_alive
        assert (numbers(delivery), delivery.closed) == ([1], 1)

    def test_by_real_signals(self) -> None:
        """Hundreds of them, at any moment of thousands of calls."""
        delivery = Alone()
        shipper = assemble(Shipper, lambda: delivery, Settings(batch_size=1, max_batch_entries=500))
        accepted = [0, 0]

        def handle() -> None:
            accepted[1] += shipper.accept(b"1")
            shipper.flush(0.0, then_stop=accepted[1] % 3 == 0)

        with signals(500, handle) as over:
            while not over.is_set():
                accepted[0] += shipper.accept(b"0")
        shipper.flush(DEADLINE_SECONDS, then_stop=True).result(DEADLINE_SECONDS)
        wait_until(lambda: not threads())
        assert shipper.buffer.held == 0
        assert Counter(numbers(delivery)) == {0: accepted[0], 1: accepted[1]}


def test_eight_threads_lose_nothing(make_shipper: MakeShipper) -> None:
    """While a ninth flushes all the time: each thread's entries arrive once, in its order."""
    delivery = Alone()
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
        own = [number for number in numbers(delivery) if number // entries == thread]
        assert own == list(range(thread * entries, (thread + 1) * entries))
    assert shipper.buffer.held == 0
