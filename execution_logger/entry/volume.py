"""Volume: which entries are recorded at all, decided before they cost anything."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from typing import Any
from uuid import UUID
from zlib import crc32

from execution_logger.entry.entry import LogCategory, LogLevel
from execution_logger.levels import LEVELS, known_level
from execution_logger.settings import Settings

_MOST_RUNS = 10_000
"""So many runs are counted at once; of more, that which began first is forgotten, and counted anew."""

_SHARES = 2**32  # of a CRC-32

_PLACES: Mapping[Any, int] = {level: place for place, level in enumerate(LEVELS)}
_WARNING = _PLACES[LogLevel.WARNING.value]
_TEXTS = (str, LogLevel, LogCategory)  # of any other type nobody knows what its hash does


class Volume:
    """Whether an entry is recorded: by its level and category, its run, and how many that run has already.

    Threads may ask at once. A level of the host's own is always recorded.

    Args:
        settings: `level`, `debug_share` and `run_max_entries` of them.
        left_out: how many entries were left out before.
    """

    def __init__(self, settings: Settings, left_out: int = 0) -> None:
        lowest = dict(word.rpartition("=")[::2] for word in settings.level)
        self._lowest = _place(lowest.pop("", LogLevel.DEBUG.value))
        self._lowest_of = {category.strip(): _place(name) for category, name in lowest.items()}
        self._debug_share = settings.debug_share
        self.settings = settings
        self.most = settings.run_max_entries
        """Debug and info entries that a run has room for; 0: any number."""
        self._runs: dict[str, Iterator[int]] = {}
        self._counter = count(left_out + 1)
        self.left_out = left_out
        """How many entries were left out in this process."""

    @property
    def is_all(self) -> bool:
        """Whether every entry is recorded."""
        return not (self._lowest or self._lowest_of or self.most) and self._debug_share >= 1

    def takes(self, task_id: Any, level: Any, category: Any) -> bool:
        """Whether an entry is wanted, by its level, its category, and the choice of runs."""
        place = _PLACES.get(level) if type(level) in _TEXTS else None
        if place is None:
            return True
        lowest = self._lowest_of.get(category, self._lowest) if type(category) in _TEXTS else self._lowest
        return place >= lowest and (place > 0 or self._debug_share >= 1 or self._is_sampled(task_id))

    def over(self, task_id: Any, level: Any) -> int:
        """Count an entry of its run; 0 when there is room for it, else how many have found none by now."""
        if not self.most or type(level) not in _TEXTS or _PLACES.get(level, _WARNING) >= _WARNING:
            return 0
        if (run := _name(task_id)) is None:
            return 0
        if (counter := self._runs.get(run)) is None:
            counter = self._runs.setdefault(run, count(1))
            if len(self._runs) > _MOST_RUNS:
                self._forget_one()
        return max(0, next(counter) - self.most)

    def end(self, task_id: Any) -> int:
        """Forget a run that has ended; how many of its entries have found no room."""
        counter = self._runs.pop(_name(task_id) or "", None)
        return 0 if counter is None else max(0, next(counter) - 1 - self.most)

    def leave_out(self) -> None:
        """Count an entry that is not recorded."""
        self.left_out = next(self._counter)

    def _is_sampled(self, task_id: Any) -> bool:
        """The same in every process, and for every entry of a run; an entry of no run is recorded."""
        run = _name(task_id)
        return run is None or crc32(run.encode(errors="surrogatepass")) < self._debug_share * _SHARES

    def _forget_one(self) -> None:
        with suppress(RuntimeError, StopIteration):  # another thread has begun a run in between
            self._runs.pop(next(iter(self._runs)), None)


def _place(level: str) -> int:
    return _PLACES[known_level(level.strip())]


def _name(task_id: Any) -> str | None:
    """The run that is meant, as its entries name it."""
    if type(task_id) is UUID:
        return str(task_id)
    return task_id if type(task_id) is str else None
