"""Delivery to a second place while the first one is away."""

import pytest

from execution_logger.delivery.select import FallbackDelivery
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.testing import MemoryDelivery

BATCH = Batch((b"{}",))


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
