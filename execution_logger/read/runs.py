"""The runs: which there were of late, and how they went."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from sqlalchemy import Select, Table, case, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.entry.entry import ERRORS, RUN_STATE, LogLevel, RunState
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.place import Place, UnknownPlaceError
from execution_logger.read.timeline import (
    ALL,
    PLACE,
    Only,
    Timeline,
    is_of_run,
    newest_first,
    oldest_first,
)
from execution_logger.settings import Settings
from execution_logger.store.faults import attempt
from execution_logger.store.table import LogTable, kept_value, look_up_table

MOST_COUNTED = 100_000
"""How many entries of a run are counted; the numbers of a longer one are those of its newest."""

SILENT = timedelta(hours=1)
"""A run that still runs logs something meanwhile."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)  # the smallest difference of two times in a database
_DESCRIBED = ("task_id", "level", "step", "agent_name", "created_at")
_TOLD = [state.value for state in RunState if state is not RunState.NO_END]
_MOST_SEARCHED = 2000
"""Entries at either end of a run, among which those are looked for that begin and end it."""
_FIRST_PAGE = 20_000
_LARGEST_PAGE = 320_000
_PAGE_GROWS = 4
_INDEXES = ("created_at", "task_id, created_at, id")
"""By which entries are found by their time, and those of a run."""
_SHARE_TO_FIND = 0.6

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went.

    Attributes:
        task_id: its name.
        first_at: `created_at` of its first entry, in UTC.
        last_at: that of the last one.
        duration_seconds: from the one to the other.
        entries: how many there are.
        errors: how many of these are errors, critical ones included.
        warnings: how many are warnings.
        is_cut: there are more entries than were counted: see `MOST_COUNTED`.
        last_step: the step of the last entry.
        last_agent: its agent.
        ended_in_error: whether the last entry is an error.
        state: what the run says of itself, by `logger.run`; None where it says nothing. One that has begun,
            not ended, and not logged for an hour (`SILENT`) has no end recorded.
    """

    task_id: str
    first_at: datetime
    last_at: datetime
    duration_seconds: float
    entries: int
    errors: int
    warnings: int
    is_cut: bool
    last_step: str | None
    last_agent: str | None
    ended_in_error: bool
    state: RunState | None


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
            if not coming:
                found = await clock.in_time(page.read, find_until)
                coming.extend(each for each in found if each[0] not in seen)
                seen.update(name for name, _ in found)
                place = page.end if not coming else place
                continue
            run = await clock.in_time(partial(_describe, table=table, name=coming[0][0]), describe_until)
            place = _place(table, *coming.popleft())
            runs += [run] if run and (not states or run.state in states) else []
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
    return Place(table.to_utc(newest) or _EPOCH, table.to_text("task_id", name) or "")


async def describe_run(timeline: Timeline) -> Run | None:
    """How a run went, or goes; None when nothing of it is stored.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    async with timeline.reading() as (connection, table):
        return await _describe(connection, table, timeline.task_id)


