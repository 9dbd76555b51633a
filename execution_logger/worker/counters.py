"""What a worker has done, over all its processes: in memory that forked children share with their parent.

Prefork children write the batches, and the parent is asked for the figures. Each child has a row of
numbers of its own, by its place in the pool, so that no lock is shared: a child that is killed while it
holds one would stop all the others. Who takes the place of a dead child goes on counting in its row.
"""

import mmap
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import Any

from execution_logger.entry.batch import BATCH_ENTRIES, Histogram, cells_needed
from execution_logger.store import WriteResult

_WRITE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = 256
"""More children than any pool has; the memory of those that are never used is never taken."""
_CELL_BYTES = 8


class _Cell(IntEnum):
    """The numbers at the beginning of a row: counts, and two moments of the monotonic clock."""

    BATCHES_WRITTEN = 0
    ROWS_STORED = 1
    ROWS_DUPLICATE = 2
    ENTRIES_DEAD_LETTERED = 3
    BATCHES_REQUEUED = 4
    WRITE_FAILURES = 5
    BATCHES_IN_HAND = 6
    WRITTEN_AT = 7
    DOWN_SINCE = 8


_SHOWN = tuple(_Cell)[: _Cell.WRITTEN_AT]
_ENDS = tuple(accumulate((len(_Cell), cells_needed(BATCH_ENTRIES), cells_needed(_WRITE_SECONDS))))
_ENTRIES_SLICE, _SECONDS_SLICE = (slice(*ends) for ends in pairwise(_ENDS))
_WIDTH = _ENDS[-1]


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """The sums over all processes of a worker.

    Attributes:
        numbers: by name; all but `batches_in_hand` only grow.
        database_down_seconds: since when attempts to write fail; 0 when they work.
        batch_entries: `Histogram.as_dict` of the entries in a batch.
        write_seconds: the same of the time that a batch took the database.
    """

    numbers: Mapping[str, float]
    database_down_seconds: float
    batch_entries: dict[str, Any]
    write_seconds: dict[str, Any]


class WorkerCounters:
    """Counts for one process at a time, `enter`ed in children, and adds up for all of them."""

    def __init__(self) -> None:
        # Anonymous and shared: what is forked off later sees the same pages.
        self._cells = memoryview(mmap.mmap(-1, _ROWS * _WIDTH * _CELL_BYTES)).cast("d")
        self.enter(0)

    def enter(self, place: int) -> None:
        """Count for this place of the pool from now on; who had it before has nothing in hand any more."""
        self._lock = threading.Lock()  # the parent's may be locked for ever in a fork
        start = place % _ROWS * _WIDTH
        self._row = self._cells[start : start + _WIDTH]
        self._batch_entries = Histogram(BATCH_ENTRIES, self._row[_ENTRIES_SLICE])
        self._write_seconds = Histogram(_WRITE_SECONDS, self._row[_SECONDS_SLICE])
        self._row[_Cell.BATCHES_IN_HAND] = 0

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """Within the block the process has one batch more in hand; an error puts it back into the queue."""
        self._add(_Cell.BATCHES_IN_HAND, 1)
        try:
            yield
        except BaseException:
            self._add(_Cell.BATCHES_REQUEUED, 1)
            raise
        finally:
            self._add(_Cell.BATCHES_IN_HAND, -1)

    def written(self, result: WriteResult, seconds: float) -> None:
        """A batch is written, in so many seconds: the database works."""
        with self._lock:
            row = self._row
            row[_Cell.BATCHES_WRITTEN] += 1
            row[_Cell.ROWS_STORED] += result.stored
            row[_Cell.ROWS_DUPLICATE] += result.duplicates
            row[_Cell.ENTRIES_DEAD_LETTERED] += result.dead_lettered
            row[_Cell.WRITTEN_AT] = time.monotonic()
            self._batch_entries.observe(result.stored + result.duplicates + result.dead_lettered)
            self._write_seconds.observe(seconds)

    def failed(self, *, is_down: bool = True) -> None:
        """An attempt to write has failed: the database is away, or else holds a single batch up."""
        with self._lock:
            self._row[_Cell.WRITE_FAILURES] += 1
            # Whoever has written a batch since then has ended that outage, for all.
            if is_down and self._row[_Cell.DOWN_SINCE] <= max(self._column(_Cell.WRITTEN_AT)):
                self._row[_Cell.DOWN_SINCE] = time.monotonic()

    def figures(self) -> WorkerFigures:
        """Those of all processes; any thread may ask, and waits for none of them."""
        rows = [self._cells[start : start + _WIDTH].tolist() for start in range(0, len(self._cells), _WIDTH)]
        sums = [sum(column) for column in zip(*rows, strict=True)]
        up_at = max(self._column(_Cell.WRITTEN_AT))
        down_since = min(
            (moment for moment in self._column(_Cell.DOWN_SINCE) if moment > up_at), default=None
        )
        return WorkerFigures(
            numbers={cell.name.lower(): sums[cell] for cell in _SHOWN},
            database_down_seconds=0.0 if down_since is None else time.monotonic() - down_since,
            batch_entries=Histogram(BATCH_ENTRIES, sums[_ENTRIES_SLICE]).as_dict(),
            write_seconds=Histogram(_WRITE_SECONDS, sums[_SECONDS_SLICE]).as_dict(),
        )

    def _column(self, cell: _Cell) -> Sequence[float]:
        """The numbers of all processes, whose monotonic clock is the same."""
        return self._cells[cell::_WIDTH].tolist()

    def _add(self, cell: _Cell, number: int) -> None:
        with self._lock:
            self._row[cell] += number
