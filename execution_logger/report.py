"""What flush() and shutdown() tell."""

from dataclasses import dataclass, field


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
