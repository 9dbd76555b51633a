"""What a worker has done, over all its processes: in memory that forked children share with their parent.

Prefork children write the batches, and the parent is asked for the figures. Each child has a row of
numbers of its own, by its place in the pool, so that no lock is shared: a child that is killed while it
holds one would stop all the others. Who takes the place of a dead child goes on counting in its row.
"""

import mmap
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from execution_logger.histogram import Histogram, cells_needed
from execution_logger.store import WriteResult

_ENTRIES = (1, 5, 10, 25, 50, 100, 250, 500)
_WRITE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = 256
"""More children than any pool has; the memory of those that are never used is never taken."""
_CELL_BYTES = 8

_NAMES = (
    "batches_written",
    "rows_stored",
    "rows_duplicate",
    "entries_dead_lettered",
    "batches_requeued",
    "write_failures",
    "batches_in_hand",
)
_WRITTEN, _STORED, _DUPLICATE, _DEAD_LETTERED, _REQUEUED, _FAILED, _IN_HAND, _DOWN_SINCE = range(8)
_ENDS = tuple(accumulate((_DOWN_SINCE + 1, cells_needed(_ENTRIES), cells_needed(_WRITE_SECONDS))))
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
        self._batch_entries = Histogram(_ENTRIES, self._row[_ENTRIES_SLICE])
        self._write_seconds = Histogram(_WRITE_SECONDS, self._row[_SECONDS_SLICE])
        self._row[_IN_HAND] = self._row[_DOWN_SINCE] = 0

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """Within the block the process has one batch more in hand; an error puts it back into the queue."""
        self._add(_IN_HAND, 1)
        try:
            yield
        except BaseException:
            self._add(_REQUEUED, 1)
            raise
        finally:
            self._add(_IN_HAND, -1)

    def written(self, result: WriteResult, seconds: float) -> None:
        """A batch is written, in so many seconds: the database works."""
        with self._lock:
            row = self._row
            row[_WRITTEN] += 1
            row[_STORED] += result.stored
            row[_DUPLICATE] += result.duplicates
            row[_DEAD_LETTERED] += result.dead_lettered
            row[_DOWN_SINCE] = 0
            self._batch_entries.observe(result.stored + result.duplicates + result.dead_lettered)
            self._write_seconds.observe(seconds)

    def failed(self) -> None:
        """An attempt to write has failed: the database is away."""
        with self._lock:
            self._row[_FAILED] += 1
            self._row[_DOWN_SINCE] = self._row[_DOWN_SINCE] or time.time()

    def figures(self) -> WorkerFigures:
        """Those of all processes; any thread may ask, and waits for none of them."""
        rows = [self._cells[start : start + _WIDTH].tolist() for start in range(0, len(self._cells), _WIDTH)]
        sums = [sum(column) for column in zip(*rows, strict=True)]
        down_since = min((row[_DOWN_SINCE] for row in rows if row[_DOWN_SINCE]), default=None)
        return WorkerFigures(
            numbers=dict(zip(_NAMES, sums, strict=False)),
            database_down_seconds=0.0 if down_since is None else max(0.0, time.time() - down_since),
            batch_entries=Histogram(_ENTRIES, sums[_ENTRIES_SLICE]).as_dict(),
            write_seconds=Histogram(_WRITE_SECONDS, sums[_SECONDS_SLICE]).as_dict(),
        )

    def _add(self, cell: int, number: int) -> None:
        with self._lock:
            self._row[cell] += number
