"""The queue of encoded entries, on disk and in memory, and the batches that are taken from it."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import accumulate, islice
from typing import cast

from execution_logger.diagnostics import report
from execution_logger.entry.batch import Batch, Watermark
from execution_logger.journal import Journal, NoJournal
from execution_logger.settings import Settings

_WINDOW_ENTRIES = 10_000
_WINDOW_BYTES = 8_388_608
"""What an outage keeps in memory of entries that are on the disk as well."""
_LOOK_AFTER_SECONDS = 1.0


def held_by_caller(lock: threading.RLock) -> bool:
    """Whether this thread has the lock, as a signal handler does that has interrupted it there."""
    is_owned: bool = lock._is_owned()  # type: ignore[attr-defined] # noqa: SLF001 - as threading.Condition does
    return is_owned


class Buffer:
    """Holds entries until they are sent: each in the journal, and in memory as well while that has room.

    Entries are numbered from 1 as they come. What the disk does not take is in memory only, bounded by
    entries and by bytes. The first entry arms the deadline; an empty buffer has none (the habit of
    celery-batches: idle costs nothing). Any thread puts; the thread that ships takes, and says what is
    sent and what is settled.

    Args:
        settings: the bounds.
        process: the name that the batches bear.
        make_journal: makes the journal, which is written under the given guard.
        monotonic: seconds; tests inject their own.
    """

    def __init__(
        self,
        settings: Settings,
        process: str = "",
        make_journal: Callable[[AbstractContextManager[object]], Journal] = NoJournal,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.process = process
        # Reentrant: a signal handler that logs may interrupt its own thread inside put(). Held for
        # list operations and one write to the journal, never across other I/O, encoding or user code.
        self.guard = threading.RLock()
        self.journal = make_journal(self.guard)
        self._looked_after_at = 0.0
        self._reported_error: str | None = None
        self._settings = settings
        self._monotonic = monotonic
        self._batch_size = settings.batch_size
        self._max_entries = settings.buffer_max_entries
        self._max_bytes = settings.buffer_max_bytes
        self._window_entries = min(self._max_entries, _WINDOW_ENTRIES)
        self._window_bytes = min(self._max_bytes, _WINDOW_BYTES)
        self._has_journal = not isinstance(self.journal, NoJournal)
        self.on_refused: Callable[[bytes], object] = lambda _: None
        """Called with an entry that finds no room after its call has returned."""
        self._is_busy = False
        self._interrupting: deque[bytes] = deque()
        # In their order; a number stands for so many entries that are on the disk only.
        self._entries: deque[bytes | int] = deque()
        self._taken: Batch | None = None
        self._spilled = 0
        self._spilled_bytes = 0
        self.memory_entries = 0
        self.memory_bytes = 0
        """The size of the entries in memory."""
        self.queued = 0
        """Entries ever put, which is also the number of the newest one."""
        self.delivered = 0
        """The number up to which all entries have been sent."""
        self._begun = 0
        """The number up to which they have been taken into batches."""
        self._settled = Watermark()
        self._first_at = 0.0

    # Put, by any thread ----------------------------------------------------------------------

    def put(self, encoded: bytes) -> int:
        """Append an entry and return how many wait now; 0 when there is no room and it was not taken.

        Once it has returned, the entry is on the disk, if the disk takes it.
        """
        with self.guard:
            if not self._has_journal:
                return self._put(encoded)
            if self._is_busy:
                # A signal handler that logs has interrupted this very method. The numbers in the
                # journal must be those in memory: its entry follows the one that is under way.
                self._interrupting.append(encoded)
                return 1
            self._is_busy = True
            try:
                return self._put(encoded)
            finally:
                self._is_busy = False
                if self._interrupting:  # also when that handler has raised: its own call has returned
                    self._put_interrupting()

    def _put_interrupting(self) -> None:
        """Append what came meanwhile; its calls were told that it is taken."""
        while self._interrupting:
            self._is_busy = True
            try:
                if self._interrupting:  # another interruption may have done it
                    is_taken = self._put(self._interrupting[0]) > 0
                    encoded = self._interrupting.popleft()
                    if not is_taken:
                        self.on_refused(encoded)
            finally:
                self._is_busy = False

    def _put(self, encoded: bytes) -> int:
        # Without a journal a handler that logs may interrupt this between any two lines, and put its own
        # entry in between: what one line leaves is right for that entry, and read anew by the next line.
        size = len(encoded)
        if self.queued == self._begun:
            self._first_at = self._monotonic()
        if self._has_journal and self.journal.append(self.queued + 1, encoded):
            is_within = self.memory_entries < self._window_entries
            if self._spilled or not is_within or self.memory_bytes + size > self._window_bytes:
                return self._spill(size)
        elif self.memory_entries >= self._max_entries or self.memory_bytes + size > self._max_bytes:
            return 0
        # No call until the entry is appended: a handler that raises comes before all this, or after it.
        self.memory_entries += 1
        self.memory_bytes += size
        self.queued = number = self.queued + 1
        self._entries.append(encoded)
        return number - self._begun

    def _spill(self, size: int) -> int:
        """Leave an entry in the journal."""
        entries = self._entries
        last = entries[-1] if entries else b""
        is_run = isinstance(last, int)
        # Here, too, no call until the entry is appended.
        self._spilled += 1
        self._spilled_bytes += size
        self.queued = number = self.queued + 1
        if is_run:
            entries[-1] = cast("int", last) + 1
        else:
            entries.append(1)
        return number - self._begun

    # Take, by the thread that ships ----------------------------------------------------------

    def take(self) -> Batch | None:
        """The next batch, and the same one until it is sent.

        It has up to `batch_size` entries, up to `max_batch_entries` when more of them wait.
        """
        if self._taken is None and self.queued > self._begun:
            self._taken = self._next_batch()
        return self._taken

    def _next_batch(self) -> Batch | None:
        with self.guard:
            head = self._entries[0] if self._entries else None
            if isinstance(head, bytes):
                return self._take_from_memory()
        return None if head is None else self._take_from_journal(head)

    def _take_from_memory(self) -> Batch:
        # Made before anything is changed: memory that runs out here costs no entry.
        batch = Batch(self._head(), process=self.process, first=self.delivered + 1)
        for _ in batch.entries:
            self._entries.popleft()
        self._begun += batch.count
        return batch

    def _take_from_journal(self, count: int) -> Batch:
        """Entries that had no room in memory, read outside the lock: they stay where they are."""
        number, limit = self.delivered + 1, min(self._settings.max_batch_entries, count)
        batch = self.journal.read_batch(number, limit, self._settings.max_batch_bytes)
        if batch.first != number or not batch.entries:
            # Somebody has deleted or cut the file. They are counted as lost, and stop nothing.
            missing = min(count, batch.first - number or batch.missing or count)
            batch = Batch((), process=self.process, first=number, missing=missing)
        covered, entries, size = batch.count, len(batch), batch.size_bytes
        with self.guard:
            self._begun += covered
            self.memory_entries += entries
            self.memory_bytes += size
            self._spilled -= covered
            # Of damaged entries nobody knows the size any more.
            self._spilled_bytes = self._spilled_bytes - size if self._spilled else 0
            if left := cast("int", self._entries[0]) - covered:
                self._entries[0] = left
            else:
                self._entries.popleft()
        return batch

    def _head(self) -> tuple[bytes, ...]:
        """The entries of the next batch, which are in memory."""
        is_jammed = self.queued - self._begun > self._batch_size
        limit = self._settings.max_batch_entries if is_jammed else self._batch_size
        head = tuple(islice(self._entries, limit))
        if self._spilled:
            head = head[: next((n for n, each in enumerate(head) if isinstance(each, int)), limit)]
        in_memory = cast("tuple[bytes, ...]", head)
        if sum(map(len, in_memory)) <= self._settings.max_batch_bytes:
            return in_memory
        sizes = accumulate(map(len, in_memory))
        fitting = sum(size <= self._settings.max_batch_bytes for size in sizes)
        return in_memory[: max(1, fitting)]

    def sent(self, batch: Batch, *, awaited_since: float | None = None) -> None:
        """Go on to the next batch; this one is awaited, or settled next."""
        if awaited_since is not None:
            self.journal.mark_sent(batch, awaited_since)
        covered, entries, size = batch.count, len(batch), batch.size_bytes
        with self.guard:
            if batch is not self._taken:  # an answer that comes twice makes no room that is not there
                return
            self._taken = None
            self.delivered += covered
            self.memory_entries -= entries
            self.memory_bytes -= size

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

    # The journal -----------------------------------------------------------------------------

    def seconds_until_look_after(self) -> float:
        """Seconds until it is time to look after the journal; `inf` when there is nothing to look after."""
        journal = self.journal
        # While it has entries, somebody may delete them.
        if not (journal.is_used or journal.is_settled or journal.is_suspended or self._reported_error):
            return math.inf
        return max(0.0, self._looked_after_at + _LOOK_AFTER_SECONDS - self._monotonic())

    def look_after(self) -> None:
        """Open the journal again after a failure, and say so; empty it when all is settled."""
        self._looked_after_at = self._monotonic()
        self._report_journal()
        self.journal.look_after(self.next_number)
        if self.journal.is_settled:
            self.journal.empty()
        self._report_journal()

    def _report_journal(self) -> None:
        error = self.journal.error
        if error is not None and self._reported_error is None:
            report(logging.WARNING, "the journal takes no entries, they are in memory only: %s", error)
        if error is None and self._reported_error is not None:
            report(logging.INFO, "the journal takes entries again")
        self._reported_error = error

    def close(self) -> None:
        """Delete the journal when all its entries are settled; otherwise it stays for the next process."""
        self.journal.close()

    def abandon(self) -> None:
        """Let go of the journal in a forked child: it is the parent's."""
        self.journal.abandon()

    @property
    def is_disk_full(self) -> bool:
        """Whether the journal takes nothing for want of room, which settling entries makes."""
        return self.journal.is_full and not self.journal.has_room

    @property
    def journal_bytes(self) -> int:
        """What it has on the disk."""
        return self.journal.size_bytes

    @property
    def journal_error(self) -> str | None:
        """Why it keeps no entries at the moment."""
        return self.journal.error

    # Looked at -------------------------------------------------------------------------------

    @property
    def full_reason(self) -> str:
        """Why an entry is not taken: memory is full, and so is the disk, or it takes nothing."""
        if self.journal.is_full:
            return "journal_full"
        return "journal_failed" if self.journal.error else "buffer_full"

    @property
    def keeps_all(self) -> bool:
        """Whether the journal has all entries that have not been sent."""
        return self.keeps(self.delivered + 1, self.held)

    def seconds_until_due(self) -> float:
        """Seconds until a batch is to be delivered, 0 when one is due or taken, `inf` when none waits."""
        with self.guard:
            waiting = self.queued - self._begun
            if self._taken is not None:
                return 0.0
            if not waiting:
                return math.inf
            if waiting >= self._batch_size or self.held_bytes >= self._settings.max_batch_bytes:
                return 0.0
            due_at = self._first_at + self._settings.flush_interval_seconds
        return max(0.0, due_at - self._monotonic())

    def next_number(self) -> int:
        """The number that the next entry will have."""
        return self.queued + 1

    @property
    def settled(self) -> int:
        """The number up to which all entries are safe elsewhere."""
        return self._settled.value

    @property
    def oldest(self) -> bytes | None:
        """The first entry that has not been sent; None when memory has none.

        Without the lock: who only looks on must never be what a call waits for.
        """
        taken = self._taken
        try:
            oldest = self._entries[0] if taken is None else taken.entries[0]
        except IndexError:
            return None
        return oldest if isinstance(oldest, bytes) else None

    @property
    def held(self) -> int:
        """Entries that have not been sent."""
        return self.queued - self.delivered

    @property
    def held_bytes(self) -> int:
        """The size of the entries that have not been sent."""
        return self.memory_bytes + self._spilled_bytes
