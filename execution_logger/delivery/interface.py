"""The interface of deliveries, and its error contract."""

from typing import Protocol

from execution_logger.buffer import Batch


class Delivery(Protocol):
    """Takes batches, one at a time, from the shipper's thread.

    A delivery is made in the thread and in the process that use it; after a fork the child makes
    its own and never touches the parent's.
    """

    def deliver(self, batch: Batch) -> None:
        """Hand the batch over; on return its entries are safe elsewhere.

        Must return or raise within seconds whatever hangs. May be called again with a batch that
        it took already: a timed-out attempt is in doubt, not failed, so receivers must tell a
        repeated entry by its id.

        Raises:
            DeliveryError: not now. The same batch comes again, after a pause, before any other one.
        """

    def close(self) -> None:
        """Release connections; nothing is delivered with it any more."""
