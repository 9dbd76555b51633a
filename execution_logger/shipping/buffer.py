"""The bounded first-in-first-out queue of encoded entries, and the batches taken from it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate, islice
from typing import TYPE_CHECKING

from execution_logger.entry.batch import Batch, Watermark
from execution_logger.settings import Settings

if TYPE_CHECKING:
    from execution_logger.journal.journal import Journal


def held_by_caller(lock: threading.RLock) -> bool:
    """Whether this thread has the lock, as a signal handler does that has interrupted it there."""
    is_owned: bool = lock._is_owned()  # type: ignore[attr-defined] # noqa: SLF001 - as threading.Condition does
    return is_owned


class Buffer:
    """Holds entries in memory until they are sent.

    Entries are numbered from 1 as they come. Bounded by entries and by bytes. The first entry arms
    the deadline; an empty buffer has none (the habit of celery-batches: idle costs nothing). Any
    thread puts; the thread that ships takes, and says what is sent and what is settled.

    Args:
        settings: the bounds.
        process: the name that the batches bear.
        monotonic: seconds; tests inject their own.
    """

    journal: "Journal | None" = None
    """Where the entries are on disk as well; see JournalledBuffer."""

    def __init__(
        self,
        settings: Settings,
        process: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.process = process
        self._settings = settings
        self._monotonic = monotonic
        self._batch_size = settings.batch_size
        self._max_entries = settings.buffer_max_entries
        self._max_bytes = settings.buffer_max_bytes
        self._entries: deque[bytes] = deque()
        self._taken: Batch | None = None
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

    def put(self, encoded: bytes) -> int:
        """Append an entry and return how many wait now; 0 when there is no room and it was not taken."""
        size = len(encoded)
        with self.guard:
            # A signal handler that logs may interrupt this between any two lines, and put its own entry
            # in between: what one line leaves is right for that entry, and read anew by the next line.
            if self._queued == self._begun:
                self._first_at = self._monotonic()
            if self._memory_entries >= self._max_entries or self._memory_bytes + size > self._max_bytes:
                return 0
            # No call until the entry is appended: a handler that raises comes before all this, or after it.
            self._memory_entries += 1
            self._memory_bytes += size
            self._queued = number = self._queued + 1
            self._entries.append(encoded)
            return number - self._begun

    def take(self) -> Batch | None:
        """The next batch, and the same one until it is sent.

        It has up to `batch_size` entries, up to `max_batch_entries` when more of them wait.
        """
        if self._taken is None and self._queued > self._begun:
            self._taken = self._next_batch()
        return self._taken

    def _next_batch(self) -> Batch | None:
        with self.guard:
            if not self._entries:
                return None
            # Made before anything is changed: memory that runs out here costs no entry.
            batch = Batch(self._head(), process=self.process, first=self._sent + 1)
            for _ in batch.entries:
                self._entries.popleft()
            self._begun += batch.count
        return batch

    def sent(self, batch: Batch, *, awaited_since: float | None = None) -> None:  # noqa: ARG002
        """Go on to the next batch; this one is awaited, or settled next."""
        with self.guard:
            if batch is not self._taken:  # an answer that comes twice makes no room that is not there
                return
            self._taken = None
            self._sent += batch.count
            self._memory_entries -= len(batch)
            self._memory_bytes -= batch.size_bytes

    def settle(self, first: int, count: int) -> None:
        """Forget entries that are safe elsewhere."""
        self._settled.add(first, count)

    def keeps(self, first: int, count: int) -> bool:  # noqa: ARG002
        """Whether the journal has these entries, which memory need not keep then."""
        return False

    def read_again(self, first: int, count: int) -> tuple[bytes, ...]:  # noqa: ARG002
        """The entries that the journal has."""
        return ()

    @property
    def full_reason(self) -> str:
        """Why an entry is not taken."""
        return "buffer_full"

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
        return self._memory_bytes

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
