"""The bounded first-in-first-out queue of encoded entries, and the batches taken from it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate, islice
from typing import TYPE_CHECKING

from execution_logger.batch import Batch
from execution_logger.settings import Settings
from execution_logger.watermark import Watermark

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from execution_logger.journal.journal import Journal

_WINDOW_ENTRIES = 10_000
_WINDOW_BYTES = 8_388_608
"""What an outage keeps in memory of entries that are on the disk as well."""


class Buffer:
    """Holds entries until they are sent: the oldest in memory, those without room there in the journal.

    Entries are numbered from 1 as they come. Bounded by entries and by bytes. The first entry arms
    the deadline; an empty buffer has none (the habit of celery-batches: idle costs nothing). Any
    thread puts; the thread that ships takes, and says what is sent and what is settled.

    Args:
        settings: the bounds.
        process: the name that the batches bear.
        make_journal: makes a journal that is written under the given guard; without it there is none.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        settings: Settings,
        process: str = "",
        make_journal: "Callable[[AbstractContextManager[object]], Journal] | None" = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.process = process
        self._settings = settings
        self._monotonic = monotonic
        self._batch_size = settings.batch_size
        self._max_entries = settings.buffer_max_entries
        self._max_bytes = settings.buffer_max_bytes
        self._window_entries = min(settings.buffer_max_entries, _WINDOW_ENTRIES)
        self._window_bytes = min(settings.buffer_max_bytes, _WINDOW_BYTES)
        self._entries: deque[bytes] = deque()
        self._interrupting: deque[bytes] = deque()
        self._is_busy = False
        self._taken: Batch | None = None
        self._spilled = 0
        self._spilled_bytes = 0
        self._memory_entries = 0
        self._memory_bytes = 0
        self._first_at = 0.0
        # Numbers of entries: put so far, taken into batches so far, sent so far.
        self._queued = 0
        self._begun = 0
        self._sent = 0
        self._settled = Watermark()
        # Reentrant: a signal handler that logs may interrupt its own thread inside put(). Held for
        # list operations and one write to the journal, never across other I/O, encoding or user code.
        self.guard = threading.RLock()
        self.journal = make_journal(self.guard) if make_journal else None

    def put(self, encoded: bytes) -> int:
        """Append an entry and return how many wait now; 0 when there is no room and it was not taken.

        Once it has returned, the entry is on the disk, if there is a journal and the disk takes it.
        """
        with self.guard:
            if self._is_busy:
                # A signal handler that logs has interrupted this very method. The numbers in the
                # journal must be those in memory: its entry follows the one that is under way.
                self._interrupting.append(encoded)
                return 1
            self._is_busy = True
            is_taken = True
            try:
                waiting = self._put(encoded)
            finally:
                self._is_busy = False
                if self._interrupting:  # also when that handler has raised: its own call has returned
                    is_taken = self._put_interrupting()
            return waiting if is_taken else 0

    def _put_interrupting(self) -> bool:
        """Append what came meanwhile; False when it was not taken."""
        is_taken = True
        while self._interrupting:
            self._is_busy = True
            try:
                if self._interrupting:  # another interruption may have done it
                    is_taken = self._put(self._interrupting[0]) > 0
                    self._interrupting.popleft()
            finally:
                self._is_busy = False
        return is_taken

    def _put(self, encoded: bytes) -> int:
        size, journal = len(encoded), self.journal
        if self._queued == self._begun:
            self._first_at = self._monotonic()
        is_kept = journal is not None and journal.append(self._queued + 1, encoded)
        is_within = self._memory_entries < self._window_entries
        if self._spilled or not is_within or self._memory_bytes + size > self._window_bytes:
            return self._put_beyond(encoded, is_kept=is_kept)
        # No call before the last line: a signal handler that raises comes before the counting or after it.
        self._memory_entries += 1
        self._memory_bytes += size
        self._queued += 1
        waiting = self._queued - self._begun
        self._entries.append(encoded)
        return waiting

    def _put_beyond(self, encoded: bytes, *, is_kept: bool) -> int:
        """Leave an entry in the journal; without one there is more room in memory."""
        size = len(encoded)
        if not is_kept and (self._spilled or not self._has_room(size)):
            return 0
        self._queued += 1
        waiting = self._queued - self._begun
        if is_kept:
            self._spilled += 1
            self._spilled_bytes += size
        else:
            self._memory_entries += 1
            self._memory_bytes += size
            self._entries.append(encoded)
        return waiting

    def _has_room(self, size: int) -> bool:
        return self._memory_entries < self._max_entries and self._memory_bytes + size <= self._max_bytes

    def take(self) -> Batch | None:
        """The next batch, and the same one until it is sent.

        It has up to `batch_size` entries, up to `max_batch_entries` when more of them wait.
        """
        if self._taken is None and self._queued > self._begun:
            self._taken = self._take_from_memory() or self._take_from_journal()
        return self._taken

    def _take_from_memory(self) -> Batch | None:
        with self.guard:
            if not self._entries:
                return None
            # Made before anything is changed: memory that runs out here costs no entry.
            batch = Batch(self._head(), process=self.process, first=self._sent + 1)
            for _ in batch.entries:
                self._entries.popleft()
            self._begun += batch.count
        return batch

    def _take_from_journal(self) -> Batch | None:
        """Entries that had no room in memory, read outside the lock: they stay where they are."""
        if self.journal is None or not self._spilled:
            return None
        limit = min(self._settings.max_batch_entries, self._spilled)
        batch = self.journal.read_batch(self._sent + 1, limit, self._settings.max_batch_bytes)
        if not batch.count:
            raise RuntimeError(f"entries from number {batch.first} on are not in the journal")
        with self.guard:
            self._begun += batch.count
            self._spilled -= batch.count
            # Of damaged entries nobody knows the size any more.
            self._spilled_bytes = self._spilled_bytes - batch.size_bytes if self._spilled else 0
            self._memory_entries += len(batch)
            self._memory_bytes += batch.size_bytes
        return batch

    def sent(self, batch: Batch, *, awaited_since: float | None = None) -> None:
        """Go on to the next batch; this one is awaited, or settled next."""
        if self.journal is not None and awaited_since is not None:
            self.journal.mark_sent(batch, awaited_since)
        with self.guard:
            if batch is not self._taken:  # an answer that comes twice makes no room that is not there
                return
            self._taken = None
            self._sent += batch.count
            self._memory_entries -= len(batch)
            self._memory_bytes -= batch.size_bytes

    def settle(self, first: int, count: int) -> None:
        """Forget entries that are safe elsewhere."""
        if self._settled.add(first, count) and self.journal is not None:
            self.journal.settle(self._settled.value)

    def keeps(self, first: int, count: int) -> bool:
        """Whether the journal has these entries, which memory need not keep then."""
        return self.journal is not None and self.journal.has(first, count)

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries that the journal has."""
        return () if self.journal is None else self.journal.read_again(first, count)

    @property
    def keeps_all(self) -> bool:
        """Whether the journal has all entries that have not been sent."""
        return self.keeps(self._sent + 1, self.held)

    def seconds_until_due(self) -> float | None:
        """Seconds until a batch is to be delivered, 0 when one is due or taken, None when none waits."""
        with self.guard:
            waiting = self._queued - self._begun
            if self._taken is not None:
                return 0.0
            if not waiting:
                return None
            if waiting >= self._batch_size or self.held_bytes >= self._settings.max_batch_bytes:
                return 0.0
            due_at = self._first_at + self._settings.flush_interval_seconds
        return max(0.0, due_at - self._monotonic())

    def next_number(self) -> int:
        """The number that the next entry will have."""
        return self._queued + 1

    @property
    def queued(self) -> int:
        """Entries ever put, which is also the number of the newest one."""
        return self._queued

    @property
    def delivered(self) -> int:
        """The number up to which all entries have been sent."""
        return self._sent

    @property
    def oldest(self) -> bytes | None:
        """The first entry that has not been sent; None when memory has none.

        Without the lock: who only looks on must never be what a call waits for.
        """
        taken = self._taken
        try:
            return self._entries[0] if taken is None else taken.entries[0]
        except IndexError:
            return None

    @property
    def settled(self) -> int:
        """The number up to which all entries are safe elsewhere."""
        return self._settled.value

    @property
    def held(self) -> int:
        """Entries that have not been sent."""
        return self._queued - self._sent

    @property
    def held_bytes(self) -> int:
        """The size of the entries that have not been sent."""
        return self._memory_bytes + self._spilled_bytes

    @property
    def memory_entries(self) -> int:
        """Entries in memory."""
        return self._memory_entries

    @property
    def memory_bytes(self) -> int:
        """The size of the entries in memory."""
        return self._memory_bytes

    def _head(self) -> tuple[bytes, ...]:
        """The entries of the next batch."""
        settings = self._settings
        is_jammed = self._queued - self._begun > self._batch_size
        limit = settings.max_batch_entries if is_jammed else self._batch_size
        head = tuple(islice(self._entries, limit))
        if sum(map(len, head)) <= settings.max_batch_bytes:
            return head
        sizes = accumulate(map(len, head))
        fitting = sum(size <= settings.max_batch_bytes for size in sizes)
        return head[: max(1, fitting)]