async def activity_of(timeline: Timeline, shares: int) -> list[int] | None:
    """How many of the newest entries of a run there are in each of equal shares of its time.

    None when nothing of it is stored.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    async with timeline.reading() as (connection, table):
        created_at = table.columns["created_at"]
        newest = newest_first(table, select(created_at).where(is_of_run(table, timeline.task_id)))
        times = newest.limit(MOST_COUNTED).subquery().c.created_at
        first, last = (await connection.execute(select(func.min(times), func.max(times)))).one()
        began_at, ended_at = table.to_utc(first), table.to_utc(last)
        if began_at is None or ended_at is None:
            return None
        edges = [began_at + (ended_at - began_at) * number / shares for number in range(1, shares)]
        before = [func.count(case((times < table.from_utc(edge), 1))) for edge in edges]
        *counts, total = (await connection.execute(select(*before, func.count(times)))).one()
    return [after - before for before, after in pairwise([0, *counts, total])]


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

    @property
    def end(self) -> Place | None:
        """The place behind all that was read; None where nothing was."""
        moment = self._table.to_utc(self._before)
        return self._after if moment is None else Place(moment - _MICROSECOND, "")

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
        found = query.group_by(self._task_id).subquery().c
        listed = select(found.name, found.newest).where(*self._behind_after(found))
        rows = await connection.execute(listed.order_by(found.newest.desc(), found.name))
        self.is_last = begins_at is None or begins_at == self._before
        self._before = begins_at
        self._size = min(self._size * _PAGE_GROWS, _LARGEST_PAGE)
        return [(name, moment) for name, moment in rows]

    def _behind_after(self, found: Any) -> list[Any]:
        """The conditions that a run is behind the place where the search begins.

        One that has a newer entry as well was found by an earlier search.
        """
        if self._after is None:
            return []
        moment = self._table.from_utc(self._after.created_at)
        newer = select(self._task_id).where(self._task_id == found.name, self._created_at > moment)
        conditions = [~newer.where(*self._span, *self._wanted).exists()]
        if self._after.id:
            try:
                name = self._table.run_value(self._after.id)
            except ValueError:
                raise UnknownPlaceError(f"{self._after.id!r} is the name of no run of this table") from None
            conditions.append(or_(found.newest < moment, found.name > name))
        return conditions


async def _describe(connection: AsyncConnection, table: LogTable, name: Any) -> Run | None:
    """Sum a run up, in one round trip for nearly all."""
    entries = select(*(table.value(field).label(field) for field in _DESCRIBED)).where(is_of_run(table, name))
    newest = newest_first(table, entries)
    last = newest.limit(1).subquery()
    counted = newest.with_only_columns(table.columns["level"]).limit(MOST_COUNTED + 1).subquery()
    levels = select(
        func.count().label("total"),
        func.count(case((table.is_level(*ERRORS, column=counted.c.level), 1))).label("errors"),
        func.count(case((table.is_level(LogLevel.WARNING, column=counted.c.level), 1))).label("warnings"),
    ).select_from(counted)
    sums = levels.subquery()
    first_at = oldest_first(table, entries).with_only_columns(table.columns["created_at"]).limit(1)
    told = _told(connection, table, newest)
    query = select(last, sums, first_at.scalar_subquery().label("first_at"), told.scalar_subquery())
    query = query.select_from(last.join(sums, true()))
    row = (await connection.execute(query)).first()
    if row is None:
        return None  # it was deleted meanwhile
    task_id, level, step, agent, created_at, total, errors, warnings, first_at_value, state = row
    if state is None and total > _MOST_SEARCHED:
        state = (await connection.execute(_told(connection, table, oldest_first(table, entries)))).scalar()
    last_at = table.to_utc(created_at) or _EPOCH
    began_at = table.to_utc(first_at_value) or last_at
    return Run(
        task_id=table.to_text("task_id", task_id) or "",
        first_at=began_at,
        last_at=last_at,
        duration_seconds=(last_at - began_at).total_seconds(),
        entries=min(total, MOST_COUNTED),
        errors=errors,
        warnings=warnings,
        is_cut=total > MOST_COUNTED,
        last_step=table.to_text("step", step),
        last_agent=table.to_text("agent_name", agent),
        ended_in_error=table.to_text("level", level) in ERRORS,
        state=known_now(RunState(state) if state else None, last_at),
    )


def _told(connection: AsyncConnection, table: LogTable, entries: Select[Any]) -> Select[Any]:
    """What the newest of the first of these entries that tells of its run's state says."""
    told_by = kept_value(table.columns["details"], connection.dialect.name, RUN_STATE)
    # A host may have a word like that in the details of any other entry.
    state = case((table.value("operation_id").is_not(None), told_by)).label("state")
    place = [table.columns[column] for column in PLACE]
    near = entries.with_only_columns(state, *place).limit(_MOST_SEARCHED).subquery().c
    newest = [near[column].desc() for column in PLACE]
    return select(near.state).where(near.state.in_(_TOLD)).order_by(*newest).limit(1)


def known_now(state: RunState | None, last_at: datetime) -> RunState | None:
    """A run of which nothing was heard for long has ended without a word: its process is gone."""
    is_silent = datetime.now(UTC) - last_at > SILENT
    return RunState.NO_END if state is RunState.RUNNING and is_silent else state
