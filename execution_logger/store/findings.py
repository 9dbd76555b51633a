"""What an audit finds: ranges of entries that are missing, came late, or came more than once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self, TypeVar

from sqlalchemy import Row

_R = TypeVar("_R", "Delay", "Repeat")


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive entries of one process.

    Attributes:
        process: the name of the pipeline that made them.
        first: the first one's number; those of a process begin at 1.
        last: the last one's number.
    """

    process: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Gap(Range):
    """Entries of which nothing is known, though later ones of the process are stored.

    Attributes:
        made_after: `created_at` of an entry before them, None when there is none.
        made_before: that of the entry after them.
        noticed_at: when the entry after them was stored.
    """

    made_after: datetime | None
    made_before: datetime | None
    noticed_at: datetime


@dataclass(frozen=True, slots=True)
class Delay(Range):
    """Entries that were stored late.

    Attributes:
        seconds: the longest time from the last call of one of the batches to its rows.
        stored_at: when the last one of the batches was stored.
    """

    seconds: float
    stored_at: datetime

    def with_(self, other: Self) -> Self:
        """Both as one."""
        return replace(
            self,
            last=max(self.last, other.last),
            seconds=max(self.seconds, other.seconds),
            stored_at=max(self.stored_at, other.stored_at),
        )


@dataclass(frozen=True, slots=True)
class Repeat(Range):
    """Entries that were delivered more than once; they are stored once all the same.

    Attributes:
        deliveries: how often that one was which came most often.
    """

    deliveries: int

    def with_(self, other: Self) -> Self:
        """Both as one."""
        last, deliveries = max(self.last, other.last), max(self.deliveries, other.deliveries)
        return replace(self, last=last, deliveries=deliveries)


def to_gap(row: Row[Any]) -> Gap:
    """The gap before a batch."""
    return Gap(
        process=row.process,
        first=row.first - row.gap,
        last=row.first - 1,
        made_after=row.newest_before,
        made_before=row.oldest_at,
        noticed_at=row.stored_at,
    )


def to_delays(rows: Iterable[Row[Any]], late_after_seconds: float) -> Iterator[Delay]:
    """What came late of the batches, without entries that another one had brought before."""
    for row in rows:
        is_late = row.delay_seconds is not None and row.delay_seconds > late_after_seconds
        if is_late and row.overlap < row.entries:
            yield Delay(row.process, row.first + row.overlap, row.last, row.delay_seconds, row.stored_at)


def to_repeats(rows: Iterable[Row[Any]]) -> Iterator[Repeat]:
    """The batches that came more than once, and what of the others came in another batch as well."""
    for row in rows:
        if row.overlap:
            yield Repeat(row.process, row.first, row.first + row.overlap - 1, row.deliveries + 1)
        if row.deliveries > 1:
            yield Repeat(row.process, row.first, row.last, row.deliveries)


def joined(ranges: Iterable[_R]) -> Iterator[_R]:
    """The ranges, which are in order; those that follow upon each other are one."""
    current: _R | None = None
    for one in ranges:
        if current is not None and current.process == one.process and one.first <= current.last + 1:
            current = current.with_(one)
        else:
            if current is not None:
                yield current
            current = one
    if current is not None:
        yield current
