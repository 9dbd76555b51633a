"""The runs: which there were of late."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import Table, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.entry.entry import ERRORS, RunState
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.place import EPOCH, MICROSECOND, Place, UnknownPlaceError
from execution_logger.read.summary import Counts, Run, describe_runs
from execution_logger.read.timeline import ALL, Only
from execution_logger.settings import Settings
from execution_logger.store.faults import attempt
from execution_logger.store.table import LogTable, look_up_table

_DESCRIBED_AT_ONCE = 50
_FIRST_PAGE = 20_000
_LARGEST_PAGE = 320_000
_PAGE_GROWS = 2
_INDEXES = ("created_at", "task_id, created_at, id")
"""By which entries are found by their time, and those of a run."""
_SHARE_TO_FIND = 0.6

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RecentRuns:
    """The newest runs.

    Attributes:
        runs: the newest first.
        is_complete: there was enough time to find all that was asked for.
        looked_back_to: where the search has ended, if it was not complete.
        missing_indexes: what the search would need to be quick, as columns.
        next: where a search for older ones begins; None when there are none.
    """

    runs: Sequence[Run]
    is_complete: bool
    looked_back_to: datetime | None
    missing_indexes: Sequence[str]
    next: Place | None = None


async def recent_runs(
    engine: AsyncEngine,
    settings: Settings,
    *,
    limit: int,
    only: Only = ALL,
    with_errors: bool = False,
    states: Collection[RunState | None] = (),
    after: Place | None = None,
    within_seconds: float = 10.0,
    now: Callable[[], float] = time.monotonic,
) -> RecentRuns:
    """Find the newest runs, from the newest entry backwards; the size of the table does not matter.

    Args:
        engine: to the database.
        settings: name the table.
        limit: how many runs.
        only: only runs with an entry that this takes, that with the latest such entry first.
        with_errors: only those with errors; with `only`, with one that it takes.
        states: only those in one of these states; None stands for runs that tell none.
        after: only those behind this place, which is the `next` of an earlier search.
        within_seconds: what was not found by then is left out.
        now: a clock in seconds.

    Raises:
        StoreUnavailableError: the database cannot be used now.
        UnknownPlaceError: `after` is no place in this table.
    """
    clock = _Deadline(engine, now)
    find_seconds = _SHARE_TO_FIND * within_seconds
    find_until, describe_until = now() + find_seconds, now() + within_seconds
    async with attempt(engine, find_seconds), engine.connect() as connection:
        table = await look_up_table(connection, settings)
    page = _Page(table, only, after, with_errors=with_errors)
    coming: deque[tuple[Any, Any]] = deque()
    seen: set[Any] = set()
    runs: list[Run] = []
    place, is_complete = after, True
    try:
        while len(runs) < limit and (coming or not page.is_last):
            if len(coming) < min(limit - len(runs), _DESCRIBED_AT_ONCE) and not page.is_last:
                found = await clock.in_time(page.read, find_until)
                coming.extend(each for each in found if each[0] not in seen)
                seen.update(name for name, _ in found)
                place = page.end if not coming else place
                continue
            some = [name for name, _ in islice(coming, min(limit, _DESCRIBED_AT_ONCE))]
            describe = partial(describe_runs, table=table, names=some, counted=page.counted)
            described = await clock.in_time(describe, describe_until)
            for name in some[: len(some) if states else limit - len(runs)]:
                run = described.get(name)
                place = _place(table, *coming.popleft())
                runs += [run] if run and (not states or run.state in states) else []
                if len(runs) == limit:
                    break
    except TimeoutError:
        is_complete = False
    is_end = page.is_last and not coming
    return RecentRuns(
        runs,
        is_complete,
        None if is_complete or place is None else place.created_at,
        _missing_indexes(table.table),
        None if is_end else place,
    )


def _place(table: LogTable, name: Any, newest: Any) -> Place:
    """That of a run in the list."""
    return Place(table.to_utc(newest) or EPOCH, table.to_text("task_id", name) or "")


class _Deadline:
    """Gives the database so much time as is left."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], float]) -> None:
        self._engine = engine
        self._now = now

    async def in_time(self, read: Callable[[AsyncConnection], Awaitable[_T]], until: float) -> _T:
        """Read something.

        Raises:
            TimeoutError: it was not there by then.
            StoreUnavailableError: the database cannot be used now.
        """
        left_seconds = until - self._now()
        if left_seconds <= 0:
            raise TimeoutError
        try:
            async with attempt(self._engine, left_seconds), self._engine.connect() as connection:
                return await read(connection)
        except StoreUnavailableError:
            if self._now() < until:
                raise
            raise TimeoutError from None


