"""Delivery by Celery: its connection, its limit on the queue, and what it tells of a batch."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from batches import encoded
from doubles import ManualClock
from execution_logger import Settings
from execution_logger.broker.confirmations import HELD, STORED, Confirmations, Outcome
from execution_logger.broker.connection import QueueView
from execution_logger.broker.message import describe, sent_at
from execution_logger.broker.queue import BrokerQueue
from execution_logger.delivery import celery as module
from execution_logger.delivery.celery import CeleryDelivery
from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError, ResultsUnavailableError
from memory_broker import PASSWORD, URL, MemoryBroker


@pytest.fixture
def deliveries() -> Iterator[list[CeleryDelivery]]:
    """What a test has made, to be closed after it."""
    deliveries: list[CeleryDelivery] = []
    yield deliveries
    for delivery in deliveries:
        delivery.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The time of the delivery."""
    clock = ManualClock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock, time=clock))
    return clock


def batch(task_id: str = "t", count: int = 1, **changed: Any) -> Batch:
    """A batch of entries of a task."""
    return Batch(tuple(encoded(task_id=task_id, **changed).encode() for _ in range(count)))


def sized(task_id: str, size: int) -> bytes:
    """An entry of exactly that many bytes."""
    begin, end = f'{{"task_id":"{task_id}","message":"'.encode(), b'"}'
    return begin + b"x" * (size - len(begin) - len(end)) + end


class TestDescription:
    """What Flower and worker events show."""

    @pytest.mark.parametrize(
        ("described", "text"),
        [
            (Batch((sized("task-1", 100),)), "1 entry, 1 kB, task-1"),
            (Batch((sized("task-1", 700), sized("task-2", 900))), "2 entries, 2 kB, task-1…"),
            (Batch((sized("task-1", 340),) * 50), "50 entries, 17 kB, task-1…"),
            (Batch((sized("学" * 50, 262_144),)), f"1 entry, 262 kB, {'学' * 40}"),
            (Batch((sized("", 50),)), "1 entry, 1 kB, "),
            (Batch((b"{}",)), "1 entry, 1 kB, "),
        ],
    )
    def test_it_is_short(self, described: Batch, text: str) -> None:
        """How many entries, how much, and of which task."""
        assert describe(described) == text


