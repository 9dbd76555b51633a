"""The bounded first-in-first-out queue of encoded entries, and the batches taken from it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, islice

from uuid_utils import uuid7

from execution_logger.settings import Settings


@dataclass(frozen=True, slots=True)
class Batch:
    """What one message carries: encoded entries in their order, under an id that survives every retry."""

    entries: tuple[bytes, ...]
    id: str = field(default_factory=lambda: str(uuid7()))
    process: str = ""
    """The name of the process that recorded the entries; empty when it has none."""
    first: int = 0
    """The number of the first entry among all that the process recorded, from 1; the others follow."""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size_bytes(self) -> int:
        """The sum of the entries' sizes."""
        return sum(map(len, self.entries))

    def to_json(self) -> str:
        """One JSON array of the entries, which are joined and not encoded again."""
        return f"[{b','.join(self.entries).decode()}]"


class Buffer:
    """Holds entries until they are settled: delivered, or handed to something that keeps them.

    Bounded by entries and by bytes, what was taken and is not settled yet included. The first
    entry arms the deadline; an empty buffer has none (the habit of celery-batches: idle costs nothing).
    Any thread puts; one thread at a time takes and settles.
    """

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._max_entries = settings.buffer_max_entries
        self._max_bytes = settings.buffer_max_bytes
        self._batch_size = settings.batch_size
        self._entries: deque[bytes] = deque()
        self._taken: Batch | None = None
        self._waiting = 0
        self._waiting_bytes = 0
        self._held_bytes = 0
        self._first_at = 0.0
        self._queued = 0
        self._settled = 0
        # Reentrant: a signal handler that logs may interrupt its own thread inside put(). Held for
        # list operations only, never across I/O, encoding or user code.
        self._lock = threading.RLock()

    def put(self, encoded: bytes) -> int:
        """Append an entry and return how many wait now; 0 when the buffer is full and took nothing.

        Each of the numbers is returned once, also when calls interrupt each other.
        """
        size = len(encoded)
        with self._lock:
            if self._queued - self._settled >= self._max_entries or self._held_bytes + size > self._max_bytes:
                return 0
            if not self._waiting:
                self._first_at = self._monotonic()
            self._entries.append(encoded)
            # No call from here on: a signal handler that logs comes before the counting or after it.
            self._queued += 1
            self._held_bytes += size
            self._waiting_bytes += size
            self._waiting = waiting = self._waiting + 1
            return waiting

    def take(self) -> Batch | None:
        """The next batch, and the same one until it is settled.

        It has up to `batch_size` entries, up to `max_batch_entries` when more of them wait.
        """
        if self._taken is None and self._waiting:
            with self._lock:
                # Made before anything is changed: memory that runs out here costs no entry.
                batch = Batch(self._head())
                for _ in batch.entries:
                    self._entries.popleft()
                self._waiting -= len(batch)
                self._waiting_bytes -= batch.size_bytes
                self._taken = batch
        return self._taken

    def settle(self, batch: Batch) -> None:
        """Forget the batch that was taken: its entries are safe elsewhere, and their room is free."""
        size = batch.size_bytes
        with self._lock:
            if batch is self._taken:
                self._taken = None
                self._settled += len(batch)
                self._held_bytes -= size

    def seconds_until_due(self) -> float | None:
        """Seconds until a batch is to be delivered, 0 when one is due or taken, None when none waits."""
        with self._lock:
            waiting = self._waiting
            if self._taken is not None:
                return 0.0
            if not waiting:
                return None
            if waiting >= self._batch_size or self._waiting_bytes >= self._settings.max_batch_bytes:
                return 0.0
            due_at = self._first_at + self._settings.flush_interval_seconds
        return max(0.0, due_at - self._monotonic())

    @property
    def queued(self) -> int:
        """Entries ever put; as the order is kept, also the ticket of the newest one."""
        return self._queued

    @property
    def settled(self) -> int:
        """Entries ever settled: all tickets up to this one are done."""
        return self._settled

    @property
    def held(self) -> int:
        """Entries that are waiting or taken and not settled."""
        return self._queued - self._settled

    @property
    def held_bytes(self) -> int:
        """The size of the entries that are held."""
        return self._held_bytes

    def _head(self) -> tuple[bytes, ...]:
        """The entries of the next batch."""
        settings = self._settings
        limit = settings.max_batch_entries if self._waiting > self._batch_size else self._batch_size
        head = tuple(islice(self._entries, limit))
        sizes = accumulate(map(len, head))
        fitting = sum(size <= settings.max_batch_bytes for size in sizes)
        return head[: max(1, fitting)]
