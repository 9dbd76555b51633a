"""Delivery into a list."""

import pytest

from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError
from execution_logger.testing import MemoryDelivery


def test_batches_and_entries_are_kept() -> None:
    """As they were given, and decoded."""
    delivery, batches = MemoryDelivery(), [Batch((b'{"a":1}', b'{"a":2}')), Batch((b'{"a":3}',))]
    for batch in batches:
        delivery.deliver(batch)
    assert delivery.batches == batches
    assert delivery.entries == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_failures_come_first_each_once() -> None:
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
