"""The summary of a run: how it went, in a few numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Self

from sqlalchemy import ColumnElement, Select, and_, case, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.entry.entry import ERRORS, RUN_STATE, LogLevel, RunState
from execution_logger.read.place import EPOCH
from execution_logger.read.timeline import PLACE, Timeline, is_of_run, newest_first, oldest_first
from execution_logger.store.table import LogTable, kept_value

MOST_COUNTED = 100_000
"""How many entries of a run are counted; the numbers of a longer one are those of its newest."""

MOST_COUNTED_TOGETHER = 400_000
"""How many entries of long runs are counted where several are described at once: an equal number of each."""

SILENT = timedelta(hours=1)
"""A run that still runs logs something meanwhile."""

_DESCRIBED = ("task_id", "level", "step", "agent_name", "created_at")
_TOLD = [state.value for state in RunState if state is not RunState.NO_END]
_MOST_SEARCHED = 2000
"""Entries at either end of a long run, among which those are looked for that begin and end it."""
_MOST_UNNAMED = 50
"""Entries at the end of a run, among which the last one is looked for that has a step or an agent."""
_MANY = 5000
"""A run with more entries is summed up by itself: its numbers are bounded."""


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
        is_cut: there are more entries than were counted: see `MOST_COUNTED` and `MOST_COUNTED_TOGETHER`.
        last_step: the step of the last entry that has a step or an agent, of the newest 50.
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


async def describe_run(timeline: Timeline) -> Run | None:
    """How a run went, or goes; None when nothing of it is stored.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    try:
        found = await describe_named(timeline, [timeline.task_id or ""])
    except ValueError:
        return None  # a name that no run of this table can have
    return found[0] if found else None


