"""What the thread does per step: each source in its turn, each failure by itself, nothing for nothing."""

import errno
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from doubles import ManualClock
from execution_logger import Settings, diagnostics
from execution_logger.broker.confirmations import Outcome
from execution_logger.broker.connection import QueueView
from execution_logger.delivery import Delivery
from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.journal import Adoption, Journal, NoAdoption, NoJournal
from execution_logger.journal.adoption import AdoptedJournal
from execution_logger.journal.directory import DAMAGED_NAME
from execution_logger.journal.segment import Segment, line_of
from execution_logger.shipping.accounts import Accounts
from execution_logger.shipping.buffer import Buffer
from execution_logger.shipping.flush import Flushes
from execution_logger.shipping.in_flight import InFlight
from execution_logger.shipping.sender import Sender
from execution_logger.testing import MemoryDelivery
from journals import DyingProcess, destination_in, entry, numbers_of, write_segment

DOWN = DeliveryError("the broker is away")
SILENT = DeliveryError("the result backend is away")
STORED = Outcome(is_stored=True)


class Broker(MemoryDelivery):
    """Takes batches, and confirms them when the test says so."""

    is_confirming = True

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, Outcome] = {}
        self.poll_failures: list[Exception] = []
        self.view = QueueView(0, 0, None)
        self.polls = self.closed = 0

    def deliver(self, batch: Batch) -> Receipt:
        """Take it."""
        super().deliver(batch)
        return Receipt(Guarantee.AWAITED)

    def collect(self, batch_ids: Sequence[str]) -> Mapping[str, Outcome]:
        """Tell each word once, or raise the next of the failures."""
        self.polls += 1
        if self.poll_failures:
            raise self.poll_failures.pop(0)
        return {each: self.outcomes.pop(each) for each in batch_ids if each in self.outcomes}

    def look_at_queue(self) -> QueueView:
        """The view of the moment."""
        return self.view

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def confirm_all(self) -> None:
        """Let workers say that everything is stored."""
        self.outcomes.update((batch.id, STORED) for batch in self.batches)


class Host:
    """A sender with its buffer and its journals, in a folder of the test's."""

    def __init__(self, folder: Path | None, make_delivery: Callable[[], Delivery], **settings: Any) -> None:
        self.clock = ManualClock()
        usual = {"batch_size": 2, "max_batch_entries": 2}
        self.settings = Settings(**{**usual, **settings})
        make_journal: Any = NoJournal
        adoption: Adoption = NoAdoption()
        if folder is not None:
            destination = destination_in(folder)
            make_journal = partial(Journal, destination, "living", self.settings)
            adoption = Adoption(destination, "living", self.settings, self.clock)
        self.buffer = Buffer(self.settings, "living", make_journal, self.clock)
        self.after_delivery = 0
        self.accounts = Accounts(self.buffer, self.clock)
        self.in_flight = InFlight(
            self.settings, self.accounts.settle, self.clock, on_missing=self.accounts.miss
        )
        self.sender = Sender(
            self.settings,
            self.buffer,
            adoption,
            self.in_flight,
            self.accounts,
            Flushes(),
            make_delivery,
            after_delivery=self._count,
            monotonic=self.clock,
        )

    def _count(self) -> None:
        self.after_delivery += 1

    def log(self, first: int, last: int) -> None:
        """Record entries."""
        for number in range(first, last + 1):
            assert self.buffer.put(entry(number))

    def due(self, *, is_hurried: bool = False) -> float:
        """Seconds until there is something to do."""
        self.sender.is_ending = is_hurried
        return self.sender.seconds_until_due()

    def step(self, *, is_hurried: bool = False) -> None:
        """Do what is due."""
        self.sender.is_ending = is_hurried
        self.sender.step()

    def run(self, after_seconds: float = 0.0, *, is_hurried: bool = False, limit: int = 200) -> int:
        """Do all that is due then, and return in how many steps; fail when there is always more."""
        self.clock.advance(after_seconds)
        steps = 0
        while self.due(is_hurried=is_hurried) == 0:
            self.step(is_hurried=is_hurried)
            steps += 1
            assert steps < limit, "it runs hot"
        return steps

    def close(self) -> None:
        """End it as a process ends."""
        self.sender.close()
        self.sender.abandon()


