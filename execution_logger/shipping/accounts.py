"""What became of this process's entries: counted here by whoever sees it, read here by whoever asks."""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from execution_logger.diagnostics import InternalErrors
from execution_logger.entry.batch import Batch, Distributions, Source, recorded_at
from execution_logger.entry.entry import LogEntry
from execution_logger.shipping.buffer import Buffer
from execution_logger.shipping.in_flight import InFlight, Sent


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


class Accounts:
    """The numbers of one process. All but the drops are counted by the thread that ships.

    Args:
        buffer: of the entries that are counted; those of other sources are of dead processes.
        monotonic: seconds; tests inject their own.
    """

    def __init__(self, buffer: Buffer, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.stored = 0
        self.dead_lettered = 0
        self.handed_over = 0
        """Taken by the broker, and no confirmation of them is expected any more."""
        self.lost = 0
        """Could not be read from the disk any more."""
        self.adopted = 0
        """Of dead processes, whatever became of them."""
        self.adopted_lost = 0
        """Of dead processes: lines that could not be read any more, or were no entries."""
        self.batches = 0
        self.batches_sent_again = 0
        self.distributions = Distributions()
        self.errors = InternalErrors()
        self.failed_attempts = 0
        self.last_error: str | None = None
        self.confirmation_error: str | None = None
        """Why nobody could be asked what became of batches; None when that worked last time."""
        self.is_held_back = False
        """Whether the last attempt found the broker full: the queue at its limit, or its memory."""
        self.guarantee: Literal["stored", "accepted"] | None = None
        """Up to where batches are followed, by the last receipt; None before the first one."""
        self._buffer = buffer
        self._monotonic = monotonic
        self._refused: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._first_at: datetime | None = None
        self._last_at: datetime | None = None
        # The buffer's. Reentrant for signal handlers that log; who asks whether a call was interrupted
        # while it had a lock asks for this one only.
        self._guard = buffer.guard
        buffer.on_refused = self._drop_encoded

    # Counted ---------------------------------------------------------------------------------

    def sent(self, source: Source, batch: Batch, seconds: float) -> None:
        """Count a batch that was sent for the first time, by an attempt of so many seconds."""
        self.batches += 1
        self.miss(source, batch.missing)
        if source is not self._buffer:
            return
        self.distributions.delivery_seconds.observe(seconds)
        self.distributions.batch_entries.observe(batch.count)

    def miss(self, source: Source, entries: int) -> None:
        """Entries cannot be read from the disk any more."""
        if source is self._buffer:
            self.lost += entries
        else:
            self.adopted_lost += entries

    def count(self, source: Source, entries: int, dead_lettered: int | None) -> None:
        """Entries are done: stored but for their dead letters, or handed over when that is None."""
        if source is not self._buffer:
            self.adopted += entries
        elif dead_lettered is None:
            self.handed_over += entries
        else:
            self.dead_lettered += dead_lettered
            self.stored += entries - dead_lettered

    def settle(self, sent: Sent, dead_lettered: int | None) -> None:
        """Count a batch that was in flight."""
        self.count(sent.source, sent.entries_count, dead_lettered)
        if sent.source is self._buffer and sent.first_sent_at is not None and dead_lettered is not None:
            self.distributions.store_seconds.observe(self._monotonic() - sent.first_sent_at)

    def drop(self, entry: LogEntry, reason: str) -> None:
        """Count an entry that was not accepted; a marker entry follows when there is room."""
        with self._guard:
            self._refused[reason] += 1
            self._reasons[reason] += 1
            self._levels[str(entry.level)] += 1
            self._first_at = self._first_at or entry.created_at
            self._last_at = entry.created_at

    def _drop_encoded(self, encoded: bytes) -> None:
        self.drop(msgspec.json.decode(encoded, type=LogEntry), self._buffer.full_reason)

    def drop_summary(self) -> DropSummary | None:
        """What no marker entry has reported yet; None when there is nothing."""
        with self._guard:
            if self._first_at is None or self._last_at is None:
                return None
            return DropSummary(dict(self._reasons), dict(self._levels), self._first_at, self._last_at)

    def reported(self, summary: DropSummary) -> None:
        """A marker entry with this summary is on its way; what was dropped since stays to be reported."""
        with self._guard:
            self._reasons -= Counter(summary.reasons)
            self._levels -= Counter(summary.levels)
            self._first_at = summary.last_at if self._reasons else None

    # Read ------------------------------------------------------------------------------------

    @property
    def unconfirmed(self) -> int:
        """Entries of this process that were sent and are not confirmed."""
        done = self.lost + self.stored + self.dead_lettered + self.handed_over
        return self._buffer.delivered - done

    @property
    def dropped(self) -> dict[str, int]:
        """Entries by reason: refused by the call, or lost from the disk since then."""
        with self._guard:
            refused = dict(self._refused)
        return refused | ({"journal_unreadable": self.lost} if self.lost else {})

    def oldest_unwritten_at(self, in_flight: InFlight) -> float | None:
        """When the oldest entry not safe elsewhere was recorded, in seconds since 1970; None without one."""
        waiting = self._buffer.oldest
        times = (in_flight.oldest_of(self._buffer), recorded_at(waiting) if waiting else None)
        return min((moment for moment in times if moment is not None), default=None)

    def stats(self, in_flight: InFlight) -> dict[str, Any]:
        """Where the entries are; see `ExecutionLogger.stats`."""
        buffer, distributions = self._buffer, self.distributions
        # In this order, because entries are delivered meanwhile.
        dropped = self.dropped
        lost = dropped.get("journal_unreadable", 0)
        stored, dead_lettered, handed_over = self.stored, self.dead_lettered, self.handed_over
        delivered, queued = buffer.delivered, buffer.queued
        oldest_at = self.oldest_unwritten_at(in_flight)
        return {
            "pid": os.getpid(),
            "process": buffer.process,
            "guarantee": self.guarantee,
            "accepted": queued - lost + sum(dropped.values()),
            "delivered": delivered - lost,
            "stored": stored,
            "dead_lettered": dead_lettered,
            "unconfirmed": delivered - lost - stored - dead_lettered - handed_over,
            "handed_over": handed_over,
            "waiting": queued - delivered,
            "waiting_bytes": buffer.held_bytes,
            "memory_bytes": buffer.memory_bytes + in_flight.retained_bytes,
            "journal_bytes": buffer.journal_bytes,
            "oldest_unwritten_seconds": 0.0 if oldest_at is None else max(0.0, time.time() - oldest_at),
            "adopted": self.adopted,
            "dropped": dropped,
            "batches": self.batches,
            "batches_sent_again": self.batches_sent_again,
            "batch_entries": distributions.batch_entries.as_dict(),
            "delivery_seconds": distributions.delivery_seconds.as_dict(),
            "store_seconds": distributions.store_seconds.as_dict(),
            "failed_attempts": self.failed_attempts,
            "held_back": self.is_held_back,
            "internal_errors": self.errors.count,
            "last_error": self.last_error,
            "confirmation_error": self.confirmation_error,
            "journal_error": buffer.journal_error,
        }
