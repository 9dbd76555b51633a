"""Who waits until entries are delivered: answered in time, each once."""

from execution_logger.flushes import Flushes


def test_nobody_waits_at_first() -> None:
    """Then the shipper has no reason to hurry."""
    assert not Flushes()


def test_a_flush_is_answered_when_its_entries_are_settled() -> None:
    """And not before; entries that come later are no concern of it."""
    flushes = Flushes()
    done = flushes.add(ticket=3, expires_at=10.0, then_stop=False)
    assert flushes.answer(settled=2, now=0.0) == []
    assert flushes
    assert not done.done()
    assert flushes.answer(settled=3, now=0.0) == []
    assert not flushes
    assert done.done()


def test_a_flush_that_waits_no_longer_is_answered_too() -> None:
    """Or the thread would hurry for nobody."""
    flushes = Flushes()
    done = flushes.add(ticket=3, expires_at=10.0, then_stop=False)
    flushes.answer(settled=0, now=10.0)
    assert done.done()
    assert not flushes


def test_the_future_of_a_shutdown_is_returned() -> None:
    """It is answered when the thread has ended, which the shipper knows."""
    flushes = Flushes()
    flush = flushes.add(ticket=1, expires_at=10.0, then_stop=False)
    shutdown = flushes.add(ticket=1, expires_at=10.0, then_stop=True)
    assert flushes.answer(settled=1, now=0.0) == [shutdown]
    assert flush.done()
    assert not shutdown.done()
    assert flushes.answer(settled=1, now=0.0) == []


def test_each_is_answered_by_its_own_ticket() -> None:
    """Concurrent flushes have recorded different things before."""
    flushes = Flushes()
    first, second, third = (flushes.add(ticket, 10.0, then_stop=False) for ticket in (1, 2, 3))
    flushes.answer(settled=2, now=0.0)
    assert [each.done() for each in (first, second, third)] == [True, True, False]


def test_a_later_ticket_is_waited_for_by_all() -> None:
    """What is missing from the log is said before the flush is over."""
    flushes = Flushes()
    done = flushes.add(ticket=1, expires_at=10.0, then_stop=False)
    flushes.extend(2)
    flushes.answer(settled=1, now=0.0)
    assert not done.done()
    flushes.answer(settled=2, now=0.0)
    assert done.done()


def test_a_future_cannot_be_cancelled() -> None:
    """A task that is cancelled while it waits must not break the answer to it."""
    flushes = Flushes()
    done = flushes.add(ticket=1, expires_at=10.0, then_stop=False)
    assert not done.cancel()
    flushes.answer(settled=1, now=0.0)
    assert done.done()