MakeHost = Callable[..., Host]


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[MakeHost]:
    """Makes hosts, with journals unless told otherwise; ends them."""
    hosts: list[Host] = []

    def make(
        delivery: Delivery | None = None,
        *,
        has_journal: bool = True,
        make_delivery: Callable[[], Delivery] | None = None,
        **settings: Any,
    ) -> Host:
        used = delivery or Broker()
        hosts.append(Host(tmp_path if has_journal else None, make_delivery or (lambda: used), **settings))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


def batches_of(broker: MemoryDelivery) -> list[tuple[str, int]]:
    """Process and first number of each."""
    return [(batch.process, batch.first) for batch in broker.batches]


class TestTurns:
    """Lost batches, own ones and those of dead processes in turn."""

    def test_none_starves(self, make_host: MakeHost, tmp_path: Path) -> None:
        """Each of the three is served within three steps, however much the others have."""
        DyingProcess(tmp_path).log(20).die()
        broker = Broker()
        host = make_host(broker)
        host.log(1, 40)
        host.step()
        while len(broker.batches) < 6:
            host.step()
        host.in_flight.lose_all()
        lost = {batch.id for batch in broker.batches}
        served = []
        for _ in range(12):
            host.step()
            last = broker.batches[-1]
            served.append("lost" if last.id in lost else last.process)
        for start in range(10):
            assert set(served[start : start + 3]) == {"lost", "living", "dead"}

    def test_who_waits_in_flush_has_his_own_first(self, make_host: MakeHost, tmp_path: Path) -> None:
        """Whatever dead processes have left, and however often that is asked for."""
        DyingProcess(tmp_path).log(100).die()
        broker = Broker()
        host = make_host(broker)
        for number in range(1, 11):
            host.log(number, number)
            host.step(is_hurried=True)
            assert broker.batches[-1].process == "living"
        host.step(is_hurried=True)
        assert broker.batches[-1].process == "dead"

    def test_who_waits_in_flush_waits_for_lost_ones_too(self, make_host: MakeHost, tmp_path: Path) -> None:
        """Those of dead processes come behind them, and new ones do not keep them back for ever."""
        DyingProcess(tmp_path).log(100).die()
        broker = Broker()
        host = make_host(broker)
        host.log(1, 2)
        host.step(is_hurried=True)
        host.in_flight.lose_all()
        host.log(3, 3)
        for _ in range(3):
            host.step(is_hurried=True)
        assert batches_of(broker)[:3] == [("living", 1), ("living", 1), ("living", 3)]
        assert host.accounts.batches_sent_again == 1
        host.in_flight.lose_all()
        for number in range(4, 12):
            host.log(number, number)
            host.step(is_hurried=True)
        assert host.accounts.batches_sent_again > 3

    def test_a_look_that_fails_holds_back_nothing(
        self, make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is no failed delivery; and what the same look had adopted is shipped and followed."""
        DyingProcess(tmp_path, "a").log(4).send(1, 2).die()
        DyingProcess(tmp_path, "b").log(1).die()
        errors: list[BaseException] = []
        monkeypatch.setattr(diagnostics, "on_error", lambda _, error: errors.append(error))
        adopt = AdoptedJournal.adopt

        def fail_second(folder: Path, settings: Settings) -> AdoptedJournal | None:
            if folder.name == "b":
                raise ValueError(folder.name)
            return adopt(folder, settings)

        monkeypatch.setattr(AdoptedJournal, "adopt", fail_second)
        os.utime(destination_in(tmp_path).folder / "a", (1000, 1000))
        broker = Broker()
        host = make_host(broker)
        host.log(1, 2)
        host.run()
        assert [type(each) for each in errors] == [ValueError]
        assert (host.accounts.last_error, host.accounts.failed_attempts) == (None, 0)
        assert {(process, first) for process, first in batches_of(broker)} == {("living", 1), ("a", 3)}
        broker.outcomes["batch-1"] = STORED
        broker.confirm_all()
        host.run(after_seconds=1.0)
        assert not (destination_in(tmp_path).folder / "a").exists()

    def test_without_descriptors_nothing_is_lost(
        self, make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What cannot be read now, own, lost or adopted, is read when there are some again."""
        DyingProcess(tmp_path).log(10).die()
        broker = Broker()
        host = make_host(broker, max_batch_entries=4)
        host.buffer.__dict__["_window_entries"] = 2
        host.log(1, 10)
        host.step()
        host.in_flight.lose_all()
        read = Segment.read
        with monkeypatch.context() as patched:

            def refuse(*_: object) -> bytes:
                raise OSError(errno.EMFILE, "Too many open files")

            patched.setattr(Segment, "read", refuse)
            for _ in range(10):
                host.clock.advance(60)
                host.step()
            assert "Too many open files" in str(host.accounts.last_error)
        assert Segment.read is read
        host.run(after_seconds=60)
        broker.confirm_all()
        host.run(after_seconds=60)
        found: dict[str, set[int]] = {"living": set(), "dead": set()}
        for batch in broker.batches:
            found[batch.process].update(numbers_of(batch.entries))
        assert found == {"living": set(range(1, 11)), "dead": set(range(1, 11))}
        assert host.accounts.lost == 0

    def test_an_outage_keeps_the_order_of_each(self, make_host: MakeHost, tmp_path: Path) -> None:
        """Whichever is tried next, each one's own batches stay in their order."""
        DyingProcess(tmp_path).log(6).die()
        broker = Broker()
        host = make_host(broker)
        host.log(1, 6)
        broker.failures = [DOWN] * 7
        broker.view = QueueView(waiting=9, in_flight=0, oldest_sent_at=None)
        for _ in range(30):
            host.run(after_seconds=31.0)
        for process in ("living", "dead"):
            firsts = [first for name, first in batches_of(broker) if name == process]
            assert firsts == [1, 3, 5]

    def test_own_batches_wait_for_their_time(self, make_host: MakeHost) -> None:
        """Unless somebody waits for them."""
        broker = Broker()
        host = make_host(broker)
        host.log(1, 1)
        host.run()
        assert broker.batches == []
        assert 0 < (host.due() or 0) <= 2.0
        host.run(is_hurried=True)
        assert batches_of(broker) == [("living", 1)]


class TestFailures:
    """Failures of sending and of asking are separate."""

    def test_a_silent_result_backend_holds_back_nothing(
        self, make_host: MakeHost, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Batches are sent as ever; entries are kept, and one warning tells."""
        broker = Broker()
        host = make_host(broker)
        broker.poll_failures = [SILENT] * 3
        host.log(1, 2)
        host.run()
        host.run(after_seconds=1.0)
        assert host.accounts.confirmation_error == "the result backend is away"
        assert (host.accounts.last_error, host.accounts.failed_attempts) == (None, 0)
        host.log(3, 4)
        assert host.due() == 0
        host.run()
        assert batches_of(broker) == [("living", 1), ("living", 3)]
        broker.confirm_all()
        for _ in range(4):
            host.run(after_seconds=31.0)
        assert host.accounts.confirmation_error is None
        assert host.accounts.stored == 4
        (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert "the result backend is away" in warning.getMessage()

    def test_a_broker_that_is_away_holds_back_no_confirmation(self, make_host: MakeHost) -> None:
        """What it has taken before is confirmed meanwhile."""
        broker = Broker()
        host = make_host(broker)
        host.log(1, 2)
        host.run()
        broker.failures = [DOWN] * 100
        broker.confirm_all()
        host.log(3, 4)
        host.run(after_seconds=1.0)
        assert host.accounts.last_error == "the broker is away"
        assert host.accounts.confirmation_error is None
        assert (host.accounts.stored, host.accounts.unconfirmed) == (2, 0)
        assert host.buffer.held == 2

    def test_questions_pause_ever_longer(self, make_host: MakeHost) -> None:
        """Up to the same limit as attempts to send."""
        broker = Broker()
        host = make_host(broker, retry_pause_max_seconds=8.0, has_journal=False)
        broker.poll_failures = [SILENT] * 100
        host.log(1, 2)
        host.run()
        pauses = []
        for _ in range(8):
            seconds = host.due() or 0.0
            pauses.append(seconds)
            host.run(after_seconds=seconds)
        assert all(4.0 <= each <= 8.0 for each in pauses[-3:])
        assert host.accounts.failed_attempts == 0

    def test_an_unexpected_error_in_a_question_is_survived(
        self, make_host: MakeHost, internal_errors: list[tuple[str, BaseException]]
    ) -> None:
        """It is counted, and asked again after a pause."""
        broker = Broker()
        host = make_host(broker)
        broker.poll_failures = [ValueError("a bug")]
        host.log(1, 2)
        host.run()
        broker.confirm_all()
        for _ in range(3):
            host.run(after_seconds=31.0)
        assert host.accounts.stored == 2
        assert host.accounts.errors.count == 1
        internal_errors.clear()

    def test_hurry_makes_one_attempt_at_once(self, make_host: MakeHost) -> None:
        """The pause that is under way counts no more; the next one does."""
        broker = Broker()
        host = make_host(broker)
        broker.failures = [DOWN] * 3
        host.log(1, 2)
        host.run()
        assert host.due() != 0
        host.sender.hurry()
        assert host.run() == 1
        assert host.accounts.failed_attempts == 2


class TestGuarantee:
    """Up to where batches are followed, and what is counted."""

    def test_unknown_at_first(self, make_host: MakeHost) -> None:
        """Before the first batch nobody can tell."""
        assert make_host().accounts.guarantee is None

    def test_stored_with_confirmations(self, make_host: MakeHost) -> None:
        """And what is sent is unconfirmed until then."""
        broker = Broker()
        host = make_host(broker)
        host.log(1, 4)
        host.run()
        counts = host.accounts
        assert host.accounts.guarantee == "stored"
        assert (host.accounts.unconfirmed, counts.stored, host.buffer.settled) == (4, 0, 0)
        first, second = broker.batches
        broker.outcomes = {
            first.id: Outcome(is_stored=True, dead_lettered=1),
            second.id: STORED,
        }
        host.run(after_seconds=1.0)
        assert (host.accounts.unconfirmed, counts.stored, counts.dead_lettered) == (0, 3, 1)
        assert host.buffer.settled == 4
        assert host.after_delivery == host.accounts.batches == 2

    def test_stored_by_the_delivery_itself(self, make_host: MakeHost) -> None:
        """The database has it, and nobody needs to be asked."""
        host = make_host(MemoryDelivery())
        host.log(1, 2)
        host.run()
        assert host.accounts.guarantee == "stored"
        assert (host.accounts.stored, host.buffer.settled) == (2, 2)

    @pytest.mark.parametrize("receipt", [None, Receipt(Guarantee.ACCEPTED)])
    def test_accepted_without_confirmations(self, make_host: MakeHost, receipt: Receipt | None) -> None:
        """What the broker has taken is not kept any longer; a delivery need not answer at all."""

        class Accepting(MemoryDelivery):
            def deliver(self, batch: Batch) -> Any:
                super().deliver(batch)
                return receipt

        host = make_host(Accepting())
        host.log(1, 2)
        host.run()
        assert host.accounts.guarantee == "accepted"
        assert (host.accounts.handed_over, host.accounts.stored) == (2, 0)
        assert (host.buffer.settled, host.accounts.unconfirmed) == (2, 0)

    def test_accepted_when_no_worker_confirms(self, make_host: MakeHost) -> None:
        """After some attempts without any word, and a warning."""
        host = make_host(Broker())
        host.log(1, 2)
        for _ in range(200):
            host.run(after_seconds=3.0)
        assert host.accounts.guarantee == "accepted"
        assert host.accounts.handed_over == 2
        assert host.buffer.settled == 2

    def test_damaged_entries_of_a_batch_that_was_sent_are_kept_aside(
        self, make_host: MakeHost, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Once, however often it is sent again, and they count as lost, not as stored."""
        folder = DyingProcess(tmp_path).log(5).send(1, 5).die()
        (segment,) = folder.glob("*.entries")
        lines = segment.read_bytes().splitlines(keepends=True)
        segment.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b"task_id", b"tusk_id")]))
        broker = Broker()
        host = make_host(broker)
        host.run()
        for _ in range(3):
            host.in_flight.lose_all()
            host.run()
        assert [len(batch) for batch in broker.batches] == [4, 4, 4]
        assert (folder.parent / DAMAGED_NAME).read_bytes().count(b"tusk_id") == 1
        assert sum("damaged lines" in message for message in caplog.messages) == 1
        broker.confirm_all()
        host.run(after_seconds=1.0)
        assert (host.accounts.adopted, host.accounts.adopted_lost) == (4, 1)

    def test_entries_of_dead_processes_count_for_themselves(
        self, make_host: MakeHost, tmp_path: Path
    ) -> None:
        """The account of this process's own is not touched."""
        folder = DyingProcess(tmp_path).log(5).send(1, 2).die()
        broker = Broker()
        host = make_host(broker)
        host.run()
        broker.outcomes["batch-1"] = STORED
        broker.confirm_all()
        host.run(after_seconds=1.0)
        counts = host.accounts
        assert (counts.adopted, counts.stored, counts.handed_over) == (5, 0, 0)
        assert (host.buffer.delivered, host.accounts.unconfirmed) == (0, 0)
        assert batches_of(broker) == [("dead", 3), ("dead", 5)]
        assert not folder.exists()
        assert host.after_delivery == 0, "there is no more room than before"


