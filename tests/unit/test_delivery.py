"""What every delivery promises, whichever it is, and what those in memory and to a fallback do besides."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol

import pytest
from kombu import Producer
from kombu.exceptions import OperationalError

from batches import encoded
from execution_logger import Settings
from execution_logger.broker.confirmations import Outcome
from execution_logger.broker.connection import QueueView
from execution_logger.delivery import Delivery
from execution_logger.delivery.celery import CeleryDelivery
from execution_logger.delivery.database import DatabaseDelivery
from execution_logger.delivery.interface import Confirming, Guarantee
from execution_logger.delivery.select import FallbackDelivery
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.testing import MemoryDelivery
from memory_broker import PASSWORD, MemoryBroker
from sqlite_site import make_tables

BATCH = Batch((b"{}",))


class Site(Protocol):
    """A delivery, and the place that it delivers to."""

    delivery: Delivery

    def received(self) -> list[str]:
        """The ids of the entries there, each once, in order."""

    def break_down(self) -> None:
        """Make attempts fail until `repair()`."""

    def repair(self) -> None:
        """Let them succeed again."""


class _MemorySite:
    """A list."""

    def __init__(self, _: Any) -> None:
        self.delivery = MemoryDelivery()

    def received(self) -> list[str]:
        return list(dict.fromkeys(entry["id"] for entry in self.delivery.entries))

    def break_down(self) -> None:
        self.delivery.failures += [DeliveryError("away")] * 10

    def repair(self) -> None:
        self.delivery.failures.clear()


class _CelerySite:
    """A broker in memory."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._broker: MemoryBroker = request.getfixturevalue("broker")
        self._patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        self.delivery = CeleryDelivery(Settings(broker_url=self._broker.url))

    def received(self) -> list[str]:
        return list(dict.fromkeys(entry["id"] for entry in self._broker.entries()))

    def break_down(self) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OperationalError("Connection refused")

        self._patch.setattr(Producer, "publish", refuse)

    def repair(self) -> None:
        self._patch.undo()


class _DatabaseSite:
    """A SQLite file."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._path = request.getfixturevalue("tmp_path") / "logs.db"
        settings = Settings(database_url=f"sqlite:///{self._path}")
        make_tables(self._path)
        self.delivery = DatabaseDelivery(settings)

    def received(self) -> list[str]:
        return [row[0] for row in self._execute("SELECT id FROM execution_logs ORDER BY rowid")]

    def break_down(self) -> None:
        self._execute("ALTER TABLE execution_logs RENAME TO elsewhere")

    def repair(self) -> None:
        self._execute("ALTER TABLE elsewhere RENAME TO execution_logs")

    def _execute(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute(statement).fetchall()


class _FallbackSite:
    """Two lists; what counts is that an entry is in one of them."""

    def __init__(self, _: Any) -> None:
        self._sites = [_MemorySite(None), _MemorySite(None)]
        self._sites[0].break_down()
        self.delivery = FallbackDelivery(*(site.delivery for site in self._sites))

    def received(self) -> list[str]:
        return [identity for site in self._sites for identity in site.received()]

    def break_down(self) -> None:
        self._sites[1].break_down()

    def repair(self) -> None:
        self._sites[1].repair()


@pytest.fixture(
    params=[_MemorySite, _CelerySite, _DatabaseSite, _FallbackSite], ids=lambda each: each.__name__[1:]
)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Each of them in turn, closed after the test, which must leave nothing open."""
    make: Callable[[pytest.FixtureRequest], Site] = request.param
    site = make(request)
    yield site
    site.delivery.close()


def batch_of(count: int) -> Batch:
    """That many new entries."""
    return Batch(tuple(encoded(message=f"学 {number}").encode() for number in range(count)))


def ids_of(*batches: Batch) -> list[str]:
    """Those of the entries, in their order."""
    return [entry["id"] for batch in batches for entry in json.loads(batch.to_json())]


def test_on_return_a_batch_is_delivered(site: Site) -> None:
    """All of its entries, in order, batch after batch."""
    batches = [batch_of(50), batch_of(1), batch_of(500)]
    for number, batch in enumerate(batches, start=1):
        site.delivery.deliver(batch)
        assert site.received() == ids_of(*batches[:number])


def test_a_batch_may_come_again(site: Site) -> None:
    """An attempt in doubt is repeated: the receiver tells its entries by their ids."""
    batch = batch_of(3)
    for _ in range(3):
        site.delivery.deliver(batch)
    assert site.received() == ids_of(batch)


def test_an_outage_is_a_delivery_error(site: Site) -> None:
    """Every time, and without a password; when it is over, the same batch goes through."""
    batch = batch_of(3)
    site.delivery.deliver(batch_of(1))
    before = site.received()
    site.break_down()
    for _ in range(2):
        with pytest.raises(DeliveryError) as failed:
            site.delivery.deliver(batch)
        assert PASSWORD not in str(failed.value)
    site.repair()
    assert site.received() == before
    site.delivery.deliver(batch)
    assert site.received() == [*before, *ids_of(batch)]


