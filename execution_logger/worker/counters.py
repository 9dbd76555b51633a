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

_NUMBERS = (
    "batches_written",
    "rows_stored",
    "rows_duplicate",
    "entries_dead_lettered",
    "batches_requeued",
    "write_failures",
    "batches_in_hand",
    "database_down_since",
)
_AT = {name: number for number, name in enumerate(_NUMBERS)}
_ENDS = tuple(accumulate((len(_NUMBERS), cells_needed(_ENTRIES), cells_needed(_WRITE_SECONDS))))
_ENTRIES_SLICE, _SECONDS_SLICE = (slice(*ends) for ends in pairwise(_ENDS))
_WIDTH = _ENDS[-1]


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """The sums over all processes of a worker.

    Attributes:
        numbers: by name; those of `_NUMBERS`, and `database_down_seconds` in place of the moment.
        batch_entries: `Histogram.as_dict` of the entries in a batch.
        write_seconds: the same of the time that a batch took the database.
    """

    numbers: Mapping[str, float]
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
        self._row[_AT["batches_in_hand"]] = self._row[_AT["database_down_since"]] = 0

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """Within the block the process has one batch more in hand; an error puts it back into the queue."""
        self._add(batches_in_hand=1)
        try:
            yield
        except BaseException:
            self._add(batches_requeued=1)
            raise
        finally:
            self._add(batches_in_hand=-1)

    def written(self, result: WriteResult, seconds: float) -> None:
        """A batch is written, in so many seconds: the database works."""
        self._add(
            batches_written=1,
            rows_stored=result.stored,
            rows_duplicate=result.duplicates,
            entries_dead_lettered=result.dead_lettered,
        )
        with self._lock:
            self._row[_AT["database_down_since"]] = 0
            self._batch_entries.observe(result.stored + result.duplicates + result.dead_lettered)
            self._write_seconds.observe(seconds)

    def failed(self) -> None:
        """An attempt to write has failed: the database is away."""
        self._add(write_failures=1)
        with self._lock:
            self._row[_AT["database_down_since"]] = self._row[_AT["database_down_since"]] or time.time()

    def figures(self) -> WorkerFigures:
        """Those of all processes; any thread may ask, and waits for none of them."""
        rows = [self._cells[start : start + _WIDTH].tolist() for start in range(0, len(self._cells), _WIDTH)]
        sums = [sum(column) for column in zip(*rows, strict=True)]
        numbers = dict(zip(_NUMBERS, sums, strict=False))
        del numbers["database_down_since"]
        moments = (row[_AT["database_down_since"]] for row in rows)
        down_since = min((moment for moment in moments if moment), default=None)
        numbers["database_down_seconds"] = 0.0 if down_since is None else max(0.0, time.time() - down_since)
        return WorkerFigures(
            numbers,
            Histogram(_ENTRIES, sums[_ENTRIES_SLICE]).as_dict(),
            Histogram(_WRITE_SECONDS, sums[_SECONDS_SLICE]).as_dict(),
        )

    def _add(self, **numbers: float) -> None:
        with self._lock:
            for name, number in numbers.items():
                self._row[_AT[name]] += number