class TestDistributions:
    """What metrics are made of, counted once for each batch."""

    def test_storing_takes_from_the_first_attempt_to_the_word(self, make_host: MakeHost) -> None:
        """Also for a batch that was lost on the way; what was only handed over is not stored."""
        broker = Broker()
        host = make_host(broker, has_journal=False)
        host.log(1, 4)
        host.run()
        host.clock.advance(4)
        broker.outcomes[broker.batches[0].id] = STORED
        host.run(is_hurried=True)
        found = host.accounts.distributions.store_seconds.as_dict()
        assert (found["count"], found["sum"]) == (1, 4)
        host.in_flight.release_oldest(lambda sent: True)
        assert host.accounts.handed_over == 2
        assert host.accounts.distributions.store_seconds.as_dict()["count"] == 1

    def test_a_failed_attempt_is_no_delivery(self, make_host: MakeHost) -> None:
        """Its batch counts when it is sent, and only the attempt that sent it is timed."""
        broker = Broker()
        broker.failures = [DOWN]
        host = make_host(broker, has_journal=False)
        host.log(1, 2)
        host.run()
        assert host.accounts.distributions.batch_entries.as_dict()["count"] == 0
        host.run(60)
        found = host.accounts.distributions.delivery_seconds.as_dict()
        assert (found["count"], found["sum"]) == (1, 0), "the clock stands still meanwhile"
        assert host.accounts.distributions.batch_entries.as_dict()["sum"] == 2

    def test_what_dead_processes_have_left_is_left_out(self, make_host: MakeHost, tmp_path: Path) -> None:
        """It would take days, and its batches are not of this process's making."""
        DyingProcess(tmp_path).log(2).die()
        broker = Broker()
        host = make_host(broker)
        host.run()
        broker.confirm_all()
        host.run(1)
        assert host.accounts.adopted == 2
        for name in ("batch_entries", "delivery_seconds", "store_seconds"):
            assert getattr(host.accounts.distributions, name).as_dict()["count"] == 0, name