class TestLimit:
    """A queue that nobody empties must not fill the broker, where the host's own tasks are."""

    def test_a_full_queue_is_left_alone(
        self, broker: MemoryBroker, deliveries: list[CeleryDelivery], clock: ManualClock
    ) -> None:
        """Exactly at its limit, and the reason is a question to the operator."""
        delivery = CeleryDelivery(Settings(broker_url=URL, queue_max_messages=3))
        deliveries.append(delivery)
        for _ in range(3):
            delivery.deliver(batch())
        for _ in range(3):
            with pytest.raises(DeliveryError, match=r"'logs' holds 3 messages.* are workers running"):
                delivery.deliver(batch())
        assert len(broker.queue()) == 3
        broker.take()
        delivery.deliver(batch())
        assert len(broker.queue()) == 3

    def test_others_that_send_are_noticed_within_a_second(
        self,
        broker: MemoryBroker,
        deliveries: list[CeleryDelivery],
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The queue is asked for its length once a second, not for each batch."""
        lengths: list[int] = []
        ask = BrokerQueue.length

        def note(self: Any) -> int:
            lengths.append(ask(self))
            return lengths[-1]

        monkeypatch.setattr(BrokerQueue, "length", note)
        settings = Settings(broker_url=URL, queue_max_messages=100)
        first, second = CeleryDelivery(settings), CeleryDelivery(settings)
        deliveries += [first, second]
        for _ in range(10):
            first.deliver(batch())
        for _ in range(90):
            second.deliver(batch())
        assert lengths == [0, 10]
        clock.advance(1.0)
        with pytest.raises(DeliveryError, match="holds 100 messages"):
            first.deliver(batch())

    def test_the_queue_has_the_name_of_the_settings(
        self, broker: MemoryBroker, deliveries: list[CeleryDelivery]
    ) -> None:
        """And is made when it is not there yet."""
        deliveries.append(CeleryDelivery(Settings(broker_url=URL, queue="mine")))
        deliveries[0].deliver(batch())
        assert len(broker.queue("mine")) == 1
        assert "logs" not in broker


class TestConnection:
    """One connection, which nobody else uses."""

    @pytest.fixture
    def connections(self, monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
        """Every connection that is made."""
        connections: list[Connection] = []
        init = Connection.__init__

        def note(self: Any, *args: Any, **options: Any) -> None:
            init(self, *args, **options)
            connections.append(self)

        monkeypatch.setattr(Connection, "__init__", note)
        return connections

    def test_it_is_kept(
        self, broker: MemoryBroker, deliveries: list[CeleryDelivery], connections: list[Connection]
    ) -> None:
        """From batch to batch."""
        deliveries.append(CeleryDelivery(Settings(broker_url=URL)))
        for _ in range(3):
            deliveries[0].deliver(batch())
        assert len(connections) == 1
        deliveries[0].close()
        deliveries[0].close()
        assert not connections[0].connected

    def test_after_a_failure_the_next_attempt_has_another_one(
        self,
        broker: MemoryBroker,
        deliveries: list[CeleryDelivery],
        connections: list[Connection],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What state the old one is in is anyone's guess: it is closed."""
        delivery = CeleryDelivery(Settings(broker_url=URL))
        deliveries.append(delivery)
        delivery.deliver(batch())
        with monkeypatch.context() as patched:
            patched.setattr(delivery, "_send", lambda *_: 1 / 0)
            with pytest.raises(DeliveryError, match=r"^memory://localhost/: ZeroDivisionError"):
                delivery.deliver(batch())
        assert not connections[0].connected
        delivery.deliver(batch())
        assert len(connections) == 2
        assert len(broker.queue()) == 2

    def test_a_connection_that_cannot_be_closed_is_a_delivery_error_too(
        self, broker: MemoryBroker, deliveries: list[CeleryDelivery], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first error is the one that is told, and the next attempt works."""
        delivery = CeleryDelivery(Settings(broker_url=URL))
        deliveries.append(delivery)

        def fail(*_: object) -> None:
            raise BrokenPipeError("cannot be closed")

        with monkeypatch.context() as patched:
            patched.setattr(delivery, "_send", lambda *_: 1 / 0)
            patched.setattr(Connection, "release", fail)
            with pytest.raises(DeliveryError, match="division by zero"):
                delivery.deliver(batch())
        delivery.deliver(batch())
        assert len(broker.queue()) == 1

    @pytest.mark.parametrize(
        "url",
        [
            f"nonsense://:{PASSWORD}@localhost/",
            f"redis://:{PASSWORD}@127.0.0.1:1/0",
            f"redis://:{PASSWORD}@127.0.0.1:1/0;redis://:{PASSWORD}@127.0.0.1:2/0",
            f"redis://:{PASSWORD}@127.0.0.1:1/not-a-number",
            f"sentinel://:{PASSWORD}@127.0.0.1:1",
        ],
    )
    def test_a_broker_that_is_not_there_is_a_delivery_error(
        self, deliveries: list[CeleryDelivery], url: str
    ) -> None:
        """Whatever is wrong with its URL, in whichever way its driver says so; no password is shown."""

        def deliver() -> None:
            deliveries.append(CeleryDelivery(Settings(broker_url=url)))
            deliveries[0].deliver(batch())

        with pytest.raises(DeliveryError) as failed:
            deliver()
        assert PASSWORD not in str(failed.value)

    def test_the_hosts_broker_is_used_and_its_options(
        self, broker: MemoryBroker, deliveries: list[CeleryDelivery], connections: list[Connection]
    ) -> None:
        """Ours bound each attempt in time, and are added for this connection only."""
        app = Celery("host", broker=URL, set_as_current=False)
        app.conf.broker_transport_options = {"global_keyprefix": "host:"}
        deliveries.append(CeleryDelivery(Settings(broker_url="redis://127.0.0.1:1/0"), app))
        deliveries[0].deliver(batch())
        assert len(broker.queue()) == 1
        assert connections[0].transport_options == {
            "global_keyprefix": "host:",
            "max_retries": 0,
        }
        assert app.conf.broker_transport_options == {"global_keyprefix": "host:"}

    def test_a_hosts_broker_that_is_not_there(self, deliveries: list[CeleryDelivery]) -> None:
        """It is called what it is: not ours."""
        app = Celery("host", broker=f"redis://:{PASSWORD}@127.0.0.1:1/0", set_as_current=False)
        deliveries.append(CeleryDelivery(Settings(), app))
        with pytest.raises(DeliveryError, match=r"^the host's broker: ") as failed:
            deliveries[0].deliver(batch())
        assert PASSWORD not in str(failed.value)


class TestConfirmations:
    """The word of workers, in the result backend."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        """With a folder for results."""
        return Settings(broker_url=URL, result_backend=f"file://{tmp_path}")

    def test_without_a_result_backend_the_broker_is_the_end(
        self, broker: MemoryBroker, deliveries: list[CeleryDelivery]
    ) -> None:
        """The message asks for no result, and there is nobody to ask."""
        deliveries.append(delivery := CeleryDelivery(Settings(broker_url=URL)))
        assert delivery.deliver(batch()) == Receipt(Guarantee.ACCEPTED)
        assert not delivery.is_confirming
        assert delivery.collect(["x"]) == {}

    def test_with_one_batches_are_awaited_and_confirmed_once(
        self, broker: MemoryBroker, deliveries: list[CeleryDelivery], settings: Settings
    ) -> None:
        """What was read is deleted there."""
        deliveries.append(delivery := CeleryDelivery(settings))
        first, second, third = batch(), batch(), batch()
        for each in (first, second, third):
            assert delivery.deliver(each) == Receipt(Guarantee.AWAITED)
        assert delivery.is_confirming
        ids = [first.id, second.id, third.id]
        assert delivery.collect(ids) == {}
        with closing(Confirmations(settings, timeout_seconds=1.0)) as results:
            results.store(first.id, STORED, {"stored": 1, "duplicates": 0, "dead_lettered": 1})
            results.store(third.id, HELD, {"reason": "down", "at": 1.0})
        assert delivery.collect(ids) == {
            first.id: Outcome(is_stored=True, dead_lettered=1),
            third.id: Outcome(is_stored=False),
        }
        assert delivery.collect(ids) == {}

    def test_what_was_read_counts_although_it_cannot_be_deleted(
        self,
        broker: MemoryBroker,
        deliveries: list[CeleryDelivery],
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Confirmations expire by themselves; to forget what they say would mean to send the batch again."""
        deliveries.append(delivery := CeleryDelivery(settings))

        def fail(*_: object) -> None:
            raise ResultsUnavailableError("gone")

        monkeypatch.setattr(Confirmations, "forget", fail)
        with closing(Confirmations(settings, timeout_seconds=1.0)) as results:
            results.store("x", STORED, {})
        assert delivery.collect(["x"]) == {"x": Outcome(is_stored=True)}

    def test_a_backend_that_does_not_answer_is_a_delivery_error(
        self, deliveries: list[CeleryDelivery], settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of which it is known what it means: nothing is known."""
        deliveries.append(delivery := CeleryDelivery(settings))

        def fail(*_: object) -> None:
            raise ResultsUnavailableError("no answer")

        monkeypatch.setattr(Confirmations, "outcomes", fail)
        with pytest.raises(DeliveryError, match="no answer"):
            delivery.collect(["x"])

    def test_a_result_backend_that_cannot_be_used_is_a_delivery_error(self) -> None:
        """One that says which variable to put right; entries are kept until then."""
        with pytest.raises(DeliveryError, match="CELERY_RESULT_BACKEND"):
            CeleryDelivery(Settings(broker_url=URL, result_backend=f"redis://:{PASSWORD}@host/not-a-number"))

    def test_the_length_of_the_queue(
        self, broker: MemoryBroker, deliveries: list[CeleryDelivery], settings: Settings
    ) -> None:
        """Brokers other than Redis tell no more than that."""
        deliveries.append(delivery := CeleryDelivery(settings))
        assert delivery.look_at_queue() == QueueView(0, None, None)
        for _ in range(3):
            delivery.deliver(batch())
        assert delivery.look_at_queue() == QueueView(3, None, None)

    @pytest.mark.parametrize(
        ("message", "time"),
        [
            (b'{"body": "x", "headers": {"sent_at": 12.5, "id": "x"}}', 12.5),
            (b'{"headers": {"id": "x"}}', None),
            (b'{"headers": {"sent_at": "soon"}}', None),
            (b"\xff", None),
            (b"", None),
            (None, None),
        ],
    )
    def test_when_a_message_was_sent(self, message: bytes | None, time: float | None) -> None:
        """Whoever has put it there."""
        assert sent_at(message) == time
