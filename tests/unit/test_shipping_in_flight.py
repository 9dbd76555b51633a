"""Batches on their way: confirmed in any order, sent again when lost, and never in a storm."""

import logging
import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from anything import EXAMPLES
from doubles import ManualClock
from execution_logger import Settings
from execution_logger.broker.confirmations import Outcome
from execution_logger.broker.connection import QueueView
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.journal.marks import SentMark
from execution_logger.shipping.in_flight import InFlight, Sent

VISIBILITY_SECONDS = 60
PATIENCE_SECONDS = 90.0
STORED, HELD = Outcome(is_stored=True), Outcome(is_stored=False)
EMPTY = QueueView(waiting=0, in_flight=0, oldest_sent_at=None)


class Workers:
    """A delivery that answers what the test has put down: the queue, and the word of workers."""

    is_confirming = True

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.view = EMPTY
        self.asked: list[list[str]] = []
        self.looks = 0
        self.failures: list[Exception] = []

    def collect(self, batch_ids: Sequence[str]) -> Mapping[str, Outcome]:
        """Tell each word once."""
        if self.failures:
            raise self.failures.pop()
        self.asked.append(list(batch_ids))
        return {each: self.outcomes.pop(each) for each in batch_ids if each in self.outcomes}

    def look_at_queue(self) -> QueueView:
        """The view of the moment."""
        self.looks += 1
        return self.view


class Entries:
    """A source, whose entries can be read again if the test says so."""

    def __init__(self, *, has_journal: bool = False) -> None:
        self.process = "p"
        self.has_journal = has_journal
        self.settled: list[tuple[int, int]] = []
        self.error: OSError | None = None
        self.kept: dict[int, bytes] = {}

    def take(self) -> Batch | None:
        """Not asked for here."""

    def sent(self, batch: Batch, *, awaited_since: float | None = None) -> None:
        """Not asked for here."""

    def settle(self, first: int, count: int) -> None:
        """Remember it."""
        self.settled.append((first, count))

    def keeps(self, first: int, count: int) -> bool:
        """Whether there is a journal."""
        return self.has_journal

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """What there is of them."""
        if self.error:
            raise self.error
        return tuple(self.kept[number] for number in range(first, first + count) if number in self.kept)


def entries_of(way: "Way", source: object) -> int:
    """How many entries of a source are on their way."""
    return sum(sent.entries_count for sent in way.in_flight._sent.values() if sent.source is source)


class Way:
    """Batches on their way, with everything around them."""

    def __init__(self, *, has_journal: bool = False) -> None:
        self.clock, self.wall = ManualClock(), ManualClock(2_000_000.0)
        self.workers, self.source = Workers(), Entries(has_journal=has_journal)
        self.done: list[tuple[str, int | None]] = []
        self.sends: list[str] = []
        self.in_flight = InFlight(
            Settings(visibility_timeout_seconds=VISIBILITY_SECONDS),
            lambda sent, dead: self.done.append((sent.id, dead)),
            self.clock,
            self.wall,
        )
        self._first = 1

    def send(self, *ids: str, entries: int = 2) -> None:
        """Send batches."""
        for each in ids:
            numbers = range(self._first, self._first + entries)
            content = tuple(b"%d" % number for number in numbers)
            self.source.kept.update(zip(numbers, content, strict=True))
            batch = Batch(content, each, process="p", first=self._first)
            self.in_flight.add(self.source, batch, self.wall())
            self.sends.append(each)
            self._first += entries

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    def poll(self, after_seconds: float = 0.0) -> None:
        """Let time pass, and ask."""
        self.wait(after_seconds)
        self.in_flight.poll(self.workers)

    def review(self, times: int = 1, every_seconds: float = 3.0) -> None:
        """Let so many looks at the queue be taken."""
        for _ in range(times):
            looks = self.workers.looks
            self.poll(every_seconds)
            assert self.workers.looks == looks + 1

    def send_lost(self) -> list[str]:
        """Send again what is lost, and return the ids."""
        ids = []
        while (batch := self.in_flight.next_lost()) is not None:
            again = self.in_flight.next_lost()
            assert again is not None
            assert again.id == batch.id
            self.in_flight.sent_again(batch, self.wall())
            ids.append(batch.id)
        self.sends += ids
        return ids

    def confirm(self, *ids: str, outcome: Outcome = STORED) -> None:
        """Let workers say so."""
        self.workers.outcomes.update(dict.fromkeys(ids, outcome))

    def trust(self) -> None:
        """Let workers confirm something, so that they are known to."""
        self.send("trusted")
        self.confirm("trusted")
        self.poll()
        self.done.clear()
        self.source.settled.clear()