class TestOldest:
    """When the oldest entry was recorded that is not safe elsewhere."""

    def test_first_it_waits_then_it_is_on_its_way(self, make_host: MakeHost) -> None:
        """Until its confirmation has come, and then it is the next one's turn."""
        broker = Broker()
        host = make_host(broker)
        assert host.accounts.oldest_unwritten_at(host.in_flight) is None
        for minute in (1, 2, 3):
            moment = f"2026-11-22T02:0{minute}:00Z"
            assert host.buffer.put(json.dumps({"created_at": moment}).encode())
        first, third = (datetime(2026, 11, 22, 2, minute, tzinfo=UTC).timestamp() for minute in (1, 3))
        assert host.accounts.oldest_unwritten_at(host.in_flight) == first
        host.run()
        assert host.buffer.delivered == 2
        assert host.accounts.oldest_unwritten_at(host.in_flight) == first
        broker.confirm_all()
        host.run(1)
        assert host.accounts.oldest_unwritten_at(host.in_flight) == third

    def test_in_an_outage_it_is_that_of_the_batch_that_fails(self, make_host: MakeHost) -> None:
        """The batch is out of the queue in memory by then."""
        broker = Broker()
        broker.failures = [DOWN]
        host = make_host(broker)
        for minute in (1, 2):
            assert host.buffer.put(json.dumps({"created_at": f"2026-11-22T02:0{minute}:00Z"}).encode())
        before = host.accounts.oldest_unwritten_at(host.in_flight)
        assert before is not None
        host.run()
        host.log(3, 3)
        assert host.accounts.last_error == str(DOWN)
        assert host.accounts.oldest_unwritten_at(host.in_flight) == before