def _missing_indexes(table: Table) -> list[str]:
    found = [table.primary_key.columns, *(index.columns for index in table.indexes)]
    begins = {columns[0].name for columns in found if columns}
    return [names for names in _INDEXES if names.partition(",")[0] not in begins]


class _Page:
    """The entries of a span of time, from the newest backwards; `read` goes on to the next one."""

    def __init__(self, table: LogTable, only: Only, after: Place | None, *, with_errors: bool) -> None:
        self._table = table
        self._task_id, self._created_at = table.columns["task_id"], table.columns["created_at"]
        self._span = table.made(only.since, only.until)
        self._wanted = only.conditions(table) + ([table.is_level(*ERRORS)] if with_errors else [])
        self._size = _FIRST_PAGE
        self._after = after
        self._before: Any = None
        """Where the pages that were read begin."""
        self.is_last = False
        self.counted: dict[Any, Counts] = {}
        """What was read of each run, from its newest entry on; nothing where not all entries are wanted."""

    @property
    def end(self) -> Place | None:
        """The place behind all that was read; None where nothing was."""
        moment = self._table.to_utc(self._before)
        return self._after if moment is None else Place(moment - MICROSECOND, "")

    async def read(self, connection: AsyncConnection) -> list[tuple[Any, Any]]:
        """The names of the runs and the times of their newest entries, the newest first."""
        span = [*self._span]
        if self._before is not None:
            span.append(self._created_at < self._before)
        elif self._after is not None:
            span.append(self._created_at <= self._table.from_utc(self._after.created_at))
        edge = select(self._created_at).where(*span).order_by(self._created_at.desc())
        begins_at = (await connection.execute(edge.offset(self._size - 1).limit(1))).scalar()
        if begins_at is not None:  # entries of the same time are on the same page
            span.append(self._created_at >= begins_at)
        newest = func.max(self._created_at).label("newest")
        query = select(self._task_id.label("name"), newest).where(*span, *self._wanted)
        # Counted in passing, a run need not be read once more.
        is_counted = not self._wanted and not self._span
        if is_counted:
            query = query.add_columns(*Counts.columns(self._table.columns)).group_by(
                self._table.columns["level"]
            )
        found = query.group_by(self._task_id).subquery().c
        newest = func.max(found.newest).over(partition_by=found.name).label("newest_of_all")
        listed = select(*found, newest).where(*self._behind_after(found)).order_by(newest.desc(), found.name)
        rows = await connection.execute(listed)
        runs = [(name, list(some)) for name, some in groupby(rows, attrgetter("name"))]
        self.is_last = begins_at is None or begins_at == self._before
        self._before = begins_at
        self._size = min(self._size * _PAGE_GROWS, _LARGEST_PAGE)
        for name, some in runs if is_counted else ():
            older = Counts.of(self._table, some)
            self.counted[name] = self.counted[name] + older if name in self.counted else older
        return [(name, some[0].newest_of_all) for name, some in runs]

    def _behind_after(self, found: Any) -> list[Any]:
        """The conditions that a run is behind the place where the search begins.

        One that has an entry before it as well was found by an earlier search.
        """
        if self._after is None:
            return []
        moment = self._table.from_utc(self._after.created_at)
        is_before = self._created_at > moment
        if self._after.id:
            try:
                name = self._table.run_value(self._after.id)
            except ValueError:
                raise UnknownPlaceError(f"{self._after.id!r} is the name of no run of this table") from None
            is_before = or_(is_before, and_(self._created_at == moment, self._task_id <= name))
        entries = select(self._task_id).where(self._task_id == found.name, *self._span, *self._wanted)
        return [~entries.where(is_before).exists()]