class TestConfirmations:
    """What workers say."""

    def test_in_any_order(self) -> None:
        """Each batch is settled when it is confirmed; the others stay."""
        way = Way()
        way.send("a", "b", "c")
        assert len(way.in_flight) == 3
        way.confirm("c", "a")
        way.poll()
        assert sorted(way.done) == [("a", 0), ("c", 0)]
        assert sorted(way.source.settled) == [(1, 2), (5, 2)]
        assert entries_of(way, way.source) == 2
        way.confirm("b")
        way.poll()
        assert len(way.in_flight) == 0
        assert way.in_flight.seconds_until_poll(is_hurried=False) == math.inf

    def test_dead_letters_are_told(self) -> None:
        """With the batch they were in."""
        way = Way()
        way.send("a")
        way.confirm("a", outcome=Outcome(is_stored=True, dead_lettered=1))
        way.poll()
        assert way.done == [("a", 1)]

    def test_memory_is_given_back(self) -> None:
        """What only memory has is held until it is stored."""
        way = Way()
        way.send("a", "b")
        assert way.in_flight.retained_bytes == 4
        way.confirm("a")
        way.poll()
        assert way.in_flight.retained_bytes == 2

    def test_what_the_disk_has_is_not_in_memory(self) -> None:
        """However much is on its way."""
        way = Way(has_journal=True)
        way.send("a", "b")
        assert way.in_flight.retained_bytes == 0

    def test_all_that_are_stored_are_found_in_one_go(self) -> None:
        """500 at a time, as long as that is worth it."""
        way = Way()
        ids = [str(number) for number in range(1700)]
        way.send(*ids)
        way.confirm(*ids)
        way.poll()
        assert len(way.in_flight) == 0
        assert max(map(len, way.workers.asked)) <= 500

    def test_lost_ones_do_not_hide_the_others(self) -> None:
        """Behind hundreds that are never confirmed, each is asked for in its turn."""
        way = Way()
        way.workers.view = QueueView(waiting=5000, in_flight=0, oldest_sent_at=None)
        way.send(*(str(number) for number in range(1200)))
        way.confirm("1199", "700", "300")
        for _ in range(4):
            way.poll(after_seconds=1.0)
        assert sorted(each for each, _ in way.done) == ["1199", "300", "700"]

    def test_an_error_leaves_everything_as_it_was(self) -> None:
        """And the next question is one for all of them."""
        way = Way()
        way.send("a")
        way.workers.failures = [DeliveryError("nobody answers")]
        with pytest.raises(DeliveryError, match="nobody answers"):
            way.poll()
        assert len(way.in_flight) == 1
        assert way.in_flight.seconds_until_poll(is_hurried=True) != 0
        way.confirm("a")
        way.poll(after_seconds=1.0)
        assert way.done == [("a", 0)]


class TestPauses:
    """How often workers are asked."""

    def test_they_grow_while_nothing_is_said(self) -> None:
        """Up to a second; up to a quarter when somebody waits in flush()."""
        way = Way()
        way.send("a")
        pauses: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(8):
            way.poll()
            for is_hurried, found in pauses.items():
                seconds = way.in_flight.seconds_until_poll(is_hurried=is_hurried)
                assert seconds is not None
                found.append(round(seconds, 3))
        assert pauses[False] == [0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        assert pauses[True] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25, 0.25]

    def test_a_word_and_a_new_batch_shorten_them(self) -> None:
        """There may be more soon."""
        way = Way()
        way.send("a", "b")
        for _ in range(5):
            way.poll()
        way.confirm("a")
        way.poll()
        assert way.in_flight.seconds_until_poll(is_hurried=False) == pytest.approx(0.2)
        for _ in range(5):
            way.poll()
        way.send("c")
        assert way.in_flight.seconds_until_poll(is_hurried=False) == pytest.approx(0.2)