class TestMany:
    """More dead processes than are adopted at once."""

    def test_without_confirmations_one_follows_the_other(self, make_host: MakeHost, tmp_path: Path) -> None:
        """A fleet that was restarted waits for no clock."""
        for number in range(20):
            DyingProcess(tmp_path, f"dead-{number}").log(3).die()
        delivery = MemoryDelivery()
        host = make_host(delivery)
        host.run()
        assert len(delivery.batches) == 40
        assert host.accounts.adopted == 60
        assert [path.name for path in (tmp_path / "logs-1").iterdir()] == ["destination"]


class TestMemory:
    """Rather than drop entries, the broker is trusted with the oldest ones."""

    def test_what_is_unconfirmed_is_bounded(self, make_host: MakeHost) -> None:
        """Without a journal it is in memory, together with what waits."""
        broker = Broker()
        host = make_host(
            broker, has_journal=False, max_entry_bytes=1024, buffer_max_bytes=2000, max_batch_bytes=1024
        )
        for number in range(1, 101):
            assert host.buffer.put(entry(number))
            host.run()
            assert host.buffer.memory_bytes + host.in_flight.retained_bytes <= 2000
        assert host.accounts.handed_over > 50
        assert host.accounts.unconfirmed > 10


class TestSpins:
    """A thread that is due again at once must have done something."""

    def test_nothing_to_do(self, make_host: MakeHost) -> None:
        """Without journals it sleeps without a limit; with them it looks after what others leave."""
        assert make_host(has_journal=False).due() == math.inf
        host = make_host()
        host.run(limit=2)
        assert host.due() == 10

    def test_unconfirmed_batches_of_a_dead_process_and_nobody_who_confirms(
        self, make_host: MakeHost, tmp_path: Path
    ) -> None:
        """The settings have changed since, and the broker is away: it is tried in pauses."""
        DyingProcess(tmp_path).log(4).send(1, 2).send(3, 4).die()
        delivery = MemoryDelivery()
        delivery.failures = [DOWN] * 3
        host = make_host(delivery)
        for _ in range(10):
            host.run(after_seconds=31.0, limit=10)
        assert [(batch.id, batch.first) for batch in delivery.batches] == [("batch-1", 1), ("batch-3", 3)]
        assert host.accounts.adopted == 4

    def test_a_dead_process_of_which_the_last_entries_were_never_on_the_disk(
        self, make_host: MakeHost, tmp_path: Path
    ) -> None:
        """What there is is shipped, and the folder removed."""
        folder = DyingProcess(tmp_path).log(3).log_in_memory_only(3).die()
        broker = Broker()
        host = make_host(broker)
        host.run(limit=10)
        broker.confirm_all()
        for _ in range(3):
            host.run(after_seconds=10.0, limit=10)
        assert batches_of(broker) == [("dead", 1), ("dead", 3)]
        assert not folder.exists()

    def test_a_journal_that_cannot_be_opened(self, make_host: MakeHost, tmp_path: Path) -> None:
        """It is tried once a second, and entries are delivered from memory."""
        (tmp_path / "logs-1").write_text("a file in its place")
        broker = Broker()
        host = make_host(broker)
        host.log(1, 5)
        host.run(limit=10)
        for _ in range(5):
            host.run(after_seconds=1.0, limit=10)
        assert host.buffer.journal.error is not None
        assert [first for _, first in batches_of(broker)] == [1, 3, 5]
        (tmp_path / "logs-1").unlink()
        host.run(after_seconds=1.0, limit=10)
        assert host.buffer.journal.error is None
        host.log(6, 6)
        assert host.buffer.keeps(6, 1)

    @pytest.mark.parametrize("is_hurried", [False, True])
    @pytest.mark.parametrize("has_journal", [False, True])
    @pytest.mark.parametrize("is_confirming", [False, True])
    @pytest.mark.parametrize("failures", [0, 1000])
    @pytest.mark.parametrize("poll_failures", [0, 1000])
    def test_in_every_state(
        self,
        make_host: MakeHost,
        tmp_path: Path,
        is_hurried: bool,  # noqa: FBT001
        has_journal: bool,  # noqa: FBT001
        is_confirming: bool,  # noqa: FBT001
        failures: int,
        poll_failures: int,
    ) -> None:
        """Whoever is there and whoever is away: after some steps it waits for something."""
        if has_journal:
            DyingProcess(tmp_path, "a").log(4).send(1, 2).die()
            DyingProcess(tmp_path, "b").log(3).log_in_memory_only(2).die()
        delivery = Broker() if is_confirming else MemoryDelivery()
        delivery.failures = [DOWN] * failures
        if isinstance(delivery, Broker):
            delivery.poll_failures = [SILENT] * poll_failures
        host = make_host(delivery, has_journal=has_journal)
        for number in range(1, 60, 3):
            host.log(number, number + 2)
            host.run(is_hurried=is_hurried, limit=30)
            host.run(after_seconds=number * 0.37, is_hurried=is_hurried, limit=30)
            host.sender.hurry()
            host.run(is_hurried=is_hurried, limit=30)


