"""The buffer whose entries are on disk as well, and those without room in memory there only."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from execution_logger.entry.batch import Batch
from execution_logger.settings import Settings
from execution_logger.shipping.buffer import Buffer

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
        # What comes after the entries that memory had room for, in its order: stretches of entries that
        # are in the journal only, each a number, and between them those that the disk did not take.
        self._beyond: deque[int | deque[bytes]] = deque()
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
        if self._beyond or not is_within or self._memory_bytes + size > self._window_bytes:
            return self._put_beyond(encoded, is_kept=is_kept)
        # No call until the entry is appended: a handler that raises comes before all this, or after it.
        self._memory_entries += 1
        self._memory_bytes += size
        self._queued = number = self._queued + 1
        self._entries.append(encoded)
        return number - self._begun

    def _put_beyond(self, encoded: bytes, *, is_kept: bool) -> int:
        """Leave an entry in the journal; when it is not there, there is more room in memory."""
        size, beyond = len(encoded), self._beyond
        if not is_kept and not self._has_room(size):
            return 0
        last = beyond[-1] if beyond else self._entries
        stretch: int | deque[bytes] = 1 if is_kept else deque((encoded,))
        is_same = isinstance(last, int) is is_kept
        # Here, too, no call until the entry is appended.
        self._queued = number = self._queued + 1
        if is_kept:
            self._spilled_bytes += size
        else:
            self._memory_entries += 1
            self._memory_bytes += size
        if not is_same:
            beyond.append(stretch)
        elif is_kept:
            beyond[-1] = last + 1  # type: ignore[operator]
        else:
            last.append(encoded)  # type: ignore[union-attr]
        return number - self._begun

    def _has_room(self, size: int) -> bool:
        return self._memory_entries < self._max_entries and self._memory_bytes + size <= self._max_bytes

    def _next_batch(self) -> Batch | None:
        if not self._entries and self._beyond:
            if isinstance(count := self._beyond[0], int):
                return self._take_from_journal(count)
            with self.guard:
                self._entries = count
                self._beyond.popleft()
        return super()._next_batch()

    def _take_from_journal(self, count: int) -> Batch:
        """Entries that had no room in memory, read outside the lock: they stay where they are."""
        number, limit = self._sent + 1, min(self._settings.max_batch_entries, count)
        batch = self.journal.read_batch(number, limit, self._settings.max_batch_bytes)
        if batch.first != number or not batch.entries:
            # Somebody has deleted or cut the file. They are counted as lost, and stop nothing.
            missing = min(count, batch.first - number or batch.missing or count)
            batch = Batch((), process=self.process, first=number, missing=missing)
        with self.guard:
            self._begun += batch.count
            self._spilled_bytes -= batch.size_bytes
            self._memory_entries += len(batch)
            self._memory_bytes += batch.size_bytes
            self._shorten(batch.count)
        return batch

    def _shorten(self, count: int) -> None:
        """Take so many entries from the head of what is in the journal only."""
        left = cast("int", self._beyond[0]) - count
        if left:
            self._beyond[0] = left
        else:
            self._beyond.popleft()
        if not any(isinstance(each, int) for each in self._beyond):
            self._spilled_bytes = 0  # of damaged entries nobody knows the size any more

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
    def full_reason(self) -> str:
        """Why an entry is not taken: memory is full, and the disk, or it takes nothing for another reason."""
        return "journal_full" if self.journal.is_full else "journal_failed"

    @property
    def held_bytes(self) -> int:
        """The size of the entries that have not been sent."""
        return self._memory_bytes + self._spilled_bytes
