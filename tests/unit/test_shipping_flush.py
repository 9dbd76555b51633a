"""Who waits until entries are delivered is answered in time, once, by a report of where they are."""

import dataclasses
import math
from typing import Any, cast

import pytest

from execution_logger import Report
from execution_logger.shipping.flush import Flush, Flushes


def add(flushes: Flushes, ticket: int, expires_at: float, **kind: bool) -> Flush:
    """Somebody waits."""
    flush = Flush(cast("Any", None), 0, ticket, 0.0, expires_at, **kind)
    flushes.add(flush)
    return flush


def test_nobody_waits_at_first() -> None:
    """Then the shipper has no reason to hurry."""
    assert not Flushes()


def test_a_flush_is_answered_when_its_entries_are_delivered() -> None:
    """And not before; entries that come later are no concern of it."""
    flushes = Flushes()
    done = add(flushes, ticket=3, expires_at=10.0, then_stop=False)
    assert flushes.answer(delivered=2, settled=2, now=0.0) == []
    assert flushes
    assert not done.done()
    assert flushes.answer(delivered=3, settled=3, now=0.0) == []
    assert not flushes
    assert done.done()


def test_a_flush_that_waits_no_longer_is_answered_too() -> None:
    """Or the thread would hurry for nobody."""
    flushes = Flushes()
    done = add(flushes, ticket=3, expires_at=10.0, then_stop=False)
    flushes.answer(delivered=0, settled=0, now=10.0)
    assert done.done()
    assert not flushes


def test_the_future_of_a_shutdown_is_returned() -> None:
    """It is answered when the thread has ended, which the shipper knows."""
    flushes = Flushes()
    flush = add(flushes, ticket=1, expires_at=10.0, then_stop=False)
    shutdown = add(flushes, ticket=1, expires_at=10.0, then_stop=True)
    assert flushes.answer(delivered=1, settled=1, now=0.0) == [shutdown]
    assert flush.done()
    assert not shutdown.done()
    assert flushes.answer(delivered=1, settled=1, now=0.0) == []


def test_each_is_answered_by_its_own_ticket() -> None:
    """Concurrent flushes have recorded different things before."""
    flushes = Flushes()
    first, second, third = (add(flushes, ticket, 10.0, then_stop=False) for ticket in (1, 2, 3))
    flushes.answer(delivered=2, settled=2, now=0.0)
    assert [each.done() for each in (first, second, third)] == [True, True, False]


def test_a_later_ticket_is_waited_for_by_all() -> None:
    """What is missing from the log is said before the flush is over."""
    flushes = Flushes()
    done = add(flushes, ticket=1, expires_at=10.0, then_stop=False)
    flushes.extend(2)
    flushes.answer(delivered=1, settled=1, now=0.0)
    assert not done.done()
    flushes.answer(delivered=2, settled=2, now=0.0)
    assert done.done()


def test_a_future_cannot_be_cancelled() -> None:
    """A task that is cancelled while it waits must not break the answer to it."""
    flushes = Flushes()
    done = add(flushes, ticket=1, expires_at=10.0, then_stop=False)
    assert not done.cancel()
    flushes.answer(delivered=1, settled=1, now=0.0)
    assert done.done()


def test_a_flush_until_all_is_stored_waits_for_that() -> None:
    """What the broker has taken is not enough, however much of it; its timeout is kept."""
    flushes = Flushes()
    stored = add(flushes, ticket=3, expires_at=10.0, until_stored=True)
    impatient = add(flushes, ticket=3, expires_at=5.0, until_stored=True)
    flushes.answer(delivered=3, settled=2, now=4.9)
    assert not stored.done()
    assert not impatient.done()
    flushes.answer(delivered=3, settled=2, now=5.0)
    assert not stored.done()
    assert impatient.done()
    flushes.answer(delivered=3, settled=3, now=5.0)
    assert stored.done()


def test_a_shutdown_waits_a_second_for_the_word_of_workers() -> None:
    """From the moment on at which all is sent, and not a second more with every look."""
    flushes = Flushes()
    shutdown = add(flushes, ticket=3, expires_at=100.0, then_stop=True)
    assert flushes.answer(delivered=2, settled=0, now=10.0) == []
    assert flushes.seconds_until_expired(10.0) == 90.0
    assert flushes.answer(delivered=3, settled=0, now=20.0) == []
    assert flushes.answer(delivered=3, settled=0, now=20.9) == []
    assert flushes.seconds_until_expired(20.5) == 0.5
    assert flushes.answer(delivered=3, settled=2, now=21.0) == [shutdown]


def test_a_shutdown_is_over_at_once_when_all_is_stored() -> None:
    """There is nothing to wait for."""
    flushes = Flushes()
    shutdown = add(flushes, ticket=3, expires_at=100.0, then_stop=True)
    assert flushes.answer(delivered=3, settled=3, now=0.0) == [shutdown]


def test_a_shutdown_waits_no_longer_than_it_said() -> None:
    """The second for the workers is no extension."""
    flushes = Flushes()
    shutdown = add(flushes, ticket=1, expires_at=10.0, then_stop=True)
    assert flushes.answer(delivered=1, settled=0, now=9.8) == []
    assert flushes.answer(delivered=1, settled=0, now=10.0) == [shutdown]


def test_the_time_of_the_most_impatient_one_counts() -> None:
    """The thread must wake up to answer it; without anybody it sleeps without a limit."""
    flushes = Flushes()
    assert flushes.seconds_until_expired(0.0) == math.inf
    for expires_at in (30.0, 10.0, 20.0):
        add(flushes, ticket=1, expires_at=expires_at)
    assert flushes.seconds_until_expired(4.0) == 6.0
    assert flushes.seconds_until_expired(11.0) == 0.0


# The report -----------------------------------------------------------------------------------


def test_all_is_delivered() -> None:
    """What failed before that is of no interest."""
    report = Report(complete=True, delivered=5, waiting=0, elapsed_seconds=0.1234, last_error="refused")
    assert str(report) == "5 delivered, 0 waiting after 0.12 s"


def test_some_wait() -> None:
    """With the reason."""
    report = Report(
        complete=False, delivered=0, waiting=5, elapsed_seconds=2, last_error="connection refused"
    )
    assert str(report) == "0 delivered, 5 waiting after 2.00 s: connection refused"


def test_some_were_dropped() -> None:
    """With the reasons."""
    report = Report(
        complete=True, delivered=1, waiting=0, elapsed_seconds=2, dropped={"buffer_full": 3, "refused": 1}
    )
    assert str(report) == "1 delivered, 0 waiting, 3 dropped (buffer_full), 1 dropped (refused) after 2.00 s"


def test_a_report_does_not_change() -> None:
    """It tells of one moment."""
    report = Report(complete=True, delivered=1, waiting=0, elapsed_seconds=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.delivered = 2  # type: ignore[misc]
    assert report.dropped == {}
    assert report.last_error is None


def test_what_is_unconfirmed_is_told_when_there_is_any() -> None:
    """It is sent, and neither waits nor is known to be stored."""
    report = Report(complete=True, delivered=5, waiting=0, elapsed_seconds=0.5, unconfirmed=3)
    assert str(report) == "5 delivered, 0 waiting, 3 unconfirmed after 0.50 s"
    assert "unconfirmed" not in str(Report(complete=True, delivered=5, waiting=0, elapsed_seconds=0.5))