class TestEnd:
    """Shutdown, and forks."""

    def test_a_process_that_has_sent_everything_leaves_nothing(
        self, make_host: MakeHost, tmp_path: Path
    ) -> None:
        """No file of its own; the delivery is closed."""
        broker = Broker()
        host = make_host(broker)
        host.log(1, 4)
        host.run()
        broker.confirm_all()
        host.run(after_seconds=1.0)
        host.sender.close()
        assert broker.closed == 1
        assert not (tmp_path / "logs-1" / "living").exists()

    def test_what_is_unconfirmed_is_left_on_the_disk(self, make_host: MakeHost, tmp_path: Path) -> None:
        """With its marks, for whoever adopts it."""
        broker = Broker()
        host = make_host(broker)
        host.log(1, 4)
        host.run()
        host.close()
        following = make_host(broker)
        following.sender._adoption = Adoption(
            destination_in(tmp_path), "next", following.settings, following.clock
        )
        following.run()
        assert following.accounts.adopted == 0
        broker.confirm_all()
        following.run(after_seconds=1.0)
        assert len(broker.batches) == 2, "they were not sent again"
        assert following.accounts.adopted == 4
        assert not (tmp_path / "logs-1" / "living").exists()

    def test_adopted_journals_are_left_to_others(self, make_host: MakeHost, tmp_path: Path) -> None:
        """Unlocked, and with nothing of them followed any more."""
        DyingProcess(tmp_path).log(4).die()
        broker = Broker()
        host = make_host(broker)
        host.run()
        host.sender.close()
        assert len(host.in_flight) == 0
        other = Adoption(destination_in(tmp_path), "other", host.settings)
        (journal,) = other.look()
        assert journal.pending == 4
        other.close()

    @pytest.mark.parametrize("part", ["delivery", "journal", "adoption"])
    def test_whatever_cannot_be_closed_keeps_nothing_else_open(
        self,
        make_host: MakeHost,
        monkeypatch: pytest.MonkeyPatch,
        internal_errors: list[tuple[str, BaseException]],
        part: str,
    ) -> None:
        """A shutdown ends in any case, and the error is counted."""
        broker = Broker()
        host = make_host(broker)
        host.log(1, 2)
        host.run()
        closed: list[str] = []
        parts: dict[str, Any] = {
            "delivery": broker, "journal": host.buffer.journal, "adoption": host.sender._adoption,
        }  # fmt: skip
        with monkeypatch.context() as patched:
            for name, each in parts.items():

                def close(name: str = name) -> None:
                    closed.append(name)
                    if name == part:
                        raise SystemExit

                patched.setattr(each, "close", close)
            host.sender.close()
        assert closed == ["delivery", "journal", "adoption"]
        assert len(internal_errors) == 1
        internal_errors.clear()

    def test_a_forked_child_touches_nothing_of_its_parents(self, make_host: MakeHost, tmp_path: Path) -> None:
        """Its descriptors are closed, and the files stay."""
        host = make_host()
        host.log(1, 4)
        host.sender.abandon()
        assert len(list((tmp_path / "logs-1" / "living").glob("*.entries"))) == 1

    def test_a_fork_waits_for_attempt_and_question(self, make_host: MakeHost) -> None:
        """What a delivery locks in the middle of one would be locked in the child for ever."""
        held: list[bool] = []

        class Looking(Broker):
            def deliver(self, batch: Batch) -> Receipt:
                held.append(is_held())
                return super().deliver(batch)

            def collect(self, batch_ids: Sequence[str]) -> Mapping[str, Outcome]:
                held.append(is_held())
                return super().collect(batch_ids)

        def is_held() -> bool:
            found: list[bool] = []

            def look() -> None:
                is_free = host.sender.delivering.acquire(blocking=False)
                if is_free:
                    host.sender.delivering.release()
                found.append(not is_free)

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            return found[0]

        host = make_host(Looking())
        host.log(1, 2)
        host.run()
        host.run(after_seconds=1.0)
        assert len(held) > 1
        assert all(held)
        assert not is_held()