class TestLoss:
    """When a batch is sent again, and when it is not."""

    def test_one_look_at_an_empty_queue_is_not_enough(self) -> None:
        """A worker may have taken it, and not noted that down yet; two looks are."""
        way = Way()
        way.trust()
        way.send("a")
        way.review()
        assert not way.in_flight.has_lost
        way.review()
        assert way.send_lost() == ["a"]
        assert way.in_flight.next_lost() is None

    def test_it_is_the_same_batch(self) -> None:
        """With its id, its entries and its numbers."""
        way = Way()
        way.trust()
        way.send("a")
        way.review(2)
        batch = way.in_flight.next_lost()
        assert batch is not None
        assert (batch.id, batch.entries, batch.process, batch.first) == ("a", (b"3", b"4"), "p", 3)

    def test_a_queue_that_is_simply_long(self) -> None:
        """For hours: what comes next in it is older than the batch, or of the same time."""
        way = Way()
        way.trust()
        way.send("a")
        for ahead in (100.0, 0.0):
            way.workers.view = QueueView(waiting=10_000, in_flight=4, oldest_sent_at=2_000_000.0 - ahead)
            way.review(1000, every_seconds=10.0)
            assert not way.in_flight.has_lost

    def test_a_queue_that_tells_no_times(self) -> None:
        """Of brokers other than Redis; only its length is known."""
        way = Way()
        way.trust()
        way.send("a")
        way.workers.view = QueueView(waiting=1, in_flight=None, oldest_sent_at=None)
        way.review(1000, every_seconds=10.0)
        assert not way.in_flight.has_lost

    def test_what_is_in_no_queue_and_may_be_with_a_worker(self) -> None:
        """A killed worker's comes back after the visibility timeout: that is waited for, and half of it."""
        way = Way()
        way.trust()
        way.send("a")
        way.workers.view = QueueView(waiting=0, in_flight=1, oldest_sent_at=None)
        way.review()
        way.review(29)
        assert not way.in_flight.has_lost
        way.review()
        assert way.send_lost() == ["a"]

    def test_newer_ones_in_the_queue_are_no_hint(self) -> None:
        """All that was sent earlier is gone from it: with a worker, or lost."""
        way = Way()
        way.trust()
        way.send("a")
        way.workers.view = QueueView(waiting=5, in_flight=0, oldest_sent_at=2_000_001.0)
        way.review(30)
        assert not way.in_flight.has_lost
        way.review()
        assert way.in_flight.has_lost

    def test_patience_doubles(self) -> None:
        """What cannot be stored must not come again and again in a storm."""
        way = Way()
        way.trust()
        way.send("a")
        waits = []
        for _ in range(6):
            looks = way.workers.looks
            while not way.send_lost():
                way.review(every_seconds=3.0)
            waits.append((way.workers.looks - looks - 1) * 3)
        assert waits == [3, 6, 9, 18, 33, 66], "2, 4, 8, 16, 32, 64 s, in looks of 3 s each"

    def test_a_worker_that_waits_for_the_database_has_it(self) -> None:
        """As long as it says so again from time to time, nothing is sent again."""
        way = Way()
        way.trust()
        way.send("a")
        way.workers.view = QueueView(waiting=0, in_flight=1, oldest_sent_at=None)
        for _ in range(50):
            way.confirm("a", outcome=HELD)
            way.review(20)
        assert not way.in_flight.has_lost
        assert way.done == []
        way.confirm("a")
        way.poll()
        assert way.done == [("a", 0)]

    def test_what_a_worker_has_put_back_is_at_the_end_of_the_queue(self) -> None:
        """The database was away: those that were sent later are before it now."""
        way = Way()
        way.trust()
        way.send("a")
        way.confirm("a", outcome=HELD)
        way.poll(after_seconds=20.0)
        way.workers.view = QueueView(waiting=500, in_flight=0, oldest_sent_at=2_000_015.0)
        way.review(1000)
        assert not way.in_flight.has_lost

    def test_a_word_that_comes_before_it_is_sent_again(self) -> None:
        """Then it need not be."""
        way = Way()
        way.trust()
        way.send("a")
        way.review(2)
        assert way.in_flight.has_lost
        way.confirm("a")
        way.poll()
        assert not way.in_flight.has_lost
        assert way.done == [("a", 0)]

    def test_the_word_counts_that_came_between_the_look_and_the_question(self) -> None:
        """Workers confirm first and acknowledge then: the queue is looked at first."""
        way = Way()
        way.trust()
        way.send("a")
        way.review()

        def store_it() -> QueueView:
            way.confirm("a")
            return EMPTY

        way.workers.look_at_queue = store_it  # type: ignore[method-assign]
        way.poll(after_seconds=3.0)
        assert way.done == [("a", 0)]
        assert not way.in_flight.has_lost

    def test_what_arrived_another_way(self) -> None:
        """Directly in the database, while the broker is away."""
        way = Way()
        way.trust()
        way.send("a")
        way.review(2)
        batch = way.in_flight.next_lost()
        assert batch is not None
        way.in_flight.settle(batch, 1)
        assert way.done == [("a", 1)]
        assert (len(way.in_flight), way.in_flight.has_lost) == (0, False)

    def test_all_is_sent_again_when_nobody_can_tell(self) -> None:
        """The settings have changed since; asking again is not due at once."""
        way = Way()
        way.send("a", "b")
        way.wait(10.0)
        way.in_flight.lose_all()
        assert way.send_lost() == ["a", "b"]
        assert way.in_flight.seconds_until_poll(is_hurried=True) != 0

    def test_new_batches_are_not_reviewed_at_once(self) -> None:
        """A look at the queue costs a request, and says nothing of what was sent just now."""
        way = Way()
        way.wait(1000.0)
        way.send("a")
        way.poll(after_seconds=2.9)
        assert way.workers.looks == 0
        way.poll(after_seconds=0.2)
        assert way.workers.looks == 1


