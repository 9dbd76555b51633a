"""Who waits until entries are delivered, and how long."""

from concurrent.futures import Future
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Request:
    """Somebody waits, until `expires_at`, for the ticket to be settled; then the thread may have to stop."""

    ticket: int
    expires_at: float
    then_stop: bool
    done: "Future[None]"


class Flushes:
    """The flushes and shutdowns on their way: added by the host's threads, answered by the shipper's."""

    def __init__(self) -> None:
        # Without a lock: a signal handler that waits in flush() may interrupt whoever held it. Each
        # change is one call of the list's own.
        self._requests: list[_Request] = []

    def __bool__(self) -> bool:
        return bool(self._requests)

    def add(self, ticket: int, expires_at: float, *, then_stop: bool) -> "Future[None]":
        """Wait for all entries up to the ticket, until `expires_at` (monotonic)."""
        done: Future[None] = Future()
        # A running future cannot be cancelled: set_result() never meets one that asyncio gave up.
        done.set_running_or_notify_cancel()
        self._requests.append(_Request(ticket, expires_at, then_stop, done))
        return done

    def extend(self, ticket: int) -> None:
        """Let all wait for the entries up to this later ticket too."""
        for each in tuple(self._requests):
            each.ticket = ticket

    def answer(self, settled: int, now: float) -> "list[Future[None]]":
        """Answer those whose entries are settled, and those who wait no longer.

        Returns:
            The futures of shutdowns among them, to be answered when the thread has ended.
        """
        requests = tuple(self._requests)
        answered = [each for each in requests if each.ticket <= settled or each.expires_at <= now]
        for each in answered:
            self._requests.remove(each)
            if not each.then_stop:
                each.done.set_result(None)
        return [each.done for each in answered if each.then_stop]