def test_the_time_of_a_batch_is_not_earlier_than_that_of_its_message(make_host: MakeHost) -> None:
    """Or the message that comes next in the queue would be taken for a later one, and its batch for lost."""
    told: list[float] = []

    class Timed(Broker):
        def deliver(self, batch: Batch) -> Receipt:
            told.append(time.time())
            return super().deliver(batch)

    host = make_host(Timed(), has_journal=False)
    host.log(1, 2)
    host.run()
    (sent,) = host.in_flight._sent.values()
    assert sent.sent_at >= told[0]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00", "0001-01-01T00:00:00Z", "yesterday"])
def test_a_line_whose_time_cannot_be_read_is_sent_once(
    make_host: MakeHost, tmp_path: Path, time: str
) -> None:
    """It is for the database to say what it thinks of it."""
    folder = DyingProcess(tmp_path).log(1).die()
    line = {"id": "id-1", "task_id": "t", "message": "", "number": 1, "created_at": time}
    write_segment(folder, 1, [json.dumps(line).encode()])
    broker = Broker()
    host = make_host(broker)
    host.run()
    broker.confirm_all()
    host.run(after_seconds=60)
    assert (len(broker.batches), host.accounts.failed_attempts) == (1, 0)
    assert not folder.exists()


def test_entries_that_nobody_can_read_any_more_are_passed_over(
    make_host: MakeHost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They count as missing; what comes after them is shipped, and nothing is sent without entries."""
    folder = DyingProcess(tmp_path).log(3).die()
    path = folder / f"{1:020}.entries"
    path.write_bytes(b"?\n?\n" + line_of(entry(3)))
    broker = Broker()
    host = make_host(broker)
    host.run()
    broker.confirm_all()
    host.run(after_seconds=1.0)
    assert [numbers_of(batch.entries) for batch in broker.batches] == [[3]]
    assert not folder.exists()
    assert "which are in damaged.ndjson now: 2" in caplog.text
