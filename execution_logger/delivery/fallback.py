"""Delivery to a second place while the first one is away."""

from execution_logger.buffer import Batch
from execution_logger.delivery.interface import Delivery
from execution_logger.errors import DeliveryError


class FallbackDelivery:
    """Hands each batch to `first`, and to `second` when that fails.

    A batch that was sent to both, because the first attempt was only in doubt, is still one row
    per entry: rows are told by their ids.
    """

    def __init__(self, first: Delivery, second: Delivery) -> None:
        self._first = first
        self._second = second

    def deliver(self, batch: Batch) -> None:
        """Deliver to either; raises DeliveryError when both fail."""
        try:
            self._first.deliver(batch)
        except DeliveryError as first_error:
            try:
                self._second.deliver(batch)
            except DeliveryError as second_error:
                raise DeliveryError(f"{first_error}; and directly: {second_error}") from second_error

    def close(self) -> None:
        """Close both."""
        try:
            self._first.close()
        finally:
            self._second.close()
