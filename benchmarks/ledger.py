"""What the ledger of the stored batches tells: cheaper than to count rows, and when each was stored."""

from dataclasses import dataclass

from system import System
from waiting import wait_until

_TIMEOUT_SECONDS = 900.0
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class StoredBatch:
    """A batch that a worker has stored."""

    first: int
    """The number of its first entry among those of its process."""
    stored_at: float
    """In seconds since 1970."""
    latency_seconds: float
    """Since the call of its oldest entry."""


def count_entries(system: System) -> int:
    """How many entries the stored batches have."""
    (row,) = system.postgres.execute("SELECT coalesce(sum(entries), 0) FROM execution_log_batches")
    return int(row[0])


def wait_for_ledger(system: System, expected: int) -> None:
    """Wait for so many entries, and then count the rows, which must be as many."""
    wait_until(lambda: count_entries(system) >= expected, _TIMEOUT_SECONDS, pause_seconds=_PAUSE_SECONDS)
    system.wait_for_rows(expected)


def stored_batches(system: System, since: float = 0.0) -> list[StoredBatch]:
    """Those that were stored since then (seconds since 1970), in their order."""
    rows = system.postgres.execute(
        "SELECT first, extract(epoch FROM stored_at)::float8,"
        " extract(epoch FROM stored_at - oldest_at)::float8"
        " FROM execution_log_batches WHERE stored_at > to_timestamp($1) ORDER BY stored_at",
        since,
    )
    return [StoredBatch(*row) for row in rows]
