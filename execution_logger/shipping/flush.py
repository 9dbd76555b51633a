"""Who waits until entries are sent or stored, and how long."""

from concurrent.futures import Future
from dataclasses import dataclass, field

CONFIRMATION_SECONDS = 1.0
"""How long a shutdown waits for confirmations once everything is sent."""


@dataclass(slots=True, eq=False)
class _Request:
    """Somebody waits, until `expires_at`, for the ticket to be reached; then the thread may have to stop."""

    ticket: int
    expires_at: float
    until_stored: bool
    then_stop: bool
    done: "Future[None]"
    is_sent: bool = False

    def is_answered(self, delivered: int, settled: int, now: float) -> bool:
        if self.then_stop and not self.is_sent and delivered >= self.ticket:
            # All is sent. What is not confirmed soon is in the journal, or was never promised more.
            self.is_sent = True
            if not self.until_stored:
                self.expires_at = min(self.expires_at, now + CONFIRMATION_SECONDS)
        reached = settled if self.until_stored or self.then_stop else delivered
        return reached >= self.ticket or self.expires_at <= now


class Flushes:
    """The flushes and shutdowns on their way: added by the host's threads, answered by the shipper's."""

    def __init__(self) -> None:
        # Without a lock: a signal handler that waits in flush() may interrupt whoever held it. Each
        # change is one call of the list's own.
        self._requests: list[_Request] = []

    def __bool__(self) -> bool:
        return bool(self._requests)

    def add(
        self, ticket: int, expires_at: float, *, until_stored: bool = False, then_stop: bool = False
    ) -> "Future[None]":
        """Wait for all entries up to the ticket, until `expires_at` (monotonic)."""
        done: Future[None] = Future()
        # A running future cannot be cancelled: set_result() never meets one that asyncio gave up.
        done.set_running_or_notify_cancel()
        self._requests.append(_Request(ticket, expires_at, until_stored, then_stop, done))
        return done

    def extend(self, ticket: int) -> None:
        """Let all wait for the entries up to this later ticket too."""
        for each in tuple(self._requests):
            each.ticket = ticket

    def seconds_until_expired(self, now: float) -> float | None:
        """Seconds until one of them waits no longer; None when nobody waits."""
        earliest = min((each.expires_at for each in tuple(self._requests)), default=None)
        return None if earliest is None else max(0.0, earliest - now)

    def answer(self, delivered: int, settled: int, now: float) -> "list[Future[None]]":
        """Answer those whose entries are sent, or stored, and those who wait no longer.

        Returns:
            The futures of shutdowns among them, to be answered when the thread has ended.
        """
        answered = [each for each in tuple(self._requests) if each.is_answered(delivered, settled, now)]
        for each in answered:
            self._requests.remove(each)
            if not each.then_stop:
                each.done.set_result(None)
        return [each.done for each in answered if each.then_stop]


@dataclass(frozen=True, slots=True)
class Report:
    """Where the entries are: what this call saw delivered, what still waits, what was dropped and why."""

    complete: bool
    """Whether all that was recorded before the call is delivered; or stored, if the call waited for that."""
    delivered: int
    """Entries delivered while the call waited."""
    waiting: int
    """Entries that have not been sent; they are kept, in memory or on disk."""
    elapsed_seconds: float
    unconfirmed: int = 0
    """Entries that were sent, and not confirmed by a worker yet."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Entries dropped since the process began, by reason."""
    last_error: str | None = None
    """Why the last attempt failed; None when it succeeded."""

    def __str__(self) -> str:
        parts = [f"{self.delivered} delivered", f"{self.waiting} waiting"]
        if self.unconfirmed:
            parts.append(f"{self.unconfirmed} unconfirmed")
        parts += [f"{count} dropped ({reason})" for reason, count in self.dropped.items()]
        text = f"{', '.join(parts)} after {self.elapsed_seconds:.2f} s"
        return f"{text}: {self.last_error}" if self.last_error and not self.complete else text
