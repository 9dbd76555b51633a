"""Delivery into a list, for tests."""

from typing import Any

import msgspec

from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.entry.batch import Batch


class MemoryDelivery:
    """Keeps every batch it is given; `failures` makes the next attempts raise."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.failures: list[Exception] = []

    def deliver(self, batch: Batch) -> Receipt:
        """Keep the batch, or raise the next of `failures`."""
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(batch)
        return Receipt(Guarantee.STORED)

    def close(self) -> None:
        """Nothing to release."""

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Every delivered entry, decoded, in the order of delivery."""
        return [entry for batch in self.batches for entry in msgspec.json.decode(batch.to_json())]