async def describe_named(timeline: Timeline, names: Sequence[str]) -> list[Run]:
    """How some runs went, or go, in this order; what is not stored is left out.

    Raises:
        StoreUnavailableError: the database cannot be used now.
    """
    async with timeline.reading() as (connection, table):
        return list((await describe_runs(connection, table, list(map(table.run_value, names)))).values())


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


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries of a run were read in passing; `first_at`, as it is stored, is that of their first."""

    first_at: Any
    entries: int
    errors: int
    warnings: int

    @staticmethod
    def columns(of: Any) -> list[ColumnElement[Any]]:
        """What they are made of, from columns; a level has a row of its own: to look at each takes longer."""
        first_at = func.min(of["created_at"]).label("first_at")
        return [of["level"].label("level"), first_at, func.count().label("total")]

    @classmethod
    def of(cls, table: LogTable, rows: Sequence[Any]) -> Self:
        """From the rows of one run."""
        levels: Counter[str | None] = Counter()
        for row in rows:  # one level may have several names
            levels[table.to_text("level", row.level)] += row.total
        errors = sum(levels[each] for each in ERRORS)
        return cls(min(row.first_at for row in rows), levels.total(), errors, levels[LogLevel.WARNING])

    def __add__(self, older: "Counts") -> "Counts":
        """With those of the entries before them."""
        entries, errors = self.entries + older.entries, self.errors + older.errors
        return Counts(older.first_at, entries, errors, self.warnings + older.warnings)


async def describe_runs(
    connection: AsyncConnection,
    table: LogTable,
    names: Sequence[Any],
    counted: Mapping[Any, Counts] = MappingProxyType({}),
) -> dict[Any, Run]:
    """How some runs went, by their names as the table has them; what is not stored is left out.

    The entries of runs that were under way at the same time lie side by side in the table. So all are read in
    one go, which takes a third of the time that one after the other would.

    Args:
        connection: to the database.
        table: has their entries.
        names: of the runs.
        counted: what is known of them from their newest entries, all from some time on. Those of which these
            are all entries are not counted again.
    """
    ends = await _read_ends(connection, table, names)
    counts = {name: counted[name] for name, end in ends.items() if _is_whole(counted.get(name), end)}
    short = [name for name, end in ends.items() if name in counts or not end.is_long]
    counts |= await _count(connection, table, [name for name in short if name not in counts])
    # Most runs that have ended say so at their very end.
    states = {name: end.last.state for name, end in ends.items() if end.last.state in _TOLD}
    states |= await _read_states(connection, table, [name for name in short if name not in states])
    most = min(MOST_COUNTED, MOST_COUNTED_TOGETHER // max(len(ends) - len(short), 1))
    found: dict[Any, Run] = {}
    for name, end in ends.items():
        if name in counts:
            found[name] = _summed_up(table, end, counts[name], states.get(name))
        else:
            run = await _describe(connection, table, name, most)
            found |= {name: run} if run else {}
    return {name: found[name] for name in names if name in found}


def _is_whole(counts: Counts | None, ends: "_Ends") -> bool:
    """Whether these are the counts of all entries of the run."""
    return counts is not None and counts.first_at == ends.first_at


@dataclass(frozen=True, slots=True)
class _Ends:
    """The first and the last entry of a run, and the last one with a step or an agent."""

    is_long: bool
    first_at: Any
    last: Any
    named: Any


async def _read_ends(connection: AsyncConnection, table: LogTable, names: Sequence[Any]) -> dict[Any, _Ends]:
    listed, columns = table.listed("task_id", names).alias("wanted"), table.columns
    wanted = listed.c
    entries = select(columns["id"]).where(columns["task_id"].between(wanted.value, wanted.value))
    entries = entries.correlate(listed)  # however deep it stands
    first, last = oldest_first(table, entries), newest_first(table, entries)
    named = _named(table, last).subquery().c
    query = select(
        wanted.value,
        first.with_only_columns(columns["created_at"]).limit(1).scalar_subquery(),
        last.limit(1).scalar_subquery(),
        select(named.id).scalar_subquery(),
        first.offset(_MANY).limit(1).scalar_subquery(),
    )
    rows = (await connection.execute(query)).all()
    ids = [id_ for row in rows for id_ in (row[2], row[3]) if id_ is not None]
    fields: list[Any] = [columns["id"], *(table.value(field).label(field) for field in _DESCRIBED)]
    fields.append(_state_of(table).label("state"))
    found = {row[0]: row for row in await connection.execute(select(*fields).where(columns["id"].in_(ids)))}
    return {
        name: _Ends(beyond is not None, first_at, found[last_id], found.get(named_id))
        for name, first_at, last_id, named_id, beyond in rows
        if last_id in found
    }


def _named(table: LogTable, newest: Select[Any]) -> Select[Any]:
    """Of the newest entries of a run the last one that has a step or an agent."""
    names = [table.value(name).label(name) for name in ("step", "agent_name")]
    place = [table.columns[name] for name in PLACE]
    near = newest.with_only_columns(*place, *names).limit(_MOST_UNNAMED).subquery().c
    has_name = near.step.is_not(None) | near.agent_name.is_not(None)
    ordered = [near[name].desc() for name in PLACE]
    return select(near.id, near.step, near.agent_name).where(has_name).order_by(*ordered).limit(1)


async def _count(connection: AsyncConnection, table: LogTable, names: Sequence[Any]) -> dict[Any, Counts]:
    if not names:
        return {}
    task_id, level = table.columns["task_id"], table.columns["level"]
    query = select(task_id.label("name"), *Counts.columns(table.columns)).where(task_id.in_(names))
    rows = await connection.execute(query.group_by(task_id, level).order_by(task_id))
    return {name: Counts.of(table, list(some)) for name, some in groupby(rows, attrgetter("name"))}


async def _read_states(connection: AsyncConnection, table: LogTable, names: Sequence[Any]) -> dict[Any, str]:
    """What the newest entry of each says that tells of its run's state."""
    if not names:
        return {}
    task_id, state = table.columns["task_id"], _state_of(table)
    is_mark = and_(task_id.in_(names), table.value("operation_id").is_not(None), state.in_(_TOLD))
    marks = oldest_first(table, select(task_id.label("name"), state.label("state")).where(is_mark))
    return {row.name: row.state for row in await connection.execute(marks)}


