"""The shipper, step by step: when it delivers, in which order, how long it pauses, and what it survives."""

import logging
import math
from typing import Any

import pytest

from doubles import HandDrivenShipper, ManualClock, assemble, numbers
from execution_logger import Settings
from execution_logger.delivery.interface import Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.testing import MemoryDelivery

DOWN = DeliveryError("the broker is away")


class Ship:
    """A shipper by hand, with its clock and its delivery."""

    def __init__(self, delivery: MemoryDelivery | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        self.moments: list[float] = []
        """How long calls have stood aside, each time."""
        self.delivery = delivery or MemoryDelivery()
        self.shipper = assemble(
            HandDrivenShipper,
            lambda: self.delivery,
            Settings(**settings),
            monotonic=self.clock,
            sleep=self.moments.append,
        )

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
        self.shipper.run_due()

    def deliver_when_due(self) -> float:
        """Do what the thread does when it wakes up next, and return after how many seconds that is."""
        seconds = self.shipper.seconds_until_due()
        assert seconds is not None
        self.deliver(seconds)
        return seconds


class TestTimer:
    """50 entries, or 2 s after the first one."""

    def test_nothing_is_due_while_nothing_waits(self) -> None:
        """The thread then sleeps without a limit."""
        assert Ship().shipper.seconds_until_due() == math.inf

    def test_entries_are_delivered_two_seconds_after_the_first_one(self) -> None:
        """Together, and not before."""
        ship = Ship()
        ship.accept(1)
        ship.deliver(after_seconds=1.9)
        ship.accept(2)
        ship.deliver()
        assert ship.delivery.batches == []
        ship.deliver(after_seconds=0.1)
        assert numbers(ship.delivery) == [1, 2]
        assert ship.shipper.seconds_until_due() == math.inf

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
        """In large batches; what is left over waits for its time."""
        ship = Ship()
        ship.accept(*range(2049))
        ship.deliver()
        assert [len(batch) for batch in ship.delivery.batches] == [1000, 1000]
        ship.deliver(after_seconds=2.0)
        assert [len(batch) for batch in ship.delivery.batches] == [1000, 1000, 49]
        assert numbers(ship.delivery) == list(range(2049))

    @pytest.mark.parametrize(("meanwhile", "sizes"), [(99, [50]), (100, [50, 100]), (101, [50, 100])])
    def test_what_comes_meanwhile_gathers(self, meanwhile: int, sizes: list[int]) -> None:
        """Batches follow one another at once as long as the largest one is full."""

        class Slow(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                if not self.batches:
                    ship.accept(*range(50, 50 + meanwhile))
                return super().deliver(batch)

        ship = Ship(Slow(), max_batch_entries=100)
        ship.accept(*range(50))
        ship.deliver()
        assert [len(batch) for batch in ship.delivery.batches] == sizes

    def test_bytes_fill_a_batch_too(self) -> None:
        """Those beyond the most bytes of a message follow at once."""

        class Slow(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                if not self.batches:
                    for _ in range(2):
                        ship.shipper.accept(b"1" * 1024)
                return super().deliver(batch)

        ship = Ship(Slow(), max_batch_bytes=2048, max_entry_bytes=1024)
        ship.accept(*range(50))
        ship.deliver()
        assert [len(batch) for batch in ship.delivery.batches] == [50, 2]


class TestMakingWay:
    """Calls that leave the thread no time to run stand aside for it."""

    def test_when_it_does_not_come_round(self) -> None:
        """Once for each batch size of calls beyond the largest batch."""
        ship = Ship(batch_size=50, max_batch_entries=100)
        ship.shipper._running = True  # or each call would look for the thread
        ship.accept(*range(99))
        assert ship.moments == []
        ship.accept(*range(99, 200))
        assert ship.moments == [1e-6] * 3

    def test_not_while_it_comes_round(self) -> None:
        """The batches behind it are just what it is at work on."""
        ship = Ship(batch_size=50, max_batch_entries=100)
        ship.accept(*range(50))
        ship.deliver()
        ship.clock.advance(0.0009)
        ship.accept(*range(50, 200))
        assert ship.moments == []
        ship.clock.advance(0.0002)
        ship.accept(200)
        assert ship.moments == [1e-6]

    def test_not_while_the_broker_is_away(self) -> None:
        """The thread sleeps then: to stand aside would only make calls slower."""
        ship = Ship(batch_size=50, max_batch_entries=100)
        ship.fail()
        ship.accept(*range(50))
        ship.deliver()
        ship.clock.advance(10.0)
        ship.accept(*range(50, 500))
        assert ship.moments == []


class TestPreparation:
    """The delivery, made before there is anything to deliver."""

    def test_it_is_made_at_once_and_used(self) -> None:
        """By the thread, and once; whoever waits for that is told."""
        made: list[MemoryDelivery] = []

        def make() -> MemoryDelivery:
            made.append(MemoryDelivery())
            return made[-1]

        shipper = assemble(HandDrivenShipper, make)
        prepared = shipper.prepare(10.0)
        assert not made
        assert not prepared.done()
        shipper.run_due()
        assert prepared.done()
        assert shipper.seconds_until_due() == math.inf
        shipper.accept(b"1")
        shipper.flush(10.0)
        shipper.run_due()
        assert [numbers(delivery) for delivery in made] == [[1]]


class TestFailures:
    """A batch stays at the head, with its id, until it is delivered."""

    def test_a_failed_batch_comes_again_before_all_others(self) -> None:
        """As the same batch: the receiver may have it already."""
        attempts: list[Batch] = []

        class Recording(MemoryDelivery):
            def deliver(self, batch: Batch) -> Receipt:
                attempts.append(batch)
                return super().deliver(batch)

        ship = Ship(Recording())
        ship.fail(times=2)
        ship.accept(1, 2)
        ship.deliver(after_seconds=2.0)
        ship.accept(*range(3, 60))
        ship.deliver_when_due()
        ship.deliver_when_due()
        ship.deliver_when_due()
        assert numbers(ship.delivery) == list(range(1, 60))
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
        assert numbers(ship.delivery) == [1, 1]
        assert ship.shipper.accounts.failed_attempts == 18

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
        assert ship.shipper.accounts.failed_attempts == 1

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
        assert ship.shipper.accounts.last_error == "the broker is away"
        ship.deliver_when_due()
        assert ship.shipper.accounts.last_error is None
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

        shipper = assemble(HandDrivenShipper, make, monotonic=(clock := ManualClock()))
        shipper.accept(b"1")
        clock.advance(2.0)
        shipper.run_due()
        assert shipper.accounts.last_error == "not yet"
        clock.advance(0.5)
        shipper.run_due()
        assert numbers(delivery) == [1]

    def test_a_delivery_is_kept_through_failures(self) -> None:
        """It knows best whether its connection is still good."""
        made: list[MemoryDelivery] = []

        def make() -> MemoryDelivery:
            made.append(MemoryDelivery())
            made[-1].failures = [DOWN]
            return made[-1]

        shipper = assemble(HandDrivenShipper, make, monotonic=(clock := ManualClock()))
        for _ in range(2):
            shipper.accept(b"1")
            for _ in range(2):
                clock.advance(2.0)
                shipper.run_due()
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
        assert ship.shipper.accounts.last_error == "ValueError: a bug"
        for _ in range(3):
            assert ship.deliver_when_due() > 0, "a bug must not make the thread run hot"
        assert numbers(ship.delivery) == [1]
        assert ship.shipper.accounts.errors.count == 3
        assert [type(error) for _, error in internal_errors] == [ValueError, ValueError, KeyError]
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert [e.getMessage() for e in errors] == ["internal error in shipper; entries are kept"] * 2
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
        assert "Unprintable" in str(ship.shipper.accounts.last_error)
        ship.deliver_when_due()
        assert numbers(ship.delivery) == [1]
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
        assert numbers(ship.delivery) == [1]
        assert ship.shipper.accounts.last_error is None
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
        assert ship.shipper.accounts.failed_attempts == 1
        assert ship.deliver_when_due() > 0
        assert numbers(ship.delivery) == [1]
        assert done.done()
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
        assert numbers(ship.delivery) == [1]

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
        assert ship.deliver_when_due() == pytest.approx(0.0)
        assert ship.deliver_when_due() == pytest.approx(0.25)
        assert ship.deliver_when_due() == pytest.approx(0.25)
        assert not done.done()
        assert ship.deliver_when_due() == pytest.approx(0.25)
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
        assert ship.shipper.accounts.failed_attempts == 21
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
            def deliver(self, batch: Batch) -> Receipt:
                if not done:
                    done.append(ship.shipper.flush(5.0))
                    raise DOWN
                return super().deliver(batch)

        done: list[Any] = []
        ship = Ship(FlushedMeanwhile())
        ship.accept(1)
        ship.deliver(after_seconds=2.0)
        assert numbers(ship.delivery) == [1]
        assert done[0].done()

    def test_pauses_are_never_longer_than_the_setting(self) -> None:
        """Not those of a flush either."""
        ship = Ship(retry_pause_max_seconds=0.01)
        ship.fail(times=3)
        ship.accept(1)
        ship.shipper.flush(5.0)
        ship.deliver()
        assert ship.deliver_when_due() == pytest.approx(0.01)

    def test_an_entry_that_tells_what_was_dropped_is_waited_for(self) -> None:
        """It belongs to what is flushed, although it was recorded later."""
        delivery, marker = MemoryDelivery(), [b"99"]

        def tell() -> None:
            if marker and shipper.accept(marker.pop()):
                shipper.include_newest()

        shipper = assemble(
            HandDrivenShipper,
            lambda: delivery,
            after_delivery=tell,
            monotonic=ManualClock(),
        )
        shipper.accept(b"1")
        done = shipper.flush(5.0, then_stop=True)
        shipper.run_due()
        assert numbers(delivery) == [1, 99]
        assert not done.done(), "a shutdown is over when the thread has ended"
        assert shipper.seconds_until_due() == 0.0
