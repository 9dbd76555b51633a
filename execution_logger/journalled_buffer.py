"""The buffer whose entries are on disk as well, and those without room in memory there only."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from execution_logger.batch import Batch
from execution_logger.buffer import Buffer
from execution_logger.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from execution_logger.journal.journal import Journal

_WINDOW_ENTRIES = 10_000
_WINDOW_BYTES = 8_388_608
"""What an outage keeps in memory of entries that are on the disk as well."""


class JournalledBuffer(Buffer):
    """Holds the oldest entries in memory, and those without room there in the journal.

    Args:
        settings: the bounds.
        process: the name that the batches bear.
        make_journal: makes the journal, which is written under the given guard.
        monotonic: seconds; tests inject their own.
    """

    journal: "Journal"

    def __init__(
        self,
        settings: Settings,
        process: str,
        make_journal: "Callable[[AbstractContextManager[object]], Journal]",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, process, monotonic)
        self._window_entries = min(settings.buffer_max_entries, _WINDOW_ENTRIES)
        self._window_bytes = min(settings.buffer_max_bytes, _WINDOW_BYTES)
        self._interrupting: deque[bytes] = deque()
        self._is_busy = False
        self._spilled = 0
        self._spilled_bytes = 0
        self.journal = make_journal(self.guard)

    def put(self, encoded: bytes) -> int:
        """Append an entry and return how many wait now; 0 when there is no room and it was not taken.

        Once it has returned, the entry is on the disk, if the disk takes it.
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
        size = len(encoded)
        if self._queued == self._begun:
            self._first_at = self._monotonic()
        is_kept = self.journal.append(self._queued + 1, encoded)
        is_within = self._memory_entries < self._window_entries
        if self._spilled or not is_within or self._memory_bytes + size > self._window_bytes:
            return self._put_beyond(encoded, is_kept=is_kept)
        # No call until the entry is appended: a handler that raises comes before all this, or after it.
        self._memory_entries += 1
        self._memory_bytes += size
        self._queued = number = self._queued + 1
        self._entries.append(encoded)
        return number - self._begun

    def _put_beyond(self, encoded: bytes, *, is_kept: bool) -> int:
        """Leave an entry in the journal; when it is not there, there is more room in memory."""
        size = len(encoded)
        if not is_kept and (self._spilled or not self._has_room(size)):
            return 0
        self._queued = number = self._queued + 1
        if is_kept:
            self._spilled += 1
            self._spilled_bytes += size
        else:
            self._memory_entries += 1
            self._memory_bytes += size
            self._entries.append(encoded)
        return number - self._begun

    def _has_room(self, size: int) -> bool:
        return self._memory_entries < self._max_entries and self._memory_bytes + size <= self._max_bytes

    def _next_batch(self) -> Batch | None:
        return super()._next_batch() or self._take_from_journal()

    def _take_from_journal(self) -> Batch | None:
        """Entries that had no room in memory, read outside the lock: they stay where they are."""
        if not self._spilled:
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
        if awaited_since is not None:
            self.journal.mark_sent(batch, awaited_since)
        super().sent(batch)

    def settle(self, first: int, count: int) -> None:
        """Forget entries that are safe elsewhere."""
        if self._settled.add(first, count):
            self.journal.settle(self._settled.value)

    def keeps(self, first: int, count: int) -> bool:
        """Whether the journal has these entries, which memory need not keep then."""
        return self.journal.has(first, count)

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:
        """The entries that the journal has."""
        return self.journal.read_again(first, count)

    @property
    def held_bytes(self) -> int:
        """The size of the entries that have not been sent."""
        return self._memory_bytes + self._spilled_bytes
