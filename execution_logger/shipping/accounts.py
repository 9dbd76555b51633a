"""Entries that had to be dropped: counted, and reported in the log itself."""

import threading
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from execution_logger.entry.entry import LogEntry


@dataclass(frozen=True, slots=True)
class DropSummary:
    """What was dropped since the last summary: why, how many of each level, and between which times."""

    reasons: dict[str, int]
    levels: dict[str, int]
    first_at: datetime
    last_at: datetime

    @property
    def count(self) -> int:
        """How many entries."""
        return sum(self.reasons.values())

    def __str__(self) -> str:
        levels = ", ".join(f"{count} {level}" for level, count in self.levels.items())
        reasons = ", ".join(self.reasons)
        return f"{self.count} log entries dropped ({levels}), {self.first_at} to {self.last_at}: {reasons}"


class Drops:
    """Counts what is dropped, for `stats()` and for the marker entry that follows when there is room.

    Args:
        guard: the buffer's. Reentrant for signal handlers that log; who asks whether a call was interrupted
            while it had a lock asks for this one only.
    """

    def __init__(self, guard: threading.RLock) -> None:
        self._totals: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._first_at: datetime | None = None
        self._last_at: datetime | None = None
        self._lock = guard

    def record(self, entry: LogEntry, reason: str) -> None:
        """Count one dropped entry."""
        with self._lock:
            self._totals[reason] += 1
            self._reasons[reason] += 1
            self._levels[str(entry.level)] += 1
            self._first_at = self._first_at or entry.created_at
            self._last_at = entry.created_at

    def totals(self) -> dict[str, int]:
        """Dropped entries by reason, since the process began."""
        with self._lock:
            return dict(self._totals)

    def summary(self) -> DropSummary | None:
        """What no marker entry has reported yet; None when there is nothing."""
        with self._lock:
            if self._first_at is None or self._last_at is None:
                return None
            return DropSummary(dict(self._reasons), dict(self._levels), self._first_at, self._last_at)

    def reported(self, summary: DropSummary) -> None:
        """A marker entry with this summary is on its way; what was dropped since stays to be reported."""
        with self._lock:
            self._reasons -= Counter(summary.reasons)
            self._levels -= Counter(summary.levels)
            self._first_at = summary.last_at if self._reasons else None
