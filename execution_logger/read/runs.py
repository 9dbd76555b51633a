"""The runs: which there were of late, and how they went."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Select, Table, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.entry.entry import ERRORS, RUN_STATE, LogLevel, RunState
from execution_logger.errors import StoreUnavailableError
from execution_logger.read.timeline import (
    ALL,
    PLACE,
    Only,
    is_of_run,
    newest_first,
    oldest_first,
    select_entries,
    to_entry,
)
from execution_logger.settings import Settings
from execution_logger.store.faults import attempt
from execution_logger.store.table import LogTable, kept_value, look_up_table

MOST_COUNTED = 100_000
"""How many entries of a run are counted; the numbers of a longer one are those of its newest."""

SILENT = timedelta(hours=1)
"""A run that still runs logs something meanwhile."""

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
    """

    runs: Sequence[Run]
    is_complete: bool
    looked_back_to: datetime | None
    missing_indexes: Sequence[str]


async def recent_runs(
    engine: AsyncEngine,
    settings: Settings,
    *,
    limit: int,
    only: Only = ALL,
    with_errors: bool = False,
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
        within_seconds: what was not found by then is left out.
        now: a clock in seconds.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    clock = _Deadline(engine, now)
    find_seconds = _SHARE_TO_FIND * within_seconds
    find_until, describe_until = now() + find_seconds, now() + within_seconds
    async with attempt(engine, find_seconds), engine.connect() as connection:
        table = await look_up_table(connection, settings)
    page = _Page(table, only, with_errors=with_errors)
    names: dict[Any, None] = {}
    runs: list[Run] = []
    is_complete, looked_back_to = True, None
    try:
        while len(names) < limit and not page.is_last:
            names |= dict.fromkeys(await clock.in_time(page.read, find_until))
    except TimeoutError:
        is_complete, looked_back_to = False, table.to_utc(page.before)
    try:
        for name in list(names)[:limit]:
            run = await clock.in_time(partial(_describe, table=table, name=name), describe_until)
            runs += [run] if run else []
    except TimeoutError:
        is_complete, looked_back_to = False, runs[-1].last_at if runs else None
    return RecentRuns(runs, is_complete, looked_back_to, _missing_indexes(table.table))


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

    def __init__(self, table: LogTable, only: Only, *, with_errors: bool) -> None:
        self._task_id, self._created_at = table.columns["task_id"], table.columns["created_at"]
        self._span = table.made(only.since, only.until)
        self._wanted = only.conditions(table) + ([table.is_level(*ERRORS)] if with_errors else [])
        self._size = _FIRST_PAGE
        self.before: Any = None
        """Where the pages that were read begin."""
        self.is_last = False

    async def read(self, connection: AsyncConnection) -> list[Any]:
        """The names of the runs, that with the newest entry first."""
        span = [*self._span] if self.before is None else [*self._span, self._created_at < self.before]
        edge = select(self._created_at).where(*span).order_by(self._created_at.desc())
        begins_at = (await connection.execute(edge.offset(self._size - 1).limit(1))).scalar()
        if begins_at is not None:  # entries of the same time are on the same page
            span.append(self._created_at >= begins_at)
        newest = func.max(self._created_at)
        query = select(self._task_id).where(*span, *self._wanted).group_by(self._task_id)
        names = list((await connection.execute(query.order_by(newest.desc(), self._task_id))).scalars())
        self.is_last = begins_at is None or begins_at == self.before
        self.before = begins_at
        self._size = min(self._size * _PAGE_GROWS, _LARGEST_PAGE)
        return names


async def _describe(connection: AsyncConnection, table: LogTable, name: Any) -> Run | None:
    entries = select_entries(table).where(is_of_run(table, name))
    newest = newest_first(table, entries)
    row = (await connection.execute(newest.limit(1))).first()
    if row is None:
        return None  # it was deleted meanwhile
    last = to_entry(table, row)
    created_at = oldest_first(table, entries).with_only_columns(table.columns["created_at"])
    first_at: Any = (await connection.execute(created_at.limit(1))).scalar()
    levels = await _count_levels(connection, table, newest)
    first = table.to_utc(first_at) or last.created_at
    return Run(
        task_id=last.task_id,
        first_at=first,
        last_at=last.created_at,
        duration_seconds=(last.created_at - first).total_seconds(),
        entries=min(levels.total(), MOST_COUNTED),
        errors=sum(levels[level] for level in ERRORS),
        warnings=levels[LogLevel.WARNING],
        is_cut=levels.total() > MOST_COUNTED,
        last_step=last.step,
        last_agent=last.agent_name,
        ended_in_error=last.level in ERRORS,
        state=known_now(await _state(connection, table, name, levels.total()), last.created_at),
    )


async def _state(connection: AsyncConnection, table: LogTable, name: Any, count: int) -> RunState | None:
    """What the newest entry that tells of it says: of those at the end of the run, or else the beginning."""
    told_by = kept_value(table.columns["details"], connection.dialect.name, RUN_STATE)
    # A host may have a word like that in the details of any other entry.
    state = case((table.value("operation_id").is_not(None), told_by)).label("state")
    place = [table.columns[column] for column in PLACE]
    entries = select(state, *place).where(is_of_run(table, name))
    ends = newest_first(table, entries), oldest_first(table, entries)
    for ordered in ends if count > _MOST_SEARCHED else ends[:1]:
        near = ordered.limit(_MOST_SEARCHED).subquery().c
        newest = [near[column].desc() for column in PLACE]
        query = select(near.state).where(near.state.in_(_TOLD)).order_by(*newest).limit(1)
        told = (await connection.execute(query)).scalar()
        if told is not None:
            return RunState(told)
    return None


def known_now(state: RunState | None, last_at: datetime) -> RunState | None:
    """A run of which nothing was heard for long has ended without a word: its process is gone."""
    is_silent = datetime.now(UTC) - last_at > SILENT
    return RunState.NO_END if state is RunState.RUNNING and is_silent else state


async def _count_levels(
    connection: AsyncConnection, table: LogTable, newest: Select[Any]
) -> Counter[str | None]:
    level = newest.with_only_columns(table.columns["level"]).limit(MOST_COUNTED + 1).subquery().c.level
    counted = await connection.execute(select(level, func.count()).group_by(level))
    levels: Counter[str | None] = Counter()
    for name, number in counted:  # one level may have several names
        levels[table.to_text("level", name)] += number
    return levels