def _summed_up(table: LogTable, ends: _Ends, counts: Counts, state: str | None) -> Run:
    step, agent = (None, None) if ends.named is None else (ends.named.step, ends.named.agent_name)
    return _run(table, ends.last, ends.first_at, step, agent, counts, counts.entries, state)


async def _describe(connection: AsyncConnection, table: LogTable, name: Any, most: int) -> Run | None:
    """Sum a long run up; so many of its entries are counted at most."""
    entries = select(*(table.value(field).label(field) for field in _DESCRIBED)).where(is_of_run(table, name))
    newest = newest_first(table, entries)
    last = newest.limit(1).subquery()
    first_at = oldest_first(table, entries).with_only_columns(table.columns["created_at"]).limit(1)
    named = _named(table, newest).subquery()
    told = _told(table, newest)
    query = select(
        last.c.task_id, last.c.level, named.c.step, named.c.agent_name, last.c.created_at,
        first_at.scalar_subquery().label("first_at"), told.scalar_subquery().label("state"),
    )  # fmt: skip
    row = (await connection.execute(query.select_from(last.outerjoin(named, true())))).first()
    counts = await _count_newest(connection, table, name, most + 1)
    if row is None or counts is None:
        return None  # it was deleted meanwhile
    state = row.state
    if state is None and counts.entries > _MOST_SEARCHED:
        state = (await connection.execute(_told(table, oldest_first(table, entries)))).scalar()
    return _run(table, row, row.first_at, row.step, row.agent_name, counts, most, state)


async def _count_newest(connection: AsyncConnection, table: LogTable, name: Any, most: int) -> Counts | None:
    columns: list[Any] = [table.columns[column] for column in ("level", "created_at")]
    entries: Select[Any] = select(*columns).where(is_of_run(table, name))
    newest = newest_first(table, entries).limit(most).subquery()
    query = select(*Counts.columns(newest.c)).group_by(newest.c.level)
    rows = (await connection.execute(query)).all()
    return Counts.of(table, rows) if rows else None


def _run(
    table: LogTable,
    last: Any,
    first: Any,
    step: Any,
    agent: Any,
    counts: Counts,
    most: int,
    state: str | None,
) -> Run:
    """The summary, of values as the table has them; more than `most` entries were not to be counted."""
    last_at = table.to_utc(last.created_at) or EPOCH
    first_at = table.to_utc(first) or last_at
    return Run(
        task_id=table.to_text("task_id", last.task_id) or "",
        first_at=first_at,
        last_at=last_at,
        duration_seconds=(last_at - first_at).total_seconds(),
        entries=min(counts.entries, most),
        errors=counts.errors,
        warnings=counts.warnings,
        is_cut=counts.entries > most,
        last_step=table.to_text("step", step),
        last_agent=table.to_text("agent_name", agent),
        ended_in_error=table.to_text("level", last.level) in ERRORS,
        state=known_now(RunState(state) if state else None, last_at),
    )


def _told(table: LogTable, entries: Select[Any]) -> Select[Any]:
    """What the newest of the first of these entries that tells of its run's state says."""
    state = _state_of(table).label("state")
    place = [table.columns[column] for column in PLACE]
    near = entries.with_only_columns(state, *place).limit(_MOST_SEARCHED).subquery().c
    newest = [near[column].desc() for column in PLACE]
    return select(near.state).where(near.state.in_(_TOLD)).order_by(*newest).limit(1)


def _state_of(table: LogTable) -> ColumnElement[Any]:
    """What an entry says of its run's state."""
    told = kept_value(table.columns["details"], table.dialect, RUN_STATE)
    # A host may have a word like that in the details of any other entry.
    return case((table.value("operation_id").is_not(None), told))


def known_now(state: RunState | None, last_at: datetime) -> RunState | None:
    """A run of which nothing was heard for long has ended without a word: its process is gone."""
    is_silent = datetime.now(UTC) - last_at > SILENT
    return RunState.NO_END if state is RunState.RUNNING and is_silent else state
