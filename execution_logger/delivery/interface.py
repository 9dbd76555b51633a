"""The interface of deliveries, and its error contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from execution_logger.broker.connection import QueueView
from execution_logger.entry.batch import Batch

if TYPE_CHECKING:
    from execution_logger.broker.confirmations import Outcome


class Guarantee(StrEnum):
    """What is known of a batch when its delivery returns."""

    STORED = "stored"
    """Its rows are committed."""
    ACCEPTED = "accepted"
    """The broker has taken it, and nobody will tell more."""
    AWAITED = "awaited"
    """The broker has taken it, and `Confirming.collect` will tell when it is stored."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a batch."""

    guarantee: Guarantee
    dead_lettered: int = 0
    """How many of its entries the database has refused for good; they are kept there."""


class Delivery(Protocol):
    """Takes batches, one at a time, from the shipper's thread.

    A delivery is made in the thread and in the process that use it; after a fork the child makes
    its own and never touches the parent's.
    """

    def deliver(self, batch: Batch) -> Receipt | None:
        """Hand the batch over; nothing but an answer means that it was accepted.

        Must return or raise within seconds whatever hangs. May be called again with a batch that
        it took already: a timed-out attempt is in doubt, not failed, so receivers must tell a
        repeated entry by its id.

        Raises:
            DeliveryError: not now. The same batch comes again, after a pause.
        """

    def close(self) -> None:
        """Release connections; nothing is delivered with it any more."""


@runtime_checkable
class Confirming(Protocol):
    """A delivery that answers `AWAITED`, and tells later what became of its batches."""

    @property
    def is_confirming(self) -> bool:
        """Whether there is anybody to ask; otherwise it never answers `AWAITED`."""

    def collect(self, batch_ids: Sequence[str]) -> "Mapping[str, Outcome]":
        """Ask for many at once; those that are not confirmed yet are absent.

        That a batch is stored is told once.

        Raises:
            DeliveryError: nobody answers.
        """

    def look_at_queue(self) -> QueueView:
        """Look whether unconfirmed batches may still be waiting.

        Raises:
            DeliveryError: the broker does not answer.
        """
