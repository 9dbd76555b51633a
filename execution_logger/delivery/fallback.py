"""Delivery to a second place while the first one is away."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from execution_logger.broker.view import QueueView
from execution_logger.delivery.interface import Confirming, Delivery, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError

if TYPE_CHECKING:
    from execution_logger.broker.confirmations import Outcome


class FallbackDelivery:
    """Hands each batch to `first`, and to `second` when that fails.

    A batch that was sent to both, because the first attempt was only in doubt, is still one row
    per entry: rows are told by their ids.
    """

    def __init__(self, first: Delivery, second: Delivery) -> None:
        self._first = first
        self._second = second

    def deliver(self, batch: Batch) -> Receipt | None:
        """Deliver to either; raises DeliveryError when both fail."""
        try:
            return self._first.deliver(batch)
        except DeliveryError as first_error:
            try:
                return self._second.deliver(batch)
            except DeliveryError as second_error:
                raise DeliveryError(f"{first_error}; and directly: {second_error}") from second_error

    @property
    def is_confirming(self) -> bool:
        """Whether the first one is."""
        return isinstance(self._first, Confirming) and self._first.is_confirming

    def collect(self, batch_ids: Sequence[str]) -> "Mapping[str, Outcome]":
        """Ask the first one, and then the second one, which may hold some."""
        outcomes = dict(self._confirming.collect(batch_ids))
        if isinstance(self._second, Confirming):
            outcomes |= self._second.collect([each for each in batch_ids if each not in outcomes])
        return outcomes

    def look_at_queue(self) -> QueueView:
        """Look at the queue of the first one."""
        return self._confirming.look_at_queue()

    def close(self) -> None:
        """Close both."""
        try:
            self._first.close()
        finally:
            self._second.close()

    @property
    def _confirming(self) -> Confirming:
        if not isinstance(self._first, Confirming):
            raise DeliveryError("what the broker has taken cannot be followed")
        return self._first
