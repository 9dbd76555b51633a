"""What is seen of the queue; apart from the rest, because hosts without Celery see one, too."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueView:
    """What the broker has of the queue; None where this kind of broker cannot tell."""

    waiting: int
    in_flight: int | None
    """Taken by workers and not acknowledged."""
    oldest_sent_at: float | None
    """When the message that comes next was sent, at the earliest, in seconds since 1970 by our clock."""