class TestTrust:
    """Workers that do not confirm: old ones, or with another result backend."""

    def test_after_eight_attempts_without_any_word_the_broker_is_trusted(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With one warning that says what to do, after minutes, and without a storm."""
        way = Way()
        way.send("a", "b")
        for _ in range(200):
            way.review()
            way.send_lost()
        assert way.sends.count("a") == way.sends.count("b") == 8
        assert way.done == [("a", None), ("b", None)]
        assert not way.in_flight.is_trusted
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "CELERY_RESULT_BACKEND" in record.getMessage()

    def test_later_ones_are_not_sent_again_at_all(self) -> None:
        """Each is given up when it would be."""
        way = Way()
        way.send("a")
        for _ in range(200):
            way.review()
            way.send_lost()
        way.send("b")
        way.review(10)
        assert way.done[1:] == [("b", None)]
        assert way.sends.count("b") == 1

    def test_a_word_restores_the_trust(self) -> None:
        """The workers were replaced."""
        way = Way()
        way.send("a")
        for _ in range(200):
            way.review()
            way.send_lost()
        way.send("b", "c")
        way.confirm("b")
        way.poll()
        assert way.in_flight.is_trusted
        way.review(5)
        assert way.send_lost() == ["c"]

    def test_workers_that_have_confirmed_once_are_believed_for_ever(self) -> None:
        """What they do not confirm is not stored: it is never given up."""
        way = Way()
        way.trust()
        way.send("a")
        for _ in range(1000):
            way.review(every_seconds=60.0)
            way.send_lost()
        assert way.done == []
        assert 10 < way.sends.count("a") < 20, "ever more seldom"


class TestMemory:
    """What only memory has cannot be waited for without limit."""

    def test_the_oldest_goes_first(self) -> None:
        """It is the one that is stored most probably."""
        way = Way()
        way.send("a", "b")
        assert way.in_flight.release_oldest(lambda sent: sent.entries is not None)
        assert way.done == [("a", None)]
        assert way.source.settled == [(1, 2)]
        assert way.in_flight.retained_bytes == 2

    def test_only_what_may_go(self) -> None:
        """Entries on the disk are no reason, and what is not released stays."""
        way = Way(has_journal=True)
        way.send("a")
        assert not way.in_flight.release_oldest(lambda sent: sent.entries is not None)
        assert len(way.in_flight) == 1


class TestSources:
    """Batches of dead processes, which are followed like the own ones."""

    def test_adopted_batches_are_confirmed_and_sent_again(self) -> None:
        """Their entries are read from the disk."""
        way = Way()
        way.trust()
        dead = Entries(has_journal=True)
        dead.kept = {number: b"%d" % number for number in range(11, 31)}
        marks = [SentMark("x", 11, 10, way.wall()), SentMark("y", 21, 10, way.wall())]
        way.in_flight.adopt(dead, marks)
        assert entries_of(way, dead) == 20
        assert way.in_flight.retained_bytes == 0
        way.confirm("y")
        way.review(2)
        batch = way.in_flight.next_lost()
        assert batch is not None
        assert (batch.id, batch.first, batch.count) == ("x", 11, 10)
        assert batch.entries[0] == b"11"
        assert dead.settled == [(21, 10)]

    def test_entries_that_cannot_be_found_are_missing(self) -> None:
        """The batch goes on without them."""
        way = Way(has_journal=True)
        way.trust()
        way.send("a")
        del way.source.kept[3]
        way.review(2)
        batch = way.in_flight.next_lost()
        assert batch is not None
        assert (batch.entries, batch.missing, batch.count) == ((b"4",), 1, 2)

    def test_a_disk_that_cannot_be_read_stops_no_other_batch(self, caplog: pytest.LogCaptureFixture) -> None:
        """The batch is given up, and an error says so."""
        way = Way(has_journal=True)
        way.trust()
        way.send("a")
        broken = Entries(has_journal=True)
        broken.error = OSError("broken disk")
        way.in_flight.adopt(broken, [SentMark("x", 1, 10, way.wall())])
        way.review(2)
        assert way.send_lost() == ["a"]
        assert way.done == [("x", None)]
        assert [record.getMessage() for record in caplog.records] == [
            "batch x cannot be sent again: broken disk"
        ]

    def test_those_of_a_source_can_be_left_to_others(self) -> None:
        """They are not settled, and nobody is told."""
        way = Way()
        way.send("a")
        other = Entries(has_journal=True)
        way.in_flight.adopt(other, [SentMark("x", 1, 10, way.wall())])
        way.in_flight.lose_all()
        way.in_flight.drop(other)
        assert (len(way.in_flight), entries_of(way, other)) == (1, 0)
        assert other.settled == []
        assert way.done == []
        assert way.send_lost() == ["a"]


class Journeys(RuleBasedStateMachine):
    """Whatever the broker loses, delays or repeats: each batch is stored in the end, and told so once."""

    @initialize(has_journal=st.booleans())
    def begin(self, has_journal: bool) -> None:  # noqa: FBT001
        """With workers that are known to confirm."""
        self.way = Way(has_journal=has_journal)
        self.way.trust()
        self.way.sends.clear()
        self.queue: list[tuple[str, float]] = []
        self.in_flight: list[str] = []
        self.stored: set[str] = set()
        self.sent: list[str] = []
        self.last_sent_at: dict[str, float] = {}

    def _publish(self, batch_id: str) -> None:
        self.queue.append((batch_id, self.way.wall()))
        self.last_sent_at[batch_id] = self.way.clock()

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        """The host logs."""
        for _ in range(count):
            batch_id = f"b{len(self.sent)}"
            self.sent.append(batch_id)
            self._publish(batch_id)
            self.way.send(batch_id)

    @precondition(lambda self: self.queue)
    @rule()
    def take(self) -> None:
        """A worker takes a message."""
        self.in_flight.append(self.queue.pop(0)[0])

    @precondition(lambda self: self.in_flight)
    @rule(index=st.integers(0, 100), confirms=st.booleans())
    def store(self, index: int, confirms: bool) -> None:  # noqa: FBT001
        """It stores it, and its word arrives, or gets lost with the result backend."""
        batch_id = self.in_flight.pop(index % len(self.in_flight))
        self.stored.add(batch_id)
        if confirms:
            self.way.confirm(batch_id)

    @precondition(lambda self: self.in_flight)
    @rule(index=st.integers(0, 100))
    def hold(self, index: int) -> None:
        """The database is away; it says so and puts the message back."""
        batch_id = self.in_flight.pop(index % len(self.in_flight))
        self.queue.append((batch_id, self.way.wall() - 1000.0))
        self.way.confirm(batch_id, outcome=HELD)

    @precondition(lambda self: self.in_flight)
    @rule(index=st.integers(0, 100))
    def lose_one(self, index: int) -> None:
        """The worker is killed at the worst moment."""
        self.in_flight.pop(index % len(self.in_flight))

    @rule()
    def flush_broker(self) -> None:
        """It forgets everything."""
        self.queue.clear()
        self.in_flight.clear()

    @precondition(lambda self: self.queue)
    @rule()
    def repeat(self) -> None:
        """A message is there twice."""
        self.queue.append(self.queue[0])

    @rule(seconds=st.floats(0.1, 200))
    def wait_and_ask(self, seconds: float) -> None:
        """The thread does its work."""
        self._ask(seconds)

    def _ask(self, seconds: float) -> None:
        oldest = self.queue[0][1] if self.queue else None
        self.way.workers.view = QueueView(len(self.queue), len(self.in_flight), oldest)
        self.way.poll(seconds)
        for batch_id in self.way.send_lost():
            attempts = self.way.sends.count(batch_id)
            waited = self.way.clock() - self.last_sent_at[batch_id]
            assert waited >= 2.0 * 2.0 ** (attempts - 2), "not before its patience is at its end"
            self._publish(batch_id)

    @invariant()
    def nothing_is_given_up_or_told_twice(self) -> None:
        """Workers that confirm are waited for; what is told is stored."""
        told = [batch_id for batch_id, _ in self.way.done]
        assert len(set(told)) == len(told)
        assert set(told) <= self.stored
        assert all(dead is not None for _, dead in self.way.done)
        assert len(self.way.in_flight) + len(told) == len(self.sent)

    @invariant()
    def memory_is_what_is_on_its_way(self) -> None:
        """No byte of what is done."""
        held = (
            0
            if self.way.source.has_journal
            else sum(sent.retained_bytes for sent in self.way.in_flight._sent.values())
        )
        assert self.way.in_flight.retained_bytes == held

    def teardown(self) -> None:
        """From now on nothing breaks: everything is stored and told."""
        for _ in range(60):
            if not len(self.way.in_flight):
                break
            for batch_id, _ in self.queue:
                self.in_flight.append(batch_id)
            self.queue.clear()
            for batch_id in self.in_flight:
                self.stored.add(batch_id)
                self.way.confirm(batch_id)
            self.in_flight.clear()
            self._ask(2.0 ** min(40, len(self.way.sends)))
        assert len(self.way.in_flight) == 0
        assert sorted(batch_id for batch_id, _ in self.way.done) == sorted(self.sent)


def test_every_batch_arrives_whatever_the_broker_does() -> None:
    """See `Journeys`."""
    limits = hypothesis_settings(max_examples=2 * EXAMPLES, stateful_step_count=40)
    run_state_machine_as_test(Journeys, settings=limits)


def test_a_batch_without_entries_holds_no_memory() -> None:
    """Those of a journal are read when they are needed."""
    sent = Sent(Entries(), "a", 1, 2, 0.0, None)
    assert sent.retained_bytes == 0
