"""The interface of what batches come from: this process's buffer, or the journal of a dead process."""

from typing import Protocol

from execution_logger.entry.batch import Batch


class NotNowError(OSError):
    """What is on the disk cannot be read at this moment, for want of something that others use up."""


class Source(Protocol):
    """Hands out batches in order, one at a time, and keeps what is sent until it is settled.

    All of it is called by the one thread that ships.
    """

    process: str
    """The name of the process that recorded the entries."""

    def take(self) -> Batch | None:
        """The next batch, and the same one until it is sent; None when none is due."""

    def sent(self, batch: Batch, *, awaited_since: float | None = None) -> None:
        """Go on to the next batch: this one was accepted.

        Args:
            batch: the one that was taken.
            awaited_since: when it was sent, in seconds since 1970, if a confirmation will follow.
        """

    def settle(self, first: int, count: int) -> None:
        """Forget these entries: they are safe elsewhere."""

    def keeps(self, first: int, count: int) -> bool:
        """Whether these entries can be read again as long as they are not settled."""

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries that `keeps` speaks of; raises OSError, and NotNowError when they can be read later."""