def test_what_became_of_a_batch_is_told_only_of_those_that_are_awaited(site: Site) -> None:
    """Of what nobody has sent, and of what was answered for good, there is nothing to tell."""
    batch = batch_of(3)
    receipt = site.delivery.deliver(batch)
    assert receipt is not None
    assert receipt.dead_lettered == 0
    assert receipt.guarantee is not Guarantee.AWAITED, "there is nobody here to confirm it"
    if isinstance(site.delivery, Confirming) and site.delivery.is_confirming:
        assert site.delivery.collect([batch.id, batch_of(1).id]) == {}


def test_one_that_was_never_used_can_be_closed(site: Site) -> None:
    """A thread may be stopped before its first attempt."""
    assert site.received() == []


# What only one of them promises ---------------------------------------------------------------


def test_batches_and_entries_are_kept_in_memory() -> None:
    """As they were given, and decoded."""
    delivery, batches = MemoryDelivery(), [Batch((b'{"a":1}', b'{"a":2}')), Batch((b'{"a":3}',))]
    for batch in batches:
        delivery.deliver(batch)
    assert delivery.batches == batches
    assert delivery.entries == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_failures_in_memory_come_first_each_once() -> None:
    """A test says what goes wrong, in order; after that all goes well."""
    delivery, batch = MemoryDelivery(), Batch((b"{}",))
    delivery.failures = [DeliveryError("first"), ValueError("second")]
    with pytest.raises(DeliveryError, match="first"):
        delivery.deliver(batch)
    with pytest.raises(ValueError, match="second"):
        delivery.deliver(batch)
    assert delivery.batches == []
    delivery.deliver(batch)
    assert delivery.batches == [batch]


class Closing(MemoryDelivery):
    """Fails to close."""

    closed = False

    def close(self) -> None:
        """Note it, and fail."""
        self.closed = True
        raise ConnectionResetError


@pytest.fixture
def first() -> MemoryDelivery:
    """The usual place."""
    return MemoryDelivery()


@pytest.fixture
def second() -> MemoryDelivery:
    """The other place."""
    return MemoryDelivery()


def test_the_second_is_not_used_while_the_first_works(first: MemoryDelivery, second: MemoryDelivery) -> None:
    """It may be slower, or be spared."""
    FallbackDelivery(first, second).deliver(BATCH)
    assert (first.batches, second.batches) == ([BATCH], [])


def test_each_batch_is_offered_to_the_first_again(first: MemoryDelivery, second: MemoryDelivery) -> None:
    """So the usual way is taken as soon as it is open."""
    first.failures = [DeliveryError("away")]
    delivery = FallbackDelivery(first, second)
    delivery.deliver(BATCH)
    assert (first.batches, second.batches) == ([], [BATCH])
    delivery.deliver(BATCH)
    assert (first.batches, second.batches) == ([BATCH], [BATCH])


def test_when_both_fail_both_reasons_are_said(first: MemoryDelivery, second: MemoryDelivery) -> None:
    """The batch is kept, as with any delivery."""
    first.failures, second.failures = [DeliveryError("no broker")], [DeliveryError("no database")]
    with pytest.raises(DeliveryError, match="no broker; and directly: no database"):
        FallbackDelivery(first, second).deliver(BATCH)


class Answering(MemoryDelivery):
    """A delivery that tells what became of batches, unless it is away."""

    def __init__(self, outcomes: Mapping[str, Outcome], *, is_away: bool, is_confirming: bool = True) -> None:
        super().__init__()
        self.outcomes = outcomes
        self.is_away = is_away
        self.is_confirming = is_confirming
        self.asked: list[str] = []

    def collect(self, batch_ids: Sequence[str]) -> Mapping[str, Outcome]:
        """What is known."""
        self.asked += batch_ids
        if self.is_away:
            raise DeliveryError("away")
        return self.outcomes

    def look_at_queue(self) -> QueueView:
        """An empty one."""
        return QueueView(0, 0, None)


@pytest.mark.parametrize("kind", ["confirming", "not confirming"])
def test_the_second_is_asked_while_the_first_is_away(kind: str) -> None:
    """That is when it holds something; also where the first one never tells anything."""
    held = {"b": Outcome(is_stored=True)}
    is_confirming = kind == "confirming"
    first = Answering({}, is_away=True, is_confirming=is_confirming)
    second = Answering(held, is_away=False)
    delivery = FallbackDelivery(first, second)
    assert delivery.is_confirming
    assert delivery.collect(["a", "b"]) == held
    second.is_away = True
    with pytest.raises(DeliveryError, match="away"):
        delivery.collect(["a"])
    assert bool(first.asked) is is_confirming


def test_where_nobody_tells_anything_nobody_is_asked() -> None:
    """Batches are safe when one of them has taken them."""
    delivery = FallbackDelivery(MemoryDelivery(), MemoryDelivery())
    assert not delivery.is_confirming
    with pytest.raises(DeliveryError, match="cannot be followed"):
        delivery.look_at_queue()


def test_a_bug_is_not_hidden_by_the_second(first: MemoryDelivery, second: MemoryDelivery) -> None:
    """It goes on to the shipper, which counts and reports it."""
    first.failures = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        FallbackDelivery(first, second).deliver(BATCH)
    assert second.batches == []


def test_both_are_closed_also_when_the_first_fails_to(second: MemoryDelivery) -> None:
    """A connection would stay open."""
    first, second = Closing(), Closing()
    with pytest.raises(ConnectionResetError):
        FallbackDelivery(first, second).close()
    assert (first.closed, second.closed) == (True, True)
